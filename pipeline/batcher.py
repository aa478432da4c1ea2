"""Gathers frames of every source into batches, fairly and without waiting for the slow ones.

Each source has a lane: its queue, and how old its frames may become. Lanes come and go while
batches are gathered.
"""

import dataclasses
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from contracts.errors import BadSetting, SourceError
from contracts.frame import Captured, Frame, LatentFrame, StreamItem, fail
from contracts.messages import FrameFailure, SourceEnd, SourceEvent
from contracts.settings import WhenFull
from contracts.upload import Upload
from pipeline.uploads import Uploads

STALE = "stale"
"""Why a frame is dropped that was older than its source allows when its batch began."""

log = logging.getLogger("framewire.pipeline")


class FrameQueue(Protocol):
    """What the batcher needs of a source's queue."""

    when_full: WhenFull

    def take_nowait(self) -> StreamItem | None:
        """The oldest item, or None when there is none at this moment."""
        ...

    @property
    def closed_and_empty(self) -> bool:
        """True when nothing will come any more."""
        ...


class Taken(NamedTuple):
    """An item, and when it was taken from its queue (monotonic clock)."""

    item: Frame | FrameFailure | SourceEvent | SourceEnd | Upload
    taken_ns: int


class _Held(NamedTuple):
    """An item that is in the batch unless it is a frame, and stale when the batch begins."""

    item: StreamItem | Upload
    taken_ns: int
    stale_at_ns: float = math.inf


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Lane:
    source_id: str
    queue: FrameQueue
    max_age_s: float | None

    def take(self) -> _Held | None:
        item = self.queue.take_nowait()
        if item is None:
            return None
        if self.max_age_s is None or not isinstance(item, Captured):
            return _Held(item, time.monotonic_ns())
        left_s = self.max_age_s - item.lag_s
        return _Held(item, time.monotonic_ns(), item.captured_ns + left_s * 1e9)


