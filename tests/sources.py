"""Sources that do what a test says: readers at the Reader protocol, and the line they feed."""

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from contracts.errors import DecodeError, FramewireError
from contracts.frame import Frame, LatentFrame, StreamItem
from contracts.ledger import Ledger
from contracts.messages import FrameFailure, SourceEnd, SourceEvent
from contracts.settings import SourceSettings, WhenFull
from stream.feed import Feed
from stream.queue import BoundedQueue
from stream.reader import Latent, Picture, Reading, Skipped, Unreadable

TIMEOUT_S = 10.0
Step = Reading | BaseException | Callable[[], object]


def picture(number: int = 0, lag_s: float = 0.0) -> Picture:
    """Grey, named by nobody."""
    return Picture(np.full((4, 6, 3), number, np.uint8), pts_s=number / 10, lag_s=lag_s)


class LoudBell(threading.Condition):
    """A bell that lets a test know when a thread has begun to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.someone_waits = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """As it always does, after it has said so."""
        self.someone_waits.set()
        return super().wait(timeout)


class Hang:
    """What a test holds a thread with: `reached` when it has come here; it goes on after `go`.

    As a context manager it lets the thread go at the latest when the test is over.
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        """Called by the thread."""
        self.reached.set()
        assert self.go.wait(TIMEOUT_S), "nobody let the thread go"

    def wait_until_reached(self) -> None:
        """Called by the test."""
        assert self.reached.wait(TIMEOUT_S), "the thread never came here"

    def __enter__(self) -> "Hang":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nobody is held any more."""
        self.go.set()


class Script:
    """A reader: yields the readings of a list, raises its exceptions and calls its functions."""

    frame_count_hint = None

    def __init__(
        self, *steps: Step, live: bool = True, on_close: Callable[[], object] = lambda: None
    ) -> None:
        self.live = live
        self.closed = threading.Event()
        self._steps = steps
        self._on_close = on_close

    def pictures(self) -> Iterator[Reading]:
        """In the order of the list; nothing after it. A `DecodeError` is yielded."""
        for step in self._steps:
            if isinstance(step, DecodeError | Picture | Latent | Skipped | Unreadable):
                yield step
            elif isinstance(step, BaseException):
                raise step
            else:
                assert callable(step)
                step()

    def close(self) -> None:
        """Does what the test wants, and remembers."""
        self._on_close()
        self.closed.set()


class Opener:
    """Opens one after another what it is given: a reader, or an error in its place.

    `stops` holds the stop event of each attempt. One more attempt than there are entries fails.
    """

    def __init__(self, *attempts: Script | Exception | Callable[[], Script]) -> None:
        self.stops: list[threading.Event] = []
        self._attempts = attempts

    def __call__(self, stop: threading.Event) -> Script:
        """As `OpenReader`."""
        self.stops.append(stop)
        attempt = self._attempts[len(self.stops) - 1]
        if isinstance(attempt, Exception):
            raise attempt
        return attempt if isinstance(attempt, Script) else attempt()


class Line:
    """A queue, a ledger and a feed, as one source has them."""

    def __init__(
        self,
        live: bool = True,
        depth: int = 64,
        when_full: WhenFull = "block",
        max_frames: int | None = None,
        source_id: str = "cam",
        **settings: Any,
    ) -> None:
        self.ledger = Ledger()
        self.bell = LoudBell()
        self.queue: BoundedQueue[StreamItem] = BoundedQueue(
            depth=depth,
            max_bytes=1 << 30,
            when_full=when_full,
            size_of=lambda item: item.n_bytes if isinstance(item, Frame | LatentFrame) else 0,
            may_drop=lambda item: isinstance(item, Frame | LatentFrame),
            on_drop=self._on_drop,
            bell=self.bell,
        )
        source = SourceSettings(uri="cam", id=source_id, **settings)
        self.feed = Feed(source, live, self.queue, self.ledger, max_frames)

    def _on_drop(self, item: StreamItem) -> None:
        assert isinstance(item, Frame | LatentFrame)
        self.ledger.dropped(item.frame_index, "queue_full")

    def held(self) -> list[StreamItem]:
        """Takes everything that is in the queue at this moment."""
        return list(iter(self.queue.take_nowait, None))

    def rest(self) -> list[StreamItem]:
        """Takes everything up to the end of the queue, waited for."""
        items: list[StreamItem] = []
        while (item := self.queue.take(TIMEOUT_S)) is not None:
            items.append(item)
        assert self.queue.closed_and_empty
        return items

    def settle(self, items: Sequence[StreamItem]) -> None:
        """As the sink thread does."""
        for item in items:
            if isinstance(item, FrameFailure):
                self.ledger.failed(item.frame_index, item.code)
            elif isinstance(item, Frame | LatentFrame):
                self.ledger.delivered(item.frame_index)


def frames_in(items: Sequence[StreamItem]) -> list[int]:
    """The indices of the frames."""
    return [item.frame_index for item in items if isinstance(item, Frame | LatentFrame)]


def failures_in(items: Sequence[StreamItem]) -> list[tuple[int, str]]:
    """The indices and codes of the failures."""
    return [(item.frame_index, item.code) for item in items if isinstance(item, FrameFailure)]


def events_in(items: Sequence[StreamItem]) -> list[tuple[str, str | None]]:
    """The states and codes of the events."""
    return [(item.state, item.code) for item in items if isinstance(item, SourceEvent)]


def end_of(items: Sequence[StreamItem]) -> SourceEnd:
    """The last item, which is the only end."""
    assert [isinstance(item, SourceEnd) for item in items] == [False] * (len(items) - 1) + [True]
    assert isinstance(items[-1], SourceEnd)
    return items[-1]


def capture_threads() -> list[threading.Thread]:
    """Those that run at this moment, of any source."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("capture-")]


def code_of(error: FramewireError | None) -> str | None:
    """None for none."""
    return error.code if error else None
