"""How long the crops of a batch may take, and how many of them to classify next."""

import contextlib
import time
from collections.abc import Callable, Iterator

MAX_CROPS_AT_ONCE = 64
"""Crops that are in memory together; a batch with more of them is classified in several turns."""

FIRST_PART = 8
"""Crops that are classified together while nobody knows yet what one costs."""


class Budget:
    """Used by the inference thread only. `begin` a batch, then `time` each part of its crops.

    A call into a runtime can't be interrupted, so the time is looked at between two parts. A part
    is as large as fits into what is left, by what a crop cost the last time.
    """

    def __init__(
        self, timeout_ms: float | None = None, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """None: as long as it takes."""
        self._timeout_ns = None if timeout_ms is None else int(timeout_ms * 1e6)
        self._clock_ns = clock_ns
        self._ends_ns = 0
        self._crop_ns = 0.0

    def begin(self) -> None:
        """The time of a batch runs from now on."""
        self._ends_ns = self._clock_ns() + (self._timeout_ns or 0)

    @property
    def is_over(self) -> bool:
        """True when nothing more should be begun."""
        return self._timeout_ns is not None and self._clock_ns() >= self._ends_ns

    def next_part(self) -> int:
        """So many crops are to be classified next, at least one; 0 when it is over."""
        if self._timeout_ns is None:
            return MAX_CROPS_AT_ONCE
        left_ns = self._ends_ns - self._clock_ns()
        if left_ns <= 0:
            return 0
        fitting = left_ns / self._crop_ns if self._crop_ns else FIRST_PART
        return max(1, min(int(fitting), MAX_CROPS_AT_ONCE))

    @contextlib.contextmanager
    def time(self, crops: int) -> Iterator[None]:
        """Inside, so many crops are classified; what one of them costs is known after."""
        started_ns = self._clock_ns()
        yield
        self._crop_ns = (self._clock_ns() - started_ns) / crops
