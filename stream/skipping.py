"""When a decoder need not decode every frame: the pipeline would drop most of them anyway."""

from stream.feed import Feed
from stream.reader import Skip

LOOK_EVERY_S = 2.0
MOST = 0.75
FEW = 0.05


class Skipping:
    """Used by the capture thread of one connection. Times are of the monotonic clock.

    While more than three of four frames are dropped at the queue, those that no other frame needs
    are not decoded (`nonref`). Once next to none is dropped any more, what is left may be too few,
    and all are decoded again. A live source that is paused has its keyframes decoded only.
    """

    def __init__(self, feed: Feed, now_s: float) -> None:
        self._feed = feed
        self._level: Skip = "none"
        self._captured, self._full = self._counts()
        self._look_at_s = now_s + LOOK_EVERY_S

    def level(self, now_s: float) -> Skip:
        """What the decoder may leave out from now on."""
        if not self._feed.live:
            return "none"
        if now_s >= self._look_at_s:
            self._look()
            self._look_at_s = now_s + LOOK_EVERY_S
        return "nonkey" if self._feed.paused else self._level

    def _look(self) -> None:
        captured, full = self._counts()
        share = (full - self._full) / max(captured - self._captured, 1)
        if share > MOST:
            self._level = "nonref"
        elif share < FEW:
            self._level = "none"
        self._captured, self._full = captured, full

    def _counts(self) -> tuple[int, int]:
        counts = self._feed.ledger.counts()
        return counts.captured, counts.dropped.get("queue_full", 0)
