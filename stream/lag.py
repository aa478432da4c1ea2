"""How much later a stream's frames come than its own clock has it.

A camera or a server that stalls and then sends everything at once gives old frames that arrive
now. Only their own times tell: each frame's arrival minus its time is compared with the smallest
such difference of late, that of a frame that nothing held up.
"""

from collections import deque

SPAN_S = 10.0
SPANS_KEPT = 6
STEADY_S = 0.1
JUMP_BACK_S = 1.0


class Lag:
    """Measures one connection. Its caller says when things arrived: it reads no clock itself.

    The smallest difference is remembered for a minute, in spans of ten seconds. Two spans whose
    smallest ones are within a tenth of a second are taken for the stream's own pace, and what was
    before them is forgotten: a clock that runs less than one per cent slow is followed, and so is a
    stream that was halted and goes on without a gap in its times. A backlog shrinks faster than
    that, unless it is one that never will.
    """

    def __init__(self) -> None:
        self._clock_s: float | None = None
        self._span_ends_s = 0.0
        self._lowest_s = float("inf")
        self._lowest_of_spans: deque[float] = deque(maxlen=SPANS_KEPT)

    def of(self, clock_s: float | None, arrived_s: float) -> float:
        """Seconds that the frame of this time came late; 0 where it has no time, or the last one's.

        `clock_s` is the stream's clock, `arrived_s` the monotonic one. A stream's clock that jumps
        back begins anew; one that jumps ahead sets the smallest difference, and needs no more.
        """
        if clock_s is None or clock_s == self._clock_s:
            return 0.0
        if self._clock_s is None or clock_s < self._clock_s - JUMP_BACK_S:
            self._begin(arrived_s)
        self._clock_s = clock_s
        if arrived_s >= self._span_ends_s:
            self._end_span(arrived_s)
        difference_s = arrived_s - clock_s
        self._lowest_s = min(self._lowest_s, difference_s)
        return difference_s - min(self._lowest_s, *self._lowest_of_spans, difference_s)

    def _begin(self, arrived_s: float) -> None:
        self._lowest_of_spans.clear()
        self._lowest_s = float("inf")
        self._span_ends_s = arrived_s + SPAN_S

    def _end_span(self, arrived_s: float) -> None:
        spans = self._lowest_of_spans
        if spans and abs(self._lowest_s - spans[-1]) < STEADY_S:
            self._lowest_s = min(self._lowest_s, spans[-1])
            spans.clear()
        spans.append(self._lowest_s)
        self._lowest_s = float("inf")
        self._span_ends_s = arrived_s + SPAN_S
