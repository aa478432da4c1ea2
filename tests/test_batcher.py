"""Batches are gathered fairly, as large as they may be, and never wait for what can't come."""

import threading
import time

import pytest

from contracts.frame import Frame, StreamItem
from contracts.settings import WhenFull
from pipeline.batcher import Batcher
from stream.queue import BoundedQueue
from tests.frames import frame
from tests.messages import frame_failure, source_end

LONG_MS = 60_000.0


class Line:
    """Queues that share a bell, and the batcher behind them."""

    def __init__(
        self,
        sources: int = 1,
        max_batch: int = 4,
        max_wait_ms: float = 0.0,
        max_bytes: int = 10**9,
        when_full: WhenFull = "block",
    ) -> None:
        bell = threading.Condition()
        self.queues: list[BoundedQueue[StreamItem]] = [
            BoundedQueue(
                depth=100,
                max_bytes=10**9,
                when_full=when_full,
                size_of=lambda _item: 1,
                bell=bell,
            )
            for _ in range(sources)
        ]
        self.batcher = Batcher(self.queues, bell, max_batch, max_wait_ms, max_bytes)

    def close(self) -> None:
        for queue in self.queues:
            queue.close()


def names(items: list[StreamItem]) -> list[str]:
    return [f"{i.source_id}{i.frame_index}" if isinstance(i, Frame) else "-" for i in items]


def test_a_batch_has_at_most_max_batch_frames_in_order() -> None:
    line = Line(max_batch=4)
    for index in range(6):
        line.queues[0].put(frame(index, "a"))
    assert names(line.batcher.gather()) == ["a0", "a1", "a2", "a3"]
    assert names(line.batcher.gather()) == ["a4", "a5"]


def test_sources_take_turns_and_the_turn_goes_on_in_the_next_batch() -> None:
    line = Line(sources=3, max_batch=4)
    for name, queue in zip("abc", line.queues, strict=True):
        for index in range(4):
            queue.put(frame(index, name))
    assert names(line.batcher.gather()) == ["a0", "b0", "c0", "a1"]
    assert names(line.batcher.gather()) == ["b1", "c1", "a2", "b2"]


def test_a_silent_source_does_not_hold_the_others_back() -> None:
    line = Line(sources=2, max_batch=2)
    line.queues[1].put(frame(0, "b"))
    line.queues[1].put(frame(1, "b"))
    assert names(line.batcher.gather()) == ["b0", "b1"]


def test_a_batch_waits_max_wait_ms_after_its_first_frame_and_no_longer() -> None:
    line = Line(max_wait_ms=80)
    line.queues[0].put(frame(0, "a"))
    started = time.monotonic()
    assert names(line.batcher.gather()) == ["a0"]
    assert time.monotonic() - started >= 0.08


def test_a_frame_that_comes_within_the_wait_joins_the_batch() -> None:
    line = Line(max_batch=2, max_wait_ms=LONG_MS)
    line.queues[0].put(frame(0, "a"))
    late = threading.Thread(target=lambda: line.queues[0].put(frame(1, "a")))
    late.start()
    assert names(line.batcher.gather()) == ["a0", "a1"]
    late.join()


def test_an_incomplete_batch_does_not_wait_when_every_source_has_ended() -> None:
    line = Line(sources=2, max_wait_ms=LONG_MS)
    line.queues[0].put(frame(0, "a"))
    line.close()
    assert names(line.batcher.gather()) == ["a0"]
    assert line.batcher.gather() == []


def test_gather_waits_for_the_first_frame_as_long_as_it_takes() -> None:
    line = Line()
    gathered: list[list[StreamItem]] = []
    thread = threading.Thread(target=lambda: gathered.append(line.batcher.gather()))
    thread.start()
    line.queues[0].put(frame(3, "a"))
    thread.join(timeout=10)
    assert names(gathered[0]) == ["a3"]


def test_gather_returns_empty_when_the_sources_end_while_it_waits() -> None:
    line = Line(sources=2)
    gathered: list[list[StreamItem]] = []
    thread = threading.Thread(target=lambda: gathered.append(line.batcher.gather()))
    thread.start()
    line.close()
    thread.join(timeout=10)
    assert gathered == [[]]


def test_failures_and_ends_keep_their_place_and_are_no_part_of_the_count() -> None:
    line = Line(max_batch=2)
    for item in (frame(0, "a"), frame_failure(1, "a"), frame(2, "a"), source_end("a")):
        line.queues[0].put(item)
    assert names(line.batcher.gather()) == ["a0", "-", "a2"]
    assert names(line.batcher.gather()) == ["-"]


def test_an_end_alone_is_handed_on_at_once() -> None:
    line = Line(max_wait_ms=LONG_MS)
    line.queues[0].put(source_end("a"))
    assert names(line.batcher.gather()) == ["-"]


@pytest.mark.parametrize(("max_bytes", "expected"), [(1, 1), (2 * 48 * 64 * 3, 2)])
def test_pixels_bound_the_batch_too(max_bytes: int, expected: int) -> None:
    line = Line(max_batch=8, max_bytes=max_bytes)
    for index in range(8):
        line.queues[0].put(frame(index, "a"))
    assert len(line.batcher.gather()) == expected
