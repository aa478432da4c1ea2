"""What becomes of one source: connecting, live, backing off, and at last ended or failed.

          first frame            asked to stop, or its own end
connecting ─────────────► live ───────────────────────────────► ended
    ▲  │                   │
    │  │ can't be opened   │ lost, or no frame for
    │  │                   ▼ stall_timeout_s (stalled)
    │  └───────────► backing_off
    └──────────────────────┘                what time does not heal ───► failed
       after retry_in_s

From every state it can be asked to stop, and paused: that is shown and told in place of the state,
while the connection goes its own way. A file has these states too, but only a live source's are
told, and tried again: a file has its frames and its end.
"""

import logging
import math
import random
import time
from collections.abc import Callable

from contracts.errors import (
    BadSetting,
    FramewireError,
    InternalError,
    SourceError,
    SourceNotFound,
    Stalled,
    StreamLost,
    Timeout,
)
from contracts.messages import SourceStatus
from contracts.uris import without_credentials
from stream.backoff import Backoff
from stream.capture import Connection, OpenReader
from stream.feed import Feed
from stream.state import State

GRACE_S = 2.0
"""So long beyond its own time-out a reader gets to notice it, and as long to stop once asked to."""
LOOK_EVERY_S = 0.5
MOST_LEFT_BEHIND = 4
"""A source of which so many readers hang gets no further one until one of them comes back."""

log = logging.getLogger("framewire.stream")


