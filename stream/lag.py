"""How much later a stream's frames come than its own clock has it.

A camera or a server that stalls and then sends everything at once gives old frames that arrive
now. Only their own times tell: each frame's arrival minus its time is compared with the smallest
such difference of late, that of a frame that nothing held up.
"""

import statistics
from collections import deque
from typing import NamedTuple

SPAN_S = 1.0
SPANS_KEPT = 60
SPANS_STEADY = 10
SPANS_OF_A_LINE = 5
STEADY_S = 0.1
JUMP_BACK_S = 1.0


class _Low(NamedTuple):
    """The smallest difference of a span, and when it arrived."""

    at_s: float
    difference_s: float


class Lag:
    """Measures one connection. Its caller says when things arrived: it reads no clock itself.

    The smallest differences are remembered for a minute, second by second.

    A clock may run slow: a camera that counts its frames as if there were 30 a second, and has 28.7
    of them. Nothing holds these up, but the difference grows with each. Where the remembered ones
    lie on a line that rises, no further than a tenth of a second from it, that is taken for the
    stream's own pace, and lag is what lies above the line. A backlog that grows as steadily, over a
    line that is too slow, can't be told from that.

    Two stretches of ten seconds whose smallest ones are within a tenth of a second are that pace
    too, and what was before them is forgotten: a stream that was halted goes on without a gap in
    its times. A backlog shrinks faster than that, unless it is one that never will.
    """

    def __init__(self) -> None:
        self._clock_s: float | None = None
        self._lows: deque[_Low] = deque(maxlen=SPANS_KEPT)
        self._low = _Low(0.0, float("inf"))
        self._span_ends_s = 0.0
        self._slope = 0.0
        self._floor_s = float("inf")

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
        now = _Low(arrived_s, arrived_s - clock_s)
        if now.difference_s < self._low.difference_s:
            self._low = now
        self._floor_s = min(self._floor_s, self._level_s(now))
        return self._level_s(now) - self._floor_s

    def _begin(self, arrived_s: float) -> None:
        self._lows.clear()
        self._low = _Low(arrived_s, float("inf"))
        self._span_ends_s = arrived_s + SPAN_S
        self._slope = 0.0
        self._floor_s = float("inf")

    def _end_span(self, arrived_s: float) -> None:
        self._lows.append(self._low)
        self._follow_slow_clock()
        self._forget()
        self._floor_s = min(map(self._level_s, self._lows))
        self._low = _Low(arrived_s, float("inf"))
        self._span_ends_s = arrived_s + SPAN_S

    def _follow_slow_clock(self) -> None:
        """The slope is that of the line, where there is one and it rises by enough to tell."""
        if len(self._lows) < SPANS_OF_A_LINE:
            return
        times_s, differences_s = zip(*self._lows, strict=True)
        slope, start_s = statistics.linear_regression(times_s, differences_s)
        if all(abs(low.difference_s - start_s - slope * low.at_s) < STEADY_S for low in self._lows):
            rise_s = slope * (times_s[-1] - times_s[0])
            self._slope = slope if rise_s > 2 * STEADY_S else 0.0

    def _forget(self) -> None:
        """Of two stretches that are level nothing is kept that was before them."""
        levels_s = [self._level_s(low) for low in self._lows]
        before_s, latest_s = levels_s[-2 * SPANS_STEADY : -SPANS_STEADY], levels_s[-SPANS_STEADY:]
        if len(before_s) == SPANS_STEADY and abs(min(latest_s) - min(before_s)) < STEADY_S:
            while len(self._lows) > 2 * SPANS_STEADY:
                self._lows.popleft()

    def _level_s(self, low: _Low) -> float:
        """The difference above the line, in so far as the clock is slow."""
        return low.difference_s - self._slope * low.at_s
