"""The bounded queue: order, bounds, what gives way, who is woken, and that nothing gets lost."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.ledger import Ledger
from contracts.settings import WhenFull
from stream.queue import BoundedQueue, QueueClosed, QueueCounts
from tests.sources import LoudBell

TIMEOUT_S = 10.0


def queue_of(
    depth: int = 2,
    when_full: WhenFull = "block",
    max_bytes: int = 1000,
    on_drop: Callable[[int], None] = lambda _item: None,
    bell: threading.Condition | None = None,
) -> BoundedQueue[int]:
    """A queue of numbers, whose size is their value; negative ones have none and never drop."""
    return BoundedQueue(
        depth=depth,
        max_bytes=max_bytes,
        when_full=when_full,
        size_of=lambda item: max(item, 0),
        may_drop=lambda item: item >= 0,
        on_drop=on_drop,
        bell=bell,
    )


def drain(queue: BoundedQueue[int]) -> list[int]:
    """All that is held."""
    return [item for item in iter(queue.take_nowait, None) if item is not None]


def test_items_come_out_in_the_order_in_which_they_went_in() -> None:
    queue = queue_of(depth=3)
    for item in (5, 3, 4):
        queue.put(item)
    assert drain(queue) == [5, 3, 4]


def test_full_blocking_queue_makes_the_putter_wait_for_room() -> None:
    bell = LoudBell()
    queue = queue_of(depth=1, bell=bell)
    queue.put(1)
    with ThreadPoolExecutor(1) as putter:
        done = putter.submit(queue.put, 2)
        assert bell.someone_waits.wait(TIMEOUT_S)
        assert len(queue) == 1
        assert queue.take(TIMEOUT_S) == 1
        done.result(TIMEOUT_S)
    assert queue.take(TIMEOUT_S) == 2


def test_full_live_queue_drops_the_oldest_and_counts_it() -> None:
    dropped: list[int] = []
    queue = queue_of(depth=2, when_full="drop_oldest", on_drop=dropped.append)
    for item in (1, 2, 3, 4):
        queue.put(item)
    assert dropped == [1, 2]
    assert queue.counts() == QueueCounts(put=4, taken=0, dropped=2, held=2, n_bytes=7, high_water=2)
    assert drain(queue) == [3, 4]


def test_what_may_not_be_dropped_stays_and_the_next_oldest_goes() -> None:
    dropped: list[int] = []
    queue = queue_of(depth=2, when_full="drop_oldest", on_drop=dropped.append)
    for item in (-1, 2, 3):
        queue.put(item)
    assert dropped == [2]
    assert drain(queue) == [-1, 3]


def test_an_end_drops_nothing_and_waits_for_room_in_a_full_live_queue() -> None:
    bell = LoudBell()
    dropped: list[int] = []
    queue = queue_of(depth=1, when_full="drop_oldest", on_drop=dropped.append, bell=bell)
    queue.put(1)
    with ThreadPoolExecutor(1) as putter:
        done = putter.submit(queue.put, -1)
        assert bell.someone_waits.wait(TIMEOUT_S)
        assert queue.take(TIMEOUT_S) == 1
        done.result(TIMEOUT_S)
    assert drain(queue) == [-1]
    assert dropped == []


def test_bytes_bound_the_queue_before_its_depth_does() -> None:
    dropped: list[int] = []
    queue = queue_of(depth=9, max_bytes=100, when_full="drop_oldest", on_drop=dropped.append)
    for item in (40, 50, 30, 80):
        queue.put(item)
    assert dropped == [40, 50, 30]
    assert queue.counts().n_bytes == 80


def test_one_item_is_always_taken_however_large() -> None:
    queue = queue_of(max_bytes=100)
    queue.put(5000)
    queue.put(-1)
    assert drain(queue) == [5000, -1]


def test_whoever_takes_the_newer_item_finds_the_drop_on_the_books() -> None:
    bell = threading.Condition()
    held_while_dropping: list[bool] = []

    def try_the_lock_on_another_thread(_dropped: int) -> None:
        with ThreadPoolExecutor(1) as other:
            held_while_dropping.append(not other.submit(bell.acquire, False).result(TIMEOUT_S))

    queue = queue_of(
        depth=1, when_full="drop_oldest", on_drop=try_the_lock_on_another_thread, bell=bell
    )
    queue.put(1)
    queue.put(2)
    assert held_while_dropping == [True]
    assert queue.take_nowait() == 2


@pytest.mark.parametrize("when_full", ["block", "drop_oldest"])
def test_put_over_neither_waits_nor_drops(when_full: WhenFull) -> None:
    queue = queue_of(depth=1, when_full=when_full)
    queue.put(1)
    queue.put_over(2)
    assert queue.counts().dropped == 0
    assert drain(queue) == [1, 2]


def test_what_is_put_over_takes_no_place_and_never_gives_way() -> None:
    queue = queue_of(depth=2, when_full="drop_oldest")
    queue.put_over(9)
    queue.put_over(9)
    for item in (1, 2, 3):
        queue.put(item)
    assert queue.counts().dropped == 1
    assert drain(queue) == [9, 9, 2, 3]


def test_put_over_a_closed_queue_is_refused() -> None:
    queue = queue_of()
    queue.close()
    with pytest.raises(QueueClosed):
        queue.put_over(1)


def test_closed_queue_gives_what_it_holds_and_then_says_that_it_is_over() -> None:
    queue = queue_of()
    queue.put(1)
    queue.close()
    queue.close()
    with pytest.raises(QueueClosed):
        queue.put(2)
    assert not queue.closed_and_empty
    assert queue.take() == 1
    assert queue.take() is None
    assert queue.closed_and_empty


def test_take_that_times_out_is_told_from_the_end() -> None:
    queue = queue_of()
    assert queue.take(timeout_s=0.001) is None
    assert not queue.closed_and_empty


def test_close_wakes_a_thread_that_waits_to_take() -> None:
    bell = LoudBell()
    queue = queue_of(bell=bell)
    with ThreadPoolExecutor(1) as taker:
        done = taker.submit(queue.take)
        assert bell.someone_waits.wait(TIMEOUT_S)
        queue.close()
        assert done.result(TIMEOUT_S) is None


@pytest.mark.parametrize("goes", ["close", "abandon"])
def test_a_thread_that_waits_to_put_is_woken_when_the_queue_ends(goes: str) -> None:
    bell = LoudBell()
    queue = queue_of(depth=1, bell=bell)
    queue.put(1)
    with ThreadPoolExecutor(1) as putter:
        done = putter.submit(queue.put, 2)
        assert bell.someone_waits.wait(TIMEOUT_S)
        getattr(queue, goes)()
        with pytest.raises(QueueClosed):
            done.result(TIMEOUT_S)
    assert queue.counts().put == 1


def test_abandoned_queue_hands_back_what_it_held() -> None:
    queue = queue_of()
    queue.put(1)
    queue.put(2)
    assert queue.abandon() == [1, 2]
    assert queue.closed_and_empty
    assert queue.counts() == QueueCounts(put=2, taken=2, dropped=0, held=0, n_bytes=0, high_water=2)


def test_one_thread_waits_for_any_of_several_queues_that_share_a_bell() -> None:
    bell = LoudBell()
    queues = [queue_of(bell=bell) for _ in range(3)]

    def take_from_any() -> int | None:
        with bell:
            bell.wait_for(lambda: any(len(queue) for queue in queues), TIMEOUT_S)
            return next(queue.take_nowait() for queue in queues if len(queue))

    with ThreadPoolExecutor(1) as consumer:
        done = consumer.submit(take_from_any)
        assert bell.someone_waits.wait(TIMEOUT_S)
        queues[2].put(7)
        assert done.result(TIMEOUT_S) == 7


OVER = -10
"""The machine puts numbers from here down over the bounds, and no others."""


def in_places(items: list[int]) -> list[int]:
    """Those that take up a place of the queue's `depth`."""
    return [item for item in items if item > OVER]


