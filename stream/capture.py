"""The capture thread: one connection to a source, from its opening to whatever ends it."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from contracts.errors import FramewireError, InternalError, SourceError
from stream.feed import Feed
from stream.queue import QueueClosed
from stream.reader import Latent, Picture, Reader, Reading, Skip, Unreadable
from stream.skipping import Skipping

OpenReader = Callable[[threading.Event], Reader]
"""Opens the source; the reader ends early where the event is set while it waits."""

log = logging.getLogger("framewire.stream")


class _Call(NamedTuple):
    """The library has the capture thread, and may never give it back."""

    doing: Literal["open", "read", "close"]
    since_s: float
    silent_s: float
    """How long the library had had it before, since it last gave a frame."""


class Connection:
    """One opening of a source. Its capture thread runs `run`; the supervisor does all the rest.

    The thread is either in a call into the reader's library or in our own code, and only in the
    first case can the supervisor leave it behind: what the thread brings out of a call after that
    counts nowhere, and what it brought out before is in the feed. Times are of the monotonic clock.

    A live source that breaks off has lost nothing that could be counted. A file that breaks off
    in the middle has at least one frame that nobody will see: it is captured, and failed.
    """

    def __init__(
        self, feed: Feed, open_reader: OpenReader, ring: Callable[[], None], now_s: float
    ) -> None:
        """`ring` wakes the supervisor: at the first frame, and at the end."""
        self.error: FramewireError | None = None
        """What ended it; None: it simply ended, or was asked to stop. A defect is its cause."""
        self.cause: FramewireError | None = None
        """Why it was asked to stop, where that is an error."""
        self.opened = False
        self.n_frames = 0
        """Those that could be seen; final once `ended` is set."""
        self.ended = threading.Event()
        self._feed = feed
        self._open_reader = open_reader
        self._ring = ring
        self._stop = threading.Event()
        self._asked_at_s: float | None = None
        self._started_s = self._last_frame_s = now_s
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        self._call: _Call | None = None
        self._silent_s = 0.0
        self._left_behind = False
        self._thread = threading.Thread(
            target=self.run, name=f"capture-{feed.source.id}", daemon=True
        )

    def start(self) -> None:
        """Its thread runs."""
        self._thread.start()

    def join(self) -> None:
        """Its thread has gone; for a connection that has ended."""
        self._thread.join()

    def ask_to_stop(self, now_s: float, cause: FramewireError | None = None) -> None:
        """It ends at its next read. The first to ask says why."""
        if self._asked_at_s is None:
            self._asked_at_s, self.cause = now_s, cause
            self._stop.set()

    def silent_s(self, now_s: float) -> float:
        """How long the library has had the thread, in all, since it last gave a frame.

        One that it left out on purpose will do. What the thread waits for room in the queue does
        not count: the source isn't to blame.
        """
        call = self._call
        return self._silent_s if call is None else call.silent_s + now_s - call.since_s

    @property
    def fell_back(self) -> bool:
        """True where it was to decode in hardware, and does so in software."""
        return getattr(self._reader, "hardware_failed", False)

    def lived_s(self) -> float:
        """From the start to the last frame."""
        return max(self._last_frame_s - self._started_s, 0.0)

    def leave_behind_if_stuck(self, now_s: float, patience_s: float) -> bool:
        """True when the library has held the thread so long after the source was to be left.

        Whatever the thread still reads counts nowhere then.
        """
        with self._lock:
            self._left_behind = self._stuck_s(now_s) > patience_s
        if self._left_behind:
            self._stop.set()
        return self._left_behind

    def run(self) -> None:
        """Run by the capture thread: every frame of this connection is in the feed."""
        reader: Reader | None = None
        try:
            with self._naming_what_ends_it():
                self._enter("open")
                self._reader = reader = self._open_reader(self._stop)
                self._leave()
                self.opened = True
                self.error = self._read(reader)
            with self._naming_what_ends_it():
                self._enter("close")
                if reader:
                    reader.close()
        finally:
            self._call = None
            if self._left_behind:
                log.info("%s: a reader that hung has come back", self._feed.source.id)
            self.ended.set()
            self._ring()

    def _read(self, reader: Reader) -> FramewireError | None:
        """Everything up to what ends it, which is returned."""
        skipping = Skipping(self._feed, time.monotonic())
        readings = reader.pictures()
        # Most of the time, a live source's read waits for the next frame to be taken.
        clock_ns = time.thread_time_ns if self._feed.live else time.monotonic_ns
        try:
            while self._wants_more():
                started_ns = clock_ns()
                reading, error = self._next(reader, readings, skipping.level(time.monotonic()))
                spent_ms = (clock_ns() - started_ns) / 1e6
                if reading is not None:
                    self._hand_over(reading, spent_ms)
                elif error is None or self._feed.live:
                    return error
                else:
                    self._hand_over(error, spent_ms)
                    return error
        finally:
            # The generator closes what it has open as this function's last reference to it goes.
            self._enter("close")
        return None

    def _wants_more(self) -> bool:
        if not self._feed.live:
            # Whoever stops a paused file sets it running too.
            self._feed.running.wait()
        return not self._stop.is_set() and not self._feed.complete

    def _next(
        self, reader: Reader, readings: Iterator[Reading], skip: Skip
    ) -> tuple[Reading | None, SourceError | None]:
        """One reading; or None, with the error that broke the source off where one did."""
        self._enter("read")
        try:
            _set_skip(reader, skip)
            return next(readings, None), None
        except SourceError as error:
            return None, error
        finally:
            self._leave()

    def _hand_over(self, reading: Reading, spent_ms: float) -> None:
        self._feed.take_in(reading, spent_ms)
        if not isinstance(reading, Unreadable | SourceError):
            self._silent_s = 0.0
        if isinstance(reading, Picture | Latent):
            self._last_frame_s = time.monotonic()
            self.n_frames += 1
            if self.n_frames == 1:
                self._ring()

    def _enter(self, doing: Literal["open", "read", "close"]) -> None:
        self._call = _Call(doing, time.monotonic(), self._silent_s)

    def _leave(self) -> None:
        """The thread is our own again; unless it was left behind, which ends it."""
        with self._lock:
            if self._left_behind:
                raise _LeftBehind
            if self._call and self._call.doing == "read":
                self._silent_s = self.silent_s(time.monotonic())
            self._call = None

    def _stuck_s(self, now_s: float) -> float:
        call, asked_at_s = self._call, self._asked_at_s
        if call is None:
            return 0.0
        if call.doing == "close":
            return now_s - call.since_s
        return 0.0 if asked_at_s is None else now_s - max(call.since_s, asked_at_s)

    @contextlib.contextmanager
    def _naming_what_ends_it(self) -> Iterator[None]:
        """What goes wrong inside is `error`, unless something went wrong before."""
        try:
            yield
        except QueueClosed:
            log.debug("%s: nobody takes frames any more", self._feed.source.id)
        except _LeftBehind:
            pass
        except FramewireError as error:
            self._ends_with(error)
        except Exception as defect:
            named = InternalError(f"{type(defect).__name__}: {defect}")
            named.__cause__ = defect
            self._ends_with(named)

    def _ends_with(self, error: FramewireError) -> None:
        if self.error is None:
            self.error = error
        else:
            log.debug("%s: and then %s: %s", self._feed.source.id, error.code, error, exc_info=True)


class _LeftBehind(Exception):
    """The supervisor has given this connection up."""


def _set_skip(reader: Reader, level: Skip) -> None:
    """Readers that can leave frames undecoded do so from the next read on."""
    if getattr(reader, "skip", level) != level:
        reader.skip = level  # type: ignore[attr-defined]
