"""The files of a form (multipart/form-data, RFC 7578), collected as they come and never on disk."""

import dataclasses
import logging

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from contracts.errors import BadParameter, ImageTooLarge, MissingFile

# It warns of each form that can't be read; who sent that is told, and nobody else.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


@dataclasses.dataclass(slots=True)
class File:
    """One file of a form."""

    name: str
    data: bytearray


class FileForm:
    """Takes a form in pieces. All its parts have to be files, and have one name."""

    def __init__(self, content_type: str, part: str, most_files: int, most_bytes: int) -> None:
        """`most_bytes` in one file. Raises BadParameter where the form can't be read."""
        self._part = part
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._files: list[File] = []
        self._header = self._value = b""
        self._disposition = b""
        self._ended = False
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BadParameter("the form's Content-Type says no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise BadParameter(f"the form can't be read: {error}") from error

    def write(self, piece: bytes) -> None:
        """Takes the next piece. Raises BadParameter, MissingFile, ImageTooLarge."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BadParameter(f"the form can't be read: {error}") from error

    def finish(self) -> list[File]:
        """All files. Raises BadParameter where the form isn't whole, MissingFile for none."""
        if not self._ended:
            raise BadParameter("the form ends in the middle, before its last boundary")
        if not self._files:
            raise MissingFile(f"the form has no part `{self._part}`")
        return self._files

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        self._disposition = b""
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != self._part:
            raise BadParameter(f"the form has a part {name!r}; expected `{self._part}` only")
        if b"filename" not in options:
            raise MissingFile(f"the part `{name}` is no file: it has no filename")
        if len(self._files) == self._most_files:
            raise BadParameter(f"the form has more than {self._most_files} files")
        self._files.append(File(options[b"filename"].decode("utf-8", "replace"), bytearray()))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        file = self._files[-1]
        if len(file.data) + end - start > self._most_bytes:
            raise ImageTooLarge(f"the picture has more than {self._most_bytes} bytes")
        file.data += data[start:end]

    def _on_end(self) -> None:
        self._ended = True
