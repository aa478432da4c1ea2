"""The account of one source's frames: each captured frame is settled exactly once."""

import dataclasses
import threading
from collections import Counter

from contracts.errors import InternalError
from contracts.messages import LedgerCounts

MOST_RUNS = 1000
"""Of a source that drops for ever changing reasons and delivers nothing, older ones lose their
indices: whatever is delivered next comes after them."""


@dataclasses.dataclass
class _Drops:
    """Frames dropped in a row for one reason: `first` up to, but without, `after`.

    A source that is paused for a week is one of these, not millions of numbers.
    """

    reason: str
    first: int
    after: int


class Ledger:
    """Counts of one source, safe to use from every thread.

    The frames in flight are kept by index, not as a number, so that a frame settled twice, or never
    captured, is found out at once: `InternalError`. A snapshot balances at every moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = 0
        self._delivered = 0
        self._dropped: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._in_flight: set[int] = set()
        self._untold: list[_Drops] = []
        self._long_ago: Counter[str] = Counter()

    def captured(self, frame_index: int) -> None:
        """The frame was read, or should have been: it is ours now."""
        with self._lock:
            if frame_index in self._in_flight:
                raise InternalError(f"frame {frame_index} was captured twice")
            self._in_flight.add(frame_index)
            self._captured += 1

    def delivered(self, frame_index: int) -> None:
        """Every sink took the frame's result."""
        with self._lock:
            self._settle(frame_index)
            self._delivered += 1

    def dropped(self, frame_index: int, reason: str) -> None:
        """The frame was left out on purpose."""
        with self._lock:
            self._settle(frame_index)
            self._dropped[reason] += 1
            last = self._untold[-1] if self._untold else None
            if last and last.reason == reason and last.after == frame_index:
                last.after += 1
            else:
                self._untold.append(_Drops(reason, frame_index, frame_index + 1))
            if len(self._untold) > MOST_RUNS:
                oldest = self._untold.pop(0)
                self._long_ago[oldest.reason] += oldest.after - oldest.first

    def drops_before(self, frame_index: int) -> dict[str, int]:
        """By reason, the dropped frames that came before this one; each is told once."""
        with self._lock:
            told, self._long_ago = self._long_ago, Counter()
            for drops in self._untold:
                after = min(drops.after, frame_index)
                told[drops.reason] += max(after - drops.first, 0)
                drops.first = max(drops.first, after)
            self._untold = [drops for drops in self._untold if drops.first < drops.after]
            return dict(+told)

    def failed(self, frame_index: int, code: str) -> None:
        """The frame has no result, for the reason that the code names."""
        with self._lock:
            self._settle(frame_index)
            self._failed[code] += 1

    def fail_all_in_flight(self, code: str) -> None:
        """The run broke off: no frame in flight will get a result any more."""
        with self._lock:
            self._failed[code] += len(self._in_flight)
            self._in_flight.clear()

    def counts(self) -> LedgerCounts:
        """A snapshot that balances."""
        with self._lock:
            return LedgerCounts(
                captured=self._captured,
                delivered=self._delivered,
                dropped=dict(self._dropped),
                failed=dict(+self._failed),
                in_flight=len(self._in_flight),
            )

    def _settle(self, frame_index: int) -> None:
        if frame_index not in self._in_flight:
            raise InternalError(f"frame {frame_index} was settled twice, or never captured")
        self._in_flight.remove(frame_index)
