"""The line that sends a request again, and the file that it sends."""

import shlex
from pathlib import Path

from contracts.errors import OutputUnwritable
from contracts.uris import REFERENCE, redact
from scripts.review.client import Part, Request, Target


def curl_line(request: Request, target: Target, folder: Path) -> str:
    """A line for a shell; what it uploads is written into the folder.

    No secret is in it. Raises OutputUnwritable.
    """
    words = ["curl -sS -i"]
    if request.part is None and request.method != "GET":
        words.append(f"-X {request.method}")
    words += [f"-H {_shown_header(header)}" for header in target.headers]
    if request.part:
        words += _upload(request.part, _saved(request.part, folder), request, target)
    return " ".join([*words, shlex.quote(redact(target.url_of(request)))])


def _upload(part: Part, file: Path, request: Request, target: Target) -> list[str]:
    if target.raw or request.bare:
        kind = shlex.quote(f"Content-Type: {part.content_type}")
        return [f"-H {kind}", f"--data-binary {shlex.quote(f'@{file}')}"]
    field = part.field or target.field
    return [f"-F {shlex.quote(f'{field}=@{file};type={part.content_type}')}"]


def _saved(part: Part, folder: Path) -> Path:
    file = folder / part.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(part.data)
    except OSError as error:
        raise OutputUnwritable(f"{file}: {error.strerror}") from error
    return file


def _shown_header(header: str) -> str:
    """With references as a shell reads them; a value that was written out is left to the reader."""
    name, _, value = header.partition(":")
    if not REFERENCE.search(value):
        return shlex.quote(f"{name.strip()}: …")
    shell = REFERENCE.sub(lambda one: f"$(cat {one['file']})" if one["file"] else one[0], value)
    return f'"{name.strip()}: {shell.strip()}"'
