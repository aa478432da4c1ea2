"""The pictures of a request: parts of a form, or its body alone."""

import dataclasses
import re

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from contracts.errors import BadParameter, ImageTooLarge, MissingFile
from contracts.serve import ServeSettings

LONGEST_NAME = 128
_PICTURE = re.compile(r"image/[\w.+-]+|application/octet-stream")
_FORM = "multipart/form-data"
_EXPECTED = (
    "expected a form (multipart/form-data) with a part `file`, or the picture as the body, "
    "with image/jpeg, image/png, image/webp or application/octet-stream as its Content-Type"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """A picture as it was sent, and what it is called."""

    name: str
    data: bytes


async def read_picture(request: Request, settings: ServeSettings) -> Sent:
    """The request's one picture. Raises MissingFile, BadParameter, ImageTooLarge."""
    kind = _content_type(request)
    if kind == _FORM:
        [sent] = await _read_form(request, settings, "file", most=1)
        return sent
    if _PICTURE.fullmatch(kind):
        return _checked("", await request.body(), settings)
    raise MissingFile(f"{_EXPECTED}; got {kind or 'no Content-Type'}")


async def read_pictures(request: Request, settings: ServeSettings) -> list[Sent]:
    """The request's pictures in their order. Raises MissingFile, BadParameter, ImageTooLarge."""
    kind = _content_type(request)
    if kind != _FORM:
        raise MissingFile(
            f"expected a form ({_FORM}) with parts `files`; got {kind or 'no Content-Type'}"
        )
    return await _read_form(request, settings, "files", settings.max_files)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_form(request: Request, settings: ServeSettings, name: str, most: int) -> list[Sent]:
    """From 1 to `most` files, all in parts of this name. Nothing is written to disk."""
    parser = MultiPartParser(request.headers, request.stream(), max_files=most, max_fields=0)
    # The body as a whole is bounded; the parser would write it to a file beyond a megabyte.
    parser.spool_max_size = int(settings.max_request_megabytes * 1e6) + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _wrong_form(error.message, name, most) from error
    sent: list[Sent] = []
    for part, file in form.multi_items():
        if part != name or not isinstance(file, UploadFile):
            raise BadParameter(f"the form has a part {part!r}; expected files named `{name}` only")
        sent.append(_checked(file.filename or "", await file.read(), settings))
        await file.close()
    if not sent:
        raise MissingFile(f"the form has no part `{name}`")
    return sent


def _wrong_form(said: str, name: str, most: int) -> BadParameter | MissingFile:
    """What the parser means."""
    if said.startswith("Too many fields"):
        return MissingFile(f"the form has a part that is no file; each `{name}` needs a filename")
    if said.startswith("Too many files"):
        return BadParameter(
            f"the form has more than {most} files, as many as one request may bring"
        )
    return BadParameter(f"the form can't be read: {said}")


def _checked(name: str, data: bytes, settings: ServeSettings) -> Sent:
    most = int(settings.max_upload_megabytes * 1e6)
    if len(data) > most:
        raise ImageTooLarge(f"the picture has {len(data)} bytes, at most {most}")
    return Sent(_clean(name), data)


def _clean(name: str) -> str:
    """The last part of a path, without what can't be seen: it is for people, and opens no file."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(char for char in last if char.isprintable())[:LONGEST_NAME] or "picture"
