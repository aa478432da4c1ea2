"""How long each stage of a batch took."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from contracts.frame import Frame
from contracts.messages import StageTimes

NEVER_QUEUED: Mapping[Frame, int] = MappingProxyType({})


class Stopwatch:
    """Starts when it is made, at the start of a batch. Monotonic clock.

    On CUDA a stage's kernels may still run when it ends; the next one that reads a result waits for
    them. Detect and classify read theirs, so only crop's time can appear under classify.
    """

    def __init__(self, taken_ns: Mapping[Frame, int] = NEVER_QUEUED) -> None:
        """`taken_ns` says when each frame was taken from its queue."""
        self._started_ns = time.monotonic_ns()
        self._taken_ns = taken_ns
        self._spent_ns: Counter[str] = Counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside counts for this stage; a stage may be entered several times."""
        started_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self._spent_ns[name] += time.monotonic_ns() - started_ns

    def times_of(self, frame: Frame) -> StageTimes:
        """The batch's times, with the frame's own decoding and waiting, in milliseconds.

        Until the batch began the frame waited for the others to come and to be converted.
        """
        taken_ns = self._taken_ns.get(frame, self._started_ns)
        return StageTimes(
            decode_ms=_ms(frame.decode_ms * 1e6),
            queue_ms=_ms(taken_ns - frame.captured_ns),
            batch_ms=_ms(self._started_ns - taken_ns),
            **{f"{name}_ms": _ms(self._spent_ns[name]) for name in _STAGES},
        )


_STAGES = ("detect", "crop", "classify", "text", "assemble", "filter")


def _ms(nanoseconds: float) -> float:
    """Milliseconds, to the microsecond."""
    return round(nanoseconds / 1e6, 3)
