"""Writes each message as one line of JSON: UTF-8, ended by a newline, in the file at once."""

import contextlib
import os
from io import FileIO
from pathlib import Path

from contracts.errors import OutputUnwritable
from contracts.frame import Delivery
from contracts.messages import Status
from sinks.files import claim, named


class JsonlSink:
    """Owned by the sink thread. An older file at the path is emptied when the sink opens, unless
    another run is writing it.

    Lines are written unbuffered, so `tail -f` shows each message as it leaves. When a write fails,
    the file is cut back to its last whole line.
    """

    name = "jsonl"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._size = 0
        self._lines = 0

    def open(self) -> None:
        """The file exists, is empty and ours alone; missing folders are made.

        OutputUnwritable (also where another run writes it), DiskFull.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = claim(self._path)
        except OSError as error:
            raise named(error, self.name, self._path) from error

    def write(self, delivery: Delivery, payload: bytes) -> None:
        """The line is in the file, whole. DiskFull, OutputUnwritable: none of it is.

        A status is of its moment and leaves no line.
        """
        if isinstance(delivery.message, Status):
            return
        if self._file is None:
            raise OutputUnwritable(f"jsonl: {self._path} is not open")
        line = payload + b"\n"
        try:
            _write_all(self._file, line)
        except OSError as error:
            self._cut_back(self._file)
            raise named(error, self.name, self._path) from error
        self._size += len(line)
        self._lines += 1

    def close(self) -> None:
        """The file is closed."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def counts(self) -> dict[str, int]:
        """For the summary: lines written."""
        return {"lines": self._lines}

    def _cut_back(self, file: FileIO) -> None:
        """The file ends with its last whole line. A pipe or a device can't be cut, and isn't."""
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), self._size)


def _write_all(file: FileIO, line: bytes) -> None:
    """Every byte is written: an unbuffered write may take only a part of them."""
    left = memoryview(line)
    while left:
        left = left[file.write(left) or 0 :]
