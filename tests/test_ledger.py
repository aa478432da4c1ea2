"""Every captured frame is settled exactly once, and the account balances at every moment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InternalError
from contracts.ledger import MOST_RUNS, Ledger

SETTLE: list[Callable[[Ledger, int], None]] = [
    lambda ledger, index: ledger.delivered(index),
    lambda ledger, index: ledger.dropped(index, "queue_full"),
    lambda ledger, index: ledger.failed(index, "decode_error"),
]


def test_frames_are_counted_where_they_are() -> None:
    ledger = Ledger()
    for index in range(5):
        ledger.captured(index)
    ledger.delivered(0)
    ledger.dropped(1, "queue_full")
    ledger.failed(2, "decode_error")
    counts = ledger.counts()
    assert (counts.captured, counts.delivered, counts.in_flight) == (5, 1, 2)
    assert (counts.dropped, counts.failed) == ({"queue_full": 1}, {"decode_error": 1})
    assert counts.balanced


@pytest.mark.parametrize("first", SETTLE)
@pytest.mark.parametrize("second", SETTLE)
def test_frame_settled_twice_is_an_internal_error(
    first: Callable[[Ledger, int], None], second: Callable[[Ledger, int], None]
) -> None:
    ledger = Ledger()
    ledger.captured(7)
    first(ledger, 7)
    before = ledger.counts()
    with pytest.raises(InternalError, match="frame 7"):
        second(ledger, 7)
    assert ledger.counts() == before


@pytest.mark.parametrize("settle", SETTLE)
def test_frame_settled_but_never_captured_is_an_internal_error(
    settle: Callable[[Ledger, int], None],
) -> None:
    with pytest.raises(InternalError, match="frame 3"):
        settle(Ledger(), 3)


def test_frame_captured_twice_is_an_internal_error() -> None:
    ledger = Ledger()
    ledger.captured(0)
    with pytest.raises(InternalError, match="captured twice"):
        ledger.captured(0)


def test_frames_in_flight_of_a_run_that_broke_off_are_failed() -> None:
    ledger = Ledger()
    for index in range(3):
        ledger.captured(index)
    ledger.delivered(1)
    ledger.fail_all_in_flight("disk_full")
    counts = ledger.counts()
    assert (counts.failed, counts.in_flight) == ({"disk_full": 2}, 0)
    assert counts.balanced


def test_failing_nothing_leaves_no_trace() -> None:
    ledger = Ledger()
    ledger.fail_all_in_flight("disk_full")
    assert ledger.counts().failed == {}


def test_snapshot_stays_what_it_was() -> None:
    ledger = Ledger()
    ledger.captured(0)
    before = ledger.counts()
    ledger.failed(0, "decode_error")
    assert (before.failed, before.in_flight) == ({}, 1)


def test_account_balances_at_every_moment_under_threads() -> None:
    ledger, workers, frames = Ledger(), 4, 2_000
    over = threading.Event()

    def work(worker: int) -> None:
        for index in range(worker, workers * frames, workers):
            ledger.captured(index)
            SETTLE[index % 3](ledger, index)

    def watch() -> bool:
        balanced = ledger.counts().balanced
        while not over.is_set():
            balanced = balanced and ledger.counts().balanced
        return balanced

    with ThreadPoolExecutor(workers + 1) as pool:
        watched = pool.submit(watch)
        try:
            list(pool.map(work, range(workers)))
        finally:
            over.set()
        assert watched.result()
    counts = ledger.counts()
    assert (counts.captured, counts.in_flight) == (workers * frames, 0)
    assert counts.balanced


def test_drops_are_told_once_by_reason_to_the_next_frame() -> None:
    ledger = Ledger()
    for index in range(6):
        ledger.captured(index)
    ledger.dropped(1, "rate_limit")
    ledger.dropped(0, "queue_full")
    ledger.dropped(3, "queue_full")
    assert ledger.drops_before(2) == {"rate_limit": 1, "queue_full": 1}
    assert ledger.drops_before(2) == {}
    assert ledger.drops_before(5) == {"queue_full": 1}


def test_a_long_pause_is_kept_as_one_entry() -> None:
    ledger = Ledger()
    for index in range(10_000):
        ledger.captured(index)
        ledger.dropped(index, "paused")
    assert len(ledger._untold) == 1
    assert ledger.drops_before(4_000) == {"paused": 4_000}
    assert ledger.drops_before(20_000) == {"paused": 6_000}


def test_reasons_that_change_without_end_take_no_memory_without_end() -> None:
    ledger = Ledger()
    for index in range(5_000):
        ledger.captured(index)
        ledger.dropped(index, ("stale", "queue_full")[index % 2])
    assert len(ledger._untold) <= MOST_RUNS
    assert ledger.drops_before(5_000) == {"stale": 2_500, "queue_full": 2_500}
    assert ledger.drops_before(5_001) == {}


@given(st.lists(st.sampled_from(["taken", "stale", "queue_full"]), max_size=60))
def test_each_frame_between_two_messages_is_in_dropped_before(fates: list[str]) -> None:
    ledger = Ledger()
    last = -1
    for index, fate in enumerate(fates):
        ledger.captured(index)
        if fate != "taken":
            ledger.dropped(index, fate)
            continue
        assert sum(ledger.drops_before(index).values()) == index - last - 1
        ledger.delivered(index)
        last = index
