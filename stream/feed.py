"""What one source gives: each frame numbered, timed, counted and queued, or dropped by name.

Who settles what: the capture thread calls `ledger.captured`, and `ledger.dropped` for what it
leaves out (`paused`, `rate_limit`, `stale`, `not_decoded`) and for a frame that no consumer is left
to take (`shutdown`). The queue settles `queue_full`, the batcher `stale`; all the rest is settled
by the thread that delivers.
"""

import logging
import threading
import time
from collections import deque

from contracts.errors import FramewireError, SourceError
from contracts.frame import Captured, Frame, LatentFrame, StreamItem, fail, utc_now
from contracts.ledger import Ledger
from contracts.messages import FrameFailure, SourceEnd, SourceEvent, SourceState
from contracts.settings import SourceSettings
from stream.queue import BoundedQueue, QueueClosed
from stream.reader import Latent, Picture, Reading, Skipped, Unreadable

FrameReading = Picture | Latent | Skipped | Unreadable
RATE_OVER_NS = 10_000_000_000
ROUNDING_S = 0.0005
"""The times of a stream are rounded, often to milliseconds."""
MAX_AGE_OF_LIVE_MS = 1000.0

log = logging.getLogger("framewire.stream")


class Feed:
    """One source's numbers and account, whatever connection its frames come by.

    `take_in` is called by one capture thread at a time, `tell` and `end` by the supervisor; the
    rest by any thread. While `running` isn't set the source is paused: all that a live one gives is
    dropped, and a file waits.
    """

    def __init__(
        self,
        source: SourceSettings,
        live: bool,
        queue: BoundedQueue[StreamItem],
        ledger: Ledger,
        max_frames: int | None = None,
    ) -> None:
        self.source = source
        self.live = live
        self.queue = queue
        self.ledger = ledger
        self.max_frames = max_frames
        self.running = threading.Event()
        self.running.set()
        self.max_age_s = _max_age_s(source, live)
        self._rate = RateLimit(source.max_fps)
        self._next_index = 0
        self._lock = threading.Lock()
        self._recent_ns: deque[int] = deque()
        self._first_ns: int | None = None
        self._failing: str | None = None

    @property
    def paused(self) -> bool:
        """True when nothing of the source is to be looked at."""
        return not self.running.is_set()

    @property
    def complete(self) -> bool:
        """True when `max_frames` have come."""
        return self.max_frames is not None and self._next_index >= self.max_frames

    def take_in(self, reading: Reading, decode_ms: float) -> None:
        """The frame is captured, and in the queue or dropped. Waits where the queue says so.

        `decode_ms` is what the read cost. Raises QueueClosed.
        """
        if isinstance(reading, SourceError):
            reading = Unreadable(reading)
        captured = self._number(reading, decode_ms)
        reason = self._reason_to_drop(reading, captured)
        if isinstance(reading, Skipped) or reason:
            self.ledger.dropped(captured.frame_index, reason or "not_decoded")
            return
        item = _item_of(reading, captured)
        self._log_failure(item)
        try:
            self.queue.put(item)
        except QueueClosed:
            self.ledger.dropped(captured.frame_index, "shutdown")
            raise

    def tell(
        self,
        state: SourceState,
        error: FramewireError | None = None,
        retry_in_s: float | None = None,
    ) -> None:
        """The state's change follows the frames that came before it. Nobody may be left to hear."""
        event = SourceEvent(
            source_id=self.source.id,
            at=utc_now(),
            state=state,
            code=error.code if error else None,
            message=str(error) if error else "",
            retry_in_s=None if retry_in_s is None else round(retry_in_s, 3),
        )
        try:
            self.queue.put_over(event)
        except QueueClosed:
            log.debug("%s: %s, but nobody takes events any more", self.source.id, state)

    def end(self, error: FramewireError | None) -> None:
        """The source's end follows its last frame; nothing comes after it."""
        end = SourceEnd(
            source_id=self.source.id,
            ended_at=utc_now(),
            code=error.code if error else None,
            message=str(error) if error else "",
            ledger=self.ledger.counts(),
        )
        try:
            self.queue.put_over(end)
        except QueueClosed:
            log.info("%s: nobody takes frames any more", self.source.id)
        self.queue.close()

    def fps(self, now_ns: int) -> float:
        """Frames captured a second, over the last ten; over less where the first came later."""
        with self._lock:
            self._forget_before(now_ns - RATE_OVER_NS)
            since_first_ns = now_ns - (self._first_ns or now_ns)
            over_ns = min(max(since_first_ns, 1_000_000_000), RATE_OVER_NS)
            return len(self._recent_ns) / (over_ns / 1e9)

    def _number(self, reading: FrameReading, decode_ms: float) -> Captured:
        """Called as soon as the read returned: these are the frame's times."""
        captured_at, captured_ns = utc_now(), time.monotonic_ns()
        with self._lock:
            index = self._next_index
            self._next_index += 1
            self._recent_ns.append(captured_ns)
            self._first_ns = self._first_ns or captured_ns
            self._forget_before(captured_ns - RATE_OVER_NS)
        self.ledger.captured(index)
        image_id = None if isinstance(reading, Skipped) else reading.image_id
        return Captured(
            source_id=self.source.id,
            frame_index=index,
            image_id=image_id or f"{self.source.id}/{index}",
            pts_s=reading.pts_s,
            captured_at=captured_at,
            captured_ns=captured_ns,
            decode_ms=decode_ms,
            lag_s=reading.lag_s,
            sent_at=reading.sent_at if isinstance(reading, Latent) else None,
            degraded=reading.degraded if isinstance(reading, Picture | Latent) else (),
        )

    def _reason_to_drop(self, reading: FrameReading, captured: Captured) -> str | None:
        if self.paused and self.live:
            return "paused"
        if isinstance(reading, Skipped | Unreadable):
            return None
        if self.max_age_s is not None and captured.lag_s > self.max_age_s:
            return "stale"
        clock_s = captured.pts_s
        if self.live or clock_s is None:
            clock_s = captured.captured_ns / 1e9
        return None if self._rate.takes(clock_s) else "rate_limit"

    def _log_failure(self, item: Frame | LatentFrame | FrameFailure) -> None:
        """One line a failure; one a stretch of the same ones where a camera gives many a second."""
        if not isinstance(item, FrameFailure):
            self._failing = None
            return
        again = self.live and item.code == self._failing
        self._failing = item.code
        what = (self.source.id, item.frame_index, item.code, item.message)
        log.log(logging.DEBUG if again else logging.WARNING, "%s#%d: %s: %s", *what)

    def _forget_before(self, then_ns: int) -> None:
        while self._recent_ns and self._recent_ns[0] < then_ns:
            self._recent_ns.popleft()


