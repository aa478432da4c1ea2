"""What is said of a source: its state, since when, and why. Told at each change, and when asked."""

import logging
import math
from datetime import datetime
from typing import NamedTuple

from contracts.errors import FramewireError
from contracts.frame import utc_now
from contracts.messages import SourceState
from stream.feed import Feed

OVER: frozenset[SourceState] = frozenset({"ended", "failed"})
ATTEMPTS: frozenset[SourceState] = frozenset({"connecting", "stalled", "backing_off"})

log = logging.getLogger("framewire.stream")


class Situation(NamedTuple):
    """Replaced as a whole, so that whoever asks for it never sees half of a change."""

    state: SourceState
    since: datetime
    error: FramewireError | None = None
    """What led here; the last one while the source is tried again."""
    retry_at_s: float = -math.inf


class State:
    """One source's state: changed by the supervisor thread, shown to any.

    While the source is paused, that is shown and told in place of what its connection does.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._real = Situation("connecting", utc_now())
        self._paused_since = utc_now()
        self._told: SourceState | None = None

    @property
    def real(self) -> Situation:
        """Whether or not the source is paused."""
        return self._real

    @property
    def shown(self) -> Situation:
        """What anybody is to see of it."""
        real = self._real
        if self._feed.paused and real.state not in OVER:
            return real._replace(state="paused", since=self._paused_since)
        return real

    def become(
        self,
        state: SourceState,
        now_s: float,
        error: FramewireError | None = None,
        retry_at_s: float = -math.inf,
    ) -> None:
        """The source's state, told if it shows."""
        self._real = Situation(state, utc_now(), error, retry_at_s)
        self.tell(now_s)

    def pause(self) -> None:
        """Nothing of the source is looked at: what a live one gives is dropped, a file waits."""
        if not self._feed.paused:
            self._paused_since = utc_now()
            self._feed.running.clear()

    def resume(self) -> None:
        """It is looked at again."""
        self._feed.running.set()

    def tell(self, now_s: float) -> None:
        """A live source's state goes out once at each change. A file has its frames and its end."""
        state, _since, error, retry_at_s = self.shown
        if state == self._told or not self._feed.live:
            return
        self._told = state
        level = logging.DEBUG if state in ATTEMPTS else logging.INFO
        log.log(level, "%s: %s", self._feed.source.id, state)
        self._feed.tell(
            state,
            None if state == "paused" else error,
            max(retry_at_s - now_s, 0.0) if state == "backing_off" else None,
        )
