"""Lag of streams that keep pace, stall, burst, drift and jump; no clock but the test's own."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.lag import Lag

FRAME_S = 1 / 25
MINUTES = range(25 * 60 * 3)

seconds = st.floats(-1e6, 1e6)
jitters = st.lists(st.floats(0, 0.2), min_size=1, max_size=50)


def lags(frames: Iterable[tuple[float | None, float]]) -> list[float]:
    """Of frames of one connection, each with its own time and its arrival."""
    lag = Lag()
    return [lag.of(clock_s, arrived_s) for clock_s, arrived_s in frames]


@given(st.lists(st.tuples(st.none() | seconds, st.floats(0, 100)), max_size=200))
def test_no_frame_comes_early_and_one_without_a_time_is_never_late(
    frames: list[tuple[float | None, float]],
) -> None:
    arrivals = itertools.accumulate(wait_s for _, wait_s in frames)
    clocks = [clock_s for clock_s, _ in frames]
    for clock_s, lag_s in zip(clocks, lags(zip(clocks, arrivals, strict=True)), strict=True):
        assert lag_s >= 0
        assert clock_s is not None or lag_s == 0


@given(seconds, seconds, jitters)
def test_a_stream_that_keeps_pace_lags_by_its_jitter_at_most(
    clock_s: float, arrival_s: float, jitter: list[float]
) -> None:
    frames = [(clock_s + i * FRAME_S, arrival_s + i * FRAME_S + j) for i, j in enumerate(jitter)]
    assert max(lags(frames)) <= max(jitter) + 1e-6


@given(seconds, st.floats(0.5, 50))
def test_frames_of_a_burst_after_a_stall_are_late_by_what_they_waited(
    clock_s: float, stall_s: float
) -> None:
    begins = [(clock_s + i * FRAME_S, i * FRAME_S) for i in range(100)]
    resumes_s = 100 * FRAME_S + stall_s
    n_waiting = int(stall_s / FRAME_S)
    burst = [(clock_s + i * FRAME_S, resumes_s) for i in range(100, 100 + n_waiting)]
    measured = lags(begins + burst)[100:]
    assert measured == pytest.approx([stall_s - i * FRAME_S for i in range(n_waiting)], abs=1e-6)


def test_a_backlog_that_is_worked_off_slowly_stays_known_for_a_minute() -> None:
    begins = [(i * FRAME_S, i * FRAME_S) for i in range(100)]
    # Ten seconds late, and a fifth faster than they were taken.
    late = [(4 + i * FRAME_S, 14 + i * FRAME_S / 1.2) for i in range(25 * 60)]
    measured = lags(begins + late)[100:]
    true_s = [arrived_s - clock_s for clock_s, arrived_s in late]
    assert measured == pytest.approx([max(lag_s, 0) for lag_s in true_s], abs=1e-6)


@pytest.mark.parametrize("rate", [0.995, 1.0001, 0.9999, 1.005])
def test_a_clock_that_runs_fast_or_slow_is_followed(rate: float) -> None:
    assert max(lags((i * FRAME_S * rate, i * FRAME_S) for i in MINUTES)) < 0.3


@pytest.mark.parametrize(("rate", "at_first_s"), [(28.7 / 30, 0.4), (0.98, 0.4), (0.8, 1.1)])
@pytest.mark.parametrize("jitter_s", [0.0, 0.1])
def test_a_clock_that_runs_slow_is_followed_after_a_few_seconds(
    rate: float, at_first_s: float, jitter_s: float
) -> None:
    jitter = itertools.cycle([jitter_s, 0.0, jitter_s / 2, jitter_s / 3, 0.0])
    arrivals = [1e5 + i * FRAME_S + next(jitter) for i in MINUTES]
    measured = lags((i * FRAME_S * rate, at_s) for i, at_s in zip(MINUTES, arrivals, strict=True))
    assert max(measured) < at_first_s
    assert max(measured[25 * 20 :]) < jitter_s + 0.02


def test_a_burst_after_a_stall_is_late_on_a_slow_clock_too() -> None:
    begins = [(i * FRAME_S * 0.9, i * FRAME_S) for i in range(1000)]
    burst = [((1000 + i) * FRAME_S * 0.9, 45.0) for i in range(125)]
    goes_on = [((1125 + i) * FRAME_S * 0.9, 45 + i * FRAME_S) for i in range(1000)]
    measured = lags(begins + burst + goes_on)
    assert measured[1000:1125] == pytest.approx(
        [5 - i * FRAME_S * 0.9 for i in range(125)], abs=0.6
    )
    assert max(measured[1140:]) < 0.6


def test_a_stream_halted_without_a_gap_in_its_times_is_on_time_again_soon() -> None:
    begins = [(i * FRAME_S, i * FRAME_S) for i in range(1000)]
    goes_on = [(40 + i * FRAME_S, 70 + i * FRAME_S) for i in MINUTES]
    measured = lags(begins + goes_on)[1000:]
    assert measured[0] == pytest.approx(30)
    assert max(measured[25 * 30 :]) < 0.1


@given(seconds, st.floats(1.1, 1e6))
def test_a_clock_that_jumps_back_begins_anew(clock_s: float, back_s: float) -> None:
    begins = [(clock_s + i * FRAME_S, i * FRAME_S) for i in range(100)]
    later = [(clock_s + 4 - back_s + i * FRAME_S, 4 + i * FRAME_S) for i in range(100)]
    assert max(lags(begins + later)) < 1e-6


@given(seconds, st.floats(0.1, 1e6))
def test_a_clock_that_jumps_ahead_lags_no_more_than_before(clock_s: float, ahead_s: float) -> None:
    begins = [(clock_s + i * FRAME_S, i * FRAME_S) for i in range(100)]
    later = [(clock_s + 4 + ahead_s + i * FRAME_S, 4 + i * FRAME_S) for i in range(100)]
    assert max(lags(begins + later)) < 1e-6


def test_times_a_few_frames_out_of_order_don_t_begin_anew() -> None:
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    begins = [(i * FRAME_S, i * FRAME_S) for i in range(10)]
    late = [(0.4 + clock * FRAME_S, 5.4 + i * FRAME_S) for i, clock in enumerate(order)]
    assert min(lags(begins + late)[10:]) > 4.8


def test_a_clock_that_stands_still_tells_nothing() -> None:
    assert max(lags((7.0, i * FRAME_S) for i in MINUTES)) == 0