class RateLimit:
    """Lets so many a second pass, evenly, however fast they come."""

    def __init__(self, max_fps: float | None) -> None:
        self._period_s = 1 / max_fps if max_fps else 0.0
        self._due_s = float("-inf")

    def takes(self, now_s: float) -> bool:
        """True for a frame of this time. Times that jump, either way, start anew."""
        late_s = now_s - self._due_s
        if abs(late_s) > 2 * self._period_s:
            self._due_s = now_s + self._period_s
        elif late_s < -ROUNDING_S:
            return False
        else:
            # One that is late is followed the sooner, or a jittering source would lose frames that
            # come no faster than they may.
            self._due_s = max(self._due_s, now_s - self._period_s) + self._period_s
        return True


def _max_age_s(source: SourceSettings, live: bool) -> float | None:
    if source.max_age_ms is not None:
        return source.max_age_ms / 1e3
    return MAX_AGE_OF_LIVE_MS / 1e3 if live else None


def _item_of(
    reading: Picture | Latent | Unreadable, captured: Captured
) -> Frame | LatentFrame | FrameFailure:
    """What goes into the queue."""
    match reading:
        case Picture():
            return Frame(**captured.stamp(), image_hwc=reading.image_hwc)
        case Latent():
            return LatentFrame(**captured.stamp(), n_bytes=reading.n_bytes, pixels=reading.develop)
        case Unreadable(error=error):
            return fail(captured, error)
