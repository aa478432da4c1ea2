"""Secrets in a URI that stand elsewhere: `${NAME}` in the environment, `${file:PATH}` in a file.

    rtsp://${CAM_USER}:${CAM_PASSWORD}@10.0.0.5/door
    srt://host:9000?passphrase=${file:/run/secrets/srt}
    ${CAM1}

A reference stands for one part: a user, a password, the value of a parameter; or for the whole URI.
`$${` is a `${` that is meant as it is.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from contracts.errors import BadSetting
from contracts.uris import REFERENCE, remember_secret

_DOLLAR = re.compile(r"\$\$\{|\$\{[^{}]*\}?")
_URL = re.compile(r"[^/?#]*://([^/?#]*@)?[^?#]*")


def resolve_secrets(uri: str, environment: Mapping[str, str] = os.environ) -> str:
    """The URI as it can be opened. Call it where that is done, and keep the URI with references.

    What is put into a user, a password or behind `?` is percent-encoded there, so that it may have
    any character; elsewhere it goes in as it is. `redact` hides it from now on. Raises BadSetting
    where a variable or a file is not there.
    """

    def resolved(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        value = _value_of(match[0], environment)
        remember_secret(value, match[0])
        if url and (url.start(1) <= match.start() < url.end(1) or match.start() > url.end()):
            return quote(value, safe="", errors="surrogateescape")
        return value

    # The path in a reference may have any of the characters that part a URI.
    url = _URL.match(_DOLLAR.sub(lambda match: "x" * len(match[0]), uri))
    return _DOLLAR.sub(resolved, uri)


def _value_of(reference: str, environment: Mapping[str, str]) -> str:
    parts = REFERENCE.fullmatch(reference)
    if parts is None:
        raise BadSetting(
            "a URI has a `${` that is neither ${NAME} nor ${file:PATH}; "
            "write $${ where the two characters are meant"
        )
    if parts["file"]:
        return _read(Path(parts["file"]))
    if parts["name"] not in environment:
        raise BadSetting(f"{reference}: there is no such variable in the environment")
    return environment[parts["name"]]


def _read(file: Path) -> str:
    """What is in the file, without the newline that editors put at its end."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadSetting(f"${{file:{file}}}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSetting(f"${{file:{file}}}: is not text in UTF-8") from error
    return text.removesuffix("\n")