class Batcher:
    """The inference thread gathers; `add` and `close` may be called by any thread.

    The queues share one `bell` that rings at each change.
    """

    def __init__(
        self,
        bell: threading.Condition,
        max_batch: int,
        max_wait_ms: float,
        max_bytes: int,
        on_drop: Callable[[Captured, str], None],
        uploads: Uploads | None = None,
    ) -> None:
        """`on_drop` gets each frame that is left out, and why, also inside the lock: it must not
        wait for anything that a user of these queues may hold.
        """
        self._bell = bell
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1e3
        self._max_bytes = max_bytes
        self._on_drop = on_drop
        self.uploads = uploads or Uploads(0, bell)
        self._lanes: deque[_Lane] = deque()
        self._closed = False
        self._uploads_went = False

    def add(self, source_id: str, queue: FrameQueue, max_age_s: float | None = None) -> None:
        """The source's items are gathered up to its `SourceEnd`, or the end of its queue.

        A frame older than `max_age_s` when its batch begins is dropped. Raises BadSetting where a
        source of this name still has items to gather.
        """
        with self._bell:
            self._forget_exhausted()
            if any(lane.source_id == source_id for lane in self._lanes):
                raise BadSetting(f"source {source_id}: there is one of this name already")
            self._lanes.append(_Lane(source_id, queue, max_age_s))
            self._bell.notify_all()

    def close(self) -> None:
        """No source will be added any more. May be called twice."""
        with self._bell:
            self._closed = True
            self._bell.notify_all()

    @property
    def ended(self) -> bool:
        """True when nothing is left to gather and nothing will come any more."""
        with self._bell:
            return self._closed and self._exhausted and not self.uploads.waiting

    def gather(self, until_s: float | None = None, only_live: bool = False) -> list[Taken]:
        """The next items in each source's order; empty when all has ended, or at `until_s`.

        Waits for a first item as long as it takes, or until `until_s` (monotonic clock). Once there
        is a frame, waits until `max_batch` frames or `max_bytes` of pixels are there (one frame
        more may pass it), `max_wait_ms` are over, or nothing more can come. Failures, events and
        ends travel along in their place. With `only_live`, sources that can wait are left waiting.

        Uploads come first, but leave a place to the sources; and a batch with one of them waits for
        nothing but other uploads that are on their way.

        Frames that have become stale are dropped, and fill no batch. Latent ones are converted
        here, outside of the lock; one that can't be fails alone.
        """
        while True:
            with self._bell:
                held = self._hold(until_s, only_live)
            batch = [_developed(one) for one in held if not self._dropped(one)]
            if batch or not held:
                return batch

    def _hold(self, until_s: float | None, only_live: bool) -> list[_Held]:
        held: list[_Held] = []
        self._bell.wait_for(
            lambda: self._collect(held, only_live) or (self._closed and self._exhausted),
            None if until_s is None else max(until_s - time.monotonic(), 0.0),
        )
        deadline_s = time.monotonic() + self._max_wait_s
        while self._wants_more(held) and self._more_may_come(held):
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0 or not self._bell.wait(remaining_s):
                break
            self._collect(held, only_live)
        self._forget_exhausted()
        return held

    def _collect(self, held: list[_Held], only_live: bool) -> bool:
        """What is there, uploads first; True where there is anything.

        A batch of one goes to an upload and to a source in turn.
        """
        if not (self._uploads_went and self._max_batch == 1 and self._lanes):
            self._collect_uploads(held, self._max_batch - bool(self._lanes))
        self._collect_from_lanes(held, only_live)
        self._collect_uploads(held, self._max_batch)
        self._uploads_went = any(isinstance(one.item, Upload) for one in held)
        return bool(held)

    def _collect_uploads(self, held: list[_Held], places: int) -> None:
        """So many items at most, but one in any case where nothing else is there."""
        while len(held) < max(places, 1) and (not held or self._wants_more(held)):
            upload = self.uploads.take_nowait()
            if upload is None:
                return
            held.append(_Held(upload, time.monotonic_ns()))

    def _collect_from_lanes(self, held: list[_Held], only_live: bool) -> None:
        """Takes one item of each source in turn until all are empty or the batch is full.

        The turn goes on where the last batch left off, so no source is always the last.
        """
        empty = 0
        while empty < len(self._lanes) and (not held or self._wants_more(held)):
            lane = self._lanes[0]
            waits = only_live and lane.queue.when_full == "block"
            one = None if waits else lane.take()
            if one and self._dropped(one):
                # It costs its source no turn: a fresh one may be behind it.
                continue
            self._lanes.rotate(-1)
            empty = 0 if one else empty + 1
            held += [one] if one else []
            if one and isinstance(one.item, SourceEnd):
                # Nothing comes after it, and its name may be in use again as soon as it is out.
                self._lanes.pop()

    def _more_may_come(self, held: list[_Held]) -> bool:
        if any(isinstance(one.item, Upload) for one in held):
            return self.uploads.coming
        return not self._exhausted

    def _wants_more(self, held: list[_Held]) -> bool:
        """True when there are fresh frames in the batch, and room for more of them."""
        now_ns = time.monotonic_ns()
        sizes = [
            one.item.n_bytes
            for one in held
            if isinstance(one.item, Frame | LatentFrame | Upload) and now_ns <= one.stale_at_ns
        ]
        return 0 < len(sizes) < self._max_batch and sum(sizes) < self._max_bytes

    @property
    def _exhausted(self) -> bool:
        return all(lane.queue.closed_and_empty for lane in self._lanes)

    def _forget_exhausted(self) -> None:
        self._lanes = deque(lane for lane in self._lanes if not lane.queue.closed_and_empty)

    def _dropped(self, one: _Held) -> bool:
        """True where the frame is stale by now: it is left out, by name."""
        if not isinstance(one.item, Captured) or time.monotonic_ns() <= one.stale_at_ns:
            return False
        self._on_drop(one.item, STALE)
        return True


def _developed(one: _Held) -> Taken:
    """With its pixels, or with the failure to make them."""
    if not isinstance(one.item, LatentFrame):
        return Taken(one.item, one.taken_ns)
    try:
        return Taken(one.item.develop(), one.taken_ns)
    except SourceError as error:
        at = (one.item.source_id, one.item.frame_index, error.code, error)
        log.warning("%s#%d: %s: %s", *at)
        return Taken(fail(one.item, error), one.taken_ns)
