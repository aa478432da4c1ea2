"""What a person sees while it runs: log lines and one progress bar a source, on standard error."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from contracts.uris import redact


class StandardError:
    """Standard error as long as somebody reads it. The run matters more than what is said of it.

    When it can't be written any more (the terminal was closed, the pipe's reader left, the disk of
    the log is full), it goes nowhere from then on.
    """

    def write(self, text: str) -> int:
        """All of the text is written, or nobody is left to read it."""
        try:
            return self._now().write(text)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            return len(text)

    def flush(self) -> None:
        """As `write`."""
        try:
            self._now().flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def isatty(self) -> bool:
        """Whether there is a person."""
        return self._now().isatty()

    def fileno(self) -> int:
        """For the size of the terminal."""
        return self._now().fileno()

    @property
    def encoding(self) -> str:
        """What can be written."""
        return self._now().encoding

    @staticmethod
    def _now() -> TextIO:
        """What it is now; while progress bars are drawn, rich stands in for it."""
        stream: TextIO = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream


console = Console(file=cast("IO[str]", StandardError()), highlight=False, markup=False)
STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class ConsoleHandler(logging.Handler):
    """One line a record, above the progress bars where there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the record; a traceback follows only where one was logged."""
        console.print(Text(self.format(record), STYLES.get(record.levelno, "")), soft_wrap=True)


class RedactedFormatter(logging.Formatter):
    """Texts of records, their tracebacks too, without secrets, whoever wrote them."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by the handler for each record."""
        return redact(super().format(record))


class RateColumn(ProgressColumn):
    """Frames a second, once there is something to measure."""

    def render(self, task: Task) -> Text:
        """Called by rich at each refresh."""
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "")


def set_up_logging(level: str) -> None:
    """`framewire`'s records from this level on go to standard error, and others' warnings.

    The handler is the root's, so that no library's records come past it. One that brings its own
    has to be told not to (uvicorn: `log_config=None`).
    """
    handler = ConsoleHandler()
    handler.setFormatter(RedactedFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    others = [other for other in root.handlers if not isinstance(other, ConsoleHandler)]
    root.handlers = [*others, handler]
    logging.getLogger("framewire").setLevel(level.upper())


@contextmanager
def progress_bars(source_ids: Iterable[str]) -> Iterator[Callable[[str, int, int | None], None]]:
    """Hands out a function to call with a source's id, its settled frames and its length if known.

    Nothing is drawn where standard error is not a terminal.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=None) for name in source_ids}

        def update(source_id: str, settled: int, length: int | None) -> None:
            # A container's frame count is a claim; a bar past its end would look like a mistake.
            total = max(length, settled) if length else None
            progress.update(tasks[source_id], completed=settled, total=total)

        yield update