class QueueMachine(RuleBasedStateMachine):
    """The queue beside a plain list that does the same in the plainest way."""

    @initialize(
        depth=st.integers(1, 4),
        max_bytes=st.integers(1, 60),
        when_full=st.sampled_from(["block", "drop_oldest"]),
    )
    def make(self, depth: int, max_bytes: int, when_full: WhenFull) -> None:
        self.dropped: list[int] = []
        self.queue = queue_of(depth, when_full, max_bytes, self.dropped.append)
        self.held: list[int] = []
        self.out: list[int] = []
        self.n_put = 0
        self.open = True

    def _fits(self, held: list[int], item: int) -> bool:
        n_bytes = sum(max(other, 0) for other in held)
        room = n_bytes == 0 or item <= 0 or n_bytes + item <= self.queue.max_bytes
        return len(in_places(held)) < self.queue.depth and room

    def _after_drops(self, item: int) -> list[int] | None:
        """What is held when the oldest have made room for the item; None: it would wait."""
        held = list(self.held)
        while not self._fits(held, item):
            old = next((other for other in held if other >= 0), None)
            if self.queue.when_full == "block" or item < 0 or old is None:
                return None
            held.remove(old)
        return held

    @precondition(lambda self: self.open)
    @rule(item=st.integers(-3, 80))
    def put(self, item: int) -> None:
        held = self._after_drops(item)
        if held is None:
            return
        n_dropped_before = len(self.dropped)
        self.queue.put(item)
        assert len(self.dropped) - n_dropped_before == len(self.held) - len(held)
        self.held = [*held, item]
        self.n_put += 1

    @precondition(lambda self: self.open)
    @rule(item=st.integers(OVER - 3, OVER))
    def put_over(self, item: int) -> None:
        self.queue.put_over(item)
        self.held.append(item)
        self.n_put += 1

    @rule()
    def take(self) -> None:
        expected = self.held.pop(0) if self.held else None
        assert self.queue.take_nowait() == expected
        self.out += [] if expected is None else [expected]

    @rule()
    def close(self) -> None:
        self.queue.close()
        self.open = False

    @precondition(lambda self: not self.open)
    @rule(item=st.integers(-3, 80))
    def put_when_closed(self, item: int) -> None:
        with pytest.raises(QueueClosed):
            self.queue.put(item)

    @rule()
    def abandon(self) -> None:
        assert self.queue.abandon() == self.held
        self.out += self.held
        self.held, self.open = [], False

    @invariant()
    def nothing_is_lost_and_the_bounds_hold(self) -> None:
        counts = self.queue.counts()
        sizes = [max(item, 0) for item in self.held]
        assert counts.held == len(self.queue) == len(self.held)
        assert len(in_places(self.held)) <= self.queue.depth
        assert counts.n_bytes == sum(sizes)
        assert counts.n_bytes <= max(self.queue.max_bytes, *sizes, 0)
        assert (counts.put, counts.taken) == (self.n_put, len(self.out))
        assert counts.put == counts.taken + counts.dropped + counts.held
        assert counts.dropped == len(self.dropped)
        assert all(item >= 0 for item in self.dropped)
        assert self.queue.closed_and_empty == (not self.open and not self.held)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


