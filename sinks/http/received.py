"""The pictures of a request: files of a form, or its body alone."""

import dataclasses
import re

from fastapi import Request

from contracts.errors import ImageTooLarge, MissingFile
from contracts.serve import ServeSettings
from sinks.http.form import FileForm

LONGEST_NAME = 128
_PICTURE = re.compile(r"image/[\w.+-]+|application/octet-stream")
_FORM = "multipart/form-data"
_EXPECTED = (
    f"expected a form ({_FORM}) with a part `file`, or the picture as the body, with "
    "image/jpeg, image/png, image/webp or application/octet-stream as its Content-Type"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """A picture as it was sent, and what it is called."""

    name: str
    data: bytes


async def read_picture(request: Request, settings: ServeSettings) -> Sent:
    """The request's one picture. Raises MissingFile, BadParameter, ImageTooLarge."""
    kind = _kind_of(request)
    if kind == _FORM:
        [sent] = await _read_form(request, settings, "file", most_files=1)
        return sent
    if not _PICTURE.fullmatch(kind):
        raise MissingFile(f"{_EXPECTED}; got {kind or 'no Content-Type'}")
    data = await request.body()
    if len(data) > (most := _most_bytes(settings)):
        raise ImageTooLarge(f"the picture has {len(data)} bytes, at most {most}")
    return Sent(_clean(""), data)


async def read_pictures(request: Request, settings: ServeSettings) -> list[Sent]:
    """The request's pictures in their order. Raises MissingFile, BadParameter, ImageTooLarge."""
    kind = _kind_of(request)
    if kind != _FORM:
        got = kind or "no Content-Type"
        raise MissingFile(
            f"expected a form ({_FORM}) with parts `files`, or URLs as application/json; got {got}"
        )
    return await _read_form(request, settings, "files", settings.max_files)


async def _read_form(
    request: Request, settings: ServeSettings, part: str, most_files: int
) -> list[Sent]:
    form = FileForm(request.headers["content-type"], part, most_files, _most_bytes(settings))
    async for piece in request.stream():
        form.write(piece)
    return [Sent(_clean(file.name), bytes(file.data)) for file in form.finish()]


def _kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _most_bytes(settings: ServeSettings) -> int:
    return int(settings.max_upload_megabytes * 1e6)


def _clean(name: str) -> str:
    """The last part of a path, without what can't be seen: it is for people, and opens no file."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(char for char in last if char.isprintable())[:LONGEST_NAME] or "picture"