class Lifecycle:
    """One source from its first connection to its end.

    `step` and `break_off` are the supervisor thread's. The rest may be called by any thread, though
    not by two at once: `Supervisor` sees to that.
    """

    def __init__(
        self,
        feed: Feed,
        open_reader: OpenReader,
        ring: Callable[[], None],
        rng: random.Random | None = None,
    ) -> None:
        """`ring` wakes the supervisor."""
        self.feed = feed
        self.over = False
        """True when its `SourceEnd` is in the queue."""
        self.connections = 0
        self.abandoned_threads = 0
        self._fallbacks = 0
        self._open_reader = open_reader
        self._ring = ring
        self._backoff = Backoff(feed.source.first_retry_s, feed.source.max_retry_s, rng)
        self._connection: Connection | None = None
        self._left_behind: list[Connection] = []
        self._was_live = False
        self._stopping = False
        self._forget = False
        self._state = State(feed)
        self._logged: set[str] = set()

    def step(self, now_s: float) -> float:
        """Acts on what has happened by `now_s` (monotonic); when to look again at the latest."""
        if self.over:
            return math.inf
        if self._connection:
            self._look_at(self._connection, now_s)
        elif self._done:
            self._finish(None, now_s)
        elif now_s >= self._state.real.retry_at_s and self._may_open_another():
            self._connect(now_s)
        self._state.tell(now_s)
        return self._look_again_at_s(now_s)

    def ask_to_stop(self, forget: bool = False) -> None:
        """From the next step on nothing is read; what was read is still delivered, then its end.

        `forget`: nobody wants to hear of the source after that.
        """
        self._forget = self._forget or forget
        self._stopping = True

    def pause(self) -> None:
        """Nothing of the source is looked at: what a live one gives is dropped, a file waits."""
        self._state.pause()

    def resume(self) -> None:
        """It is looked at again."""
        self._state.resume()

    def break_off(self) -> None:
        """Nobody will step it any more: its connection ends by itself, and its queue is closed."""
        self._stopping = True
        if self._connection:
            self._connection.ask_to_stop(time.monotonic())
        self.feed.running.set()
        self.feed.queue.close()

    def status(self) -> SourceStatus:
        """At this moment."""
        shown, connection = self._state.shown, self._connection
        return SourceStatus(
            source_id=self.feed.source.id,
            uri=without_credentials(self.feed.source.uri),
            state=shown.state,
            since=shown.since,
            code=shown.error.code if shown.error else None,
            message=str(shown.error) if shown.error else "",
            fps=round(self.feed.fps(time.monotonic_ns()), 2),
            connections=self.connections,
            abandoned_threads=self.abandoned_threads,
            software_fallbacks=self._fallbacks + bool(connection and connection.fell_back),
            queued=len(self.feed.queue),
            ledger=self.feed.ledger.counts(),
        )

    @property
    def forgotten(self) -> bool:
        """True when it is over, and was to be forgotten then."""
        return self.over and self._forget

    @property
    def _done(self) -> bool:
        """Nothing more is to be read: somebody said so, it's enough, or nobody takes it."""
        return self._stopping or self.feed.complete or self.feed.queue.closed

    def _connect(self, now_s: float) -> None:
        self.connections += 1
        self._state.become("connecting", now_s, self._state.real.error)
        self._connection = Connection(self.feed, self._open_reader, self._ring, now_s)
        self._connection.start()

    def _look_at(self, connection: Connection, now_s: float) -> None:
        # Asked first: of a connection that has ended, all frames are known.
        ended = connection.ended.is_set()
        if connection.n_frames and self._state.real.state == "connecting":
            self._was_live = True
            self._logged.clear()
            self._state.become("live", now_s)
        if ended:
            connection.join()
            self._conclude(connection, now_s)
            return
        self._ask_to_stop_where_due(connection, now_s)
        if connection.leave_behind_if_stuck(now_s, GRACE_S):
            self._leave_behind(connection)
            self._conclude(connection, now_s)

    def _ask_to_stop_where_due(self, connection: Connection, now_s: float) -> None:
        if self._done:
            connection.ask_to_stop(now_s)
            if not self.feed.live:
                # A paused file's thread waits for this.
                self.feed.running.set()
        elif self.feed.live and (overdue := self._overdue(connection, now_s)):
            connection.ask_to_stop(now_s, overdue)

    def _overdue(self, connection: Connection, now_s: float) -> StreamLost | None:
        """What a live source's reader should have said itself by now."""
        source, opened = self.feed.source, connection.opened
        limit_s = source.stall_timeout_s if opened else source.open_timeout_s
        silent_s = connection.silent_s(now_s)
        if silent_s <= limit_s + GRACE_S:
            return None
        if opened:
            return Stalled(f"{source.id}: no frame for {silent_s:.0f} s")
        return Timeout(f"{source.id}: not open after {silent_s:.0f} s")

    def _leave_behind(self, connection: Connection) -> None:
        """The library holds the thread and may never give it back."""
        self.abandoned_threads += 1
        self._left_behind.append(connection)
        level = logging.DEBUG if "hung" in self._logged else logging.ERROR
        self._logged.add("hung")
        log.log(level, "%s: its reader hangs; the thread is left behind", self.feed.source.id)

    def _may_open_another(self) -> bool:
        self._left_behind = [one for one in self._left_behind if not one.ended.is_set()]
        return len(self._left_behind) < MOST_LEFT_BEHIND

    def _conclude(self, connection: Connection, now_s: float) -> None:
        """The connection is gone: the source is over, or is tried again."""
        self._connection = None
        self._fallbacks += connection.fell_back
        error = connection.error or connection.cause
        if self._done and self.feed.live:
            self._finish(None, now_s)
        elif error is None or not self._heals(error):
            self._log_failure(connection, error)
            self._finish(error, now_s)
        else:
            wait_s = self._backoff.after(error.code, connection.lived_s())
            self._log_loss(error, wait_s)
            if isinstance(error, Stalled):
                self._state.become("stalled", now_s, error)
            self._state.become("backing_off", now_s, error, now_s + wait_s)

    def _heals(self, error: FramewireError) -> bool:
        """Time may help: not a file, and not a camera or a setting that never was right."""
        if not self.feed.live:
            return False
        was_right = self._was_live and isinstance(error, SourceNotFound | BadSetting)
        return was_right or isinstance(error, StreamLost | InternalError)

    def _log_loss(self, error: FramewireError, wait_s: float) -> None:
        """Said once until the source is live again; the events say it at each attempt."""
        level = logging.DEBUG if error.code in self._logged else logging.WARNING
        self._logged.add(error.code)
        what = (self.feed.source.id, error.code, error, wait_s)
        log.log(level, "%s: %s: %s; trying again in %.1f s", *what, exc_info=_defect(error))

    def _log_failure(self, connection: Connection, error: FramewireError | None) -> None:
        """A file that broke off said so with its last frame."""
        said = connection.opened and not self.feed.live and isinstance(error, SourceError)
        if error and not said:
            what = (self.feed.source.id, error.code, error)
            log.warning("%s: %s: %s", *what, exc_info=_defect(error))

    def _finish(self, error: FramewireError | None, now_s: float) -> None:
        self._state.become("failed" if error else "ended", now_s, error)
        self.feed.end(error)
        self.over = True
        # It may have been the last one.
        self._ring()

    def _look_again_at_s(self, now_s: float) -> float:
        if self.over:
            return math.inf
        retry_at_s = self._state.real.retry_at_s
        return min(now_s + LOOK_EVERY_S, retry_at_s if retry_at_s > now_s else math.inf)


def _defect(error: FramewireError) -> BaseException | None:
    """What a log line of the error shows the traceback of."""
    return error.__cause__ if isinstance(error, InternalError) else None