N_ITEMS = 2000
LAST = N_ITEMS
"""What a producer puts last; it is no frame, so it is never dropped and not in the ledger."""


class Line:
    """One queue with its ledger, as one source has them."""

    def __init__(self, when_full: WhenFull, bell: threading.Condition) -> None:
        self.ledger = Ledger()
        self.taken: list[int] = []
        self.queue: BoundedQueue[int] = BoundedQueue(
            depth=3,
            max_bytes=1000,
            when_full=when_full,
            size_of=lambda _item: 10,
            may_drop=lambda item: item != LAST,
            on_drop=lambda item: self.ledger.dropped(item, "queue_full"),
            bell=bell,
        )

    def produce(self) -> None:
        """As a capture thread does."""
        for item in range(N_ITEMS):
            self.ledger.captured(item)
            self.queue.put(item)
        self.queue.put(LAST)
        self.queue.close()

    def settle_one(self) -> None:
        """As a sink thread does; every seventh frame fails."""
        item = self.queue.take_nowait()
        if item is None:
            return
        self.taken.append(item)
        if item != LAST and item % 7:
            self.ledger.delivered(item)
        elif item != LAST:
            self.ledger.failed(item, "inference_error")

    def check(self) -> None:
        """True at any moment."""
        counts = self.queue.counts()
        assert self.ledger.counts().balanced
        assert counts.put == counts.taken + counts.dropped + counts.held
        assert counts.held <= self.queue.depth


def consume_all(lines: list[Line], bell: threading.Condition) -> None:
    """Waits for any of the queues until all are over."""
    while running := [line for line in lines if not line.queue.closed_and_empty]:
        queues = [line.queue for line in running]
        with bell:
            bell.wait_for(lambda: any(len(q) or q.closed_and_empty for q in queues), TIMEOUT_S)  # noqa: B023
        for line in running:
            line.settle_one()


def check_until(over: threading.Event, lines: list[Line]) -> int:
    """How many snapshots were looked at."""
    n_snapshots = 0
    while not over.is_set():
        for line in lines:
            line.check()
        n_snapshots += 1
    return n_snapshots


@pytest.mark.parametrize("when_full", ["block", "drop_oldest"])
def test_ledger_and_queue_balance_at_every_moment_under_many_threads(when_full: WhenFull) -> None:
    bell, over = threading.Condition(), threading.Event()
    lines = [Line(when_full, bell) for _ in range(3)]
    with ThreadPoolExecutor(5) as threads:
        watcher = threads.submit(check_until, over, lines)
        workers = [threads.submit(consume_all, lines, bell)]
        workers += [threads.submit(line.produce) for line in lines]
        done, _ = wait(workers, timeout=60)
        over.set()
        assert watcher.result(TIMEOUT_S) > 0
        assert [worker.result(0) for worker in done] == [None] * 4

    for line in lines:
        counts = line.ledger.counts()
        assert (counts.captured, counts.in_flight) == (N_ITEMS, 0)
        assert counts.dropped.get("queue_full", 0) == line.queue.counts().dropped
        assert line.taken == sorted(line.taken)
        assert line.taken[-1] == LAST
        assert when_full == "drop_oldest" or counts.dropped == {}
