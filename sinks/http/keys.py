"""The keys that may be used: a file with a line each, `SHA256 SCOPES NAME`, and no key itself."""

import dataclasses
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from contracts.errors import BadSetting

Scope = Literal["detect", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_LINE = re.compile(r"([0-9a-f]{64})\s+([a-z,]+)\s+(\S.*)")


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """Whose a key is, and what it may be used for."""

    sha256: str
    scopes: frozenset[str]
    name: str


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """A new key, to be shown once, and its line for the file. Raises BadSetting."""
    key = f"fw_{secrets.token_urlsafe(32)}"
    line = f"{_digest(key)} {','.join(scopes)} {name}"
    _parse(line, "api-key")
    return key, line


def read_keys(file: Path) -> tuple[Key, ...]:
    """The file's keys. Raises BadSetting where one is not understood, or none is there."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"api_keys: {file} can't be read: {error}") from error
    keys = tuple(
        _parse(line, f"api_keys: {file} line {number}")
        for number, line in enumerate(map(str.strip, lines), 1)
        if line and not line.startswith("#")
    )
    if not keys:
        raise BadSetting(f"api_keys: there is no key in {file}; `framewire api-key NAME` makes one")
    if len({key.name for key in keys}) != len(keys):
        raise BadSetting(f"api_keys: two keys in {file} have the same name")
    return keys


def find_key(keys: Iterable[Key], presented: str) -> Key | None:
    """The key, if it is one of these. How long it takes says nothing of how close it was."""
    digest = _digest(presented)
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


def _digest(key: str) -> str:
    # No salt and no slow hash: a key has 256 random bits, and is not to be guessed.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _parse(line: str, where: str) -> Key:
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadSetting(
            f"{where}: expected `SHA256 SCOPES NAME`, as `framewire api-key NAME` prints it"
        )
    scopes = match[2].split(",")
    if wrong := sorted(set(scopes) - set(SCOPES)):
        raise BadSetting(
            f"{where}: no such scope: {', '.join(wrong)}; there is {', '.join(SCOPES)}"
        )
    return Key(match[1], frozenset(scopes), match[3])
