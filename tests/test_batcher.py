"""Batches are gathered fairly, as large as they may be, and never wait for what can't come."""

import dataclasses
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadSetting, DecodeError
from contracts.frame import Captured, Frame, StreamItem
from contracts.messages import FrameFailure, SourceEvent
from contracts.settings import WhenFull
from pipeline.batcher import Batcher, Taken
from stream.queue import BoundedQueue
from tests.frames import frame, latent, noise
from tests.messages import frame_failure, source_end, source_event

LONG_MS = 60_000.0
KINDS: dict[str, Callable[[int, str], StreamItem]] = {
    "frame": frame,
    "latent": latent,
    "failure": frame_failure,
}


class Line:
    """Queues that share a bell, the batcher behind them, and what it dropped."""

    def __init__(
        self,
        names: str = "a",
        max_batch: int = 4,
        max_wait_ms: float = 0.0,
        max_bytes: int = 10**9,
        max_age_s: float | None = None,
    ) -> None:
        self.bell = threading.Condition()
        self.dropped: list[tuple[str, str]] = []
        self.batcher = Batcher(self.bell, max_batch, max_wait_ms, max_bytes, self._drop)
        self.queues = {name: self.add(name, max_age_s=max_age_s) for name in names}

    def add(
        self, name: str, when_full: WhenFull = "block", max_age_s: float | None = None
    ) -> BoundedQueue[StreamItem]:
        """One more source."""
        queue: BoundedQueue[StreamItem] = BoundedQueue(
            depth=100, max_bytes=10**9, when_full=when_full, size_of=lambda _i: 1, bell=self.bell
        )
        self.batcher.add(name, queue, max_age_s)
        return queue

    def put(self, *items: StreamItem) -> None:
        """Each into its source's queue."""
        for item in items:
            self.queues[item.source_id].put(item)

    def gather(self) -> list[str]:
        return names(self.batcher.gather())

    def close(self) -> None:
        """No more of any source, and no more sources."""
        for queue in self.queues.values():
            queue.close()
        self.batcher.close()

    def _drop(self, captured: Captured, reason: str) -> None:
        self.dropped.append((f"{captured.source_id}{captured.frame_index}", reason))


def names(batch: list[Taken]) -> list[str]:
    return [f"{i.source_id}{i.frame_index}" if isinstance(i, Frame) else "-" for i, _ in batch]


def aged(item: Frame, age_s: float, lag_s: float = 0.0) -> Frame:
    """The frame, captured so long ago."""
    captured_ns = time.monotonic_ns() - int(age_s * 1e9)
    return dataclasses.replace(item, captured_ns=captured_ns, lag_s=lag_s)


def while_it_gathers(line: Line, act: Callable[[], None]) -> list[str]:
    """What a thread that was gathering before, as far as can be told, has gathered after it."""
    gathered: list[list[str]] = []
    thread = threading.Thread(target=lambda: gathered.append(line.gather()))
    thread.start()
    act()
    thread.join(timeout=30)
    return gathered[0]


def test_a_batch_has_at_most_max_batch_frames_in_order() -> None:
    line = Line(max_batch=4)
    line.put(*(frame(index, "a") for index in range(6)))
    assert line.gather() == ["a0", "a1", "a2", "a3"]
    assert line.gather() == ["a4", "a5"]


def test_sources_take_turns_and_the_turn_goes_on_in_the_next_batch() -> None:
    line = Line("abc", max_batch=4)
    line.put(*(frame(index, name) for name in "abc" for index in range(4)))
    assert line.gather() == ["a0", "b0", "c0", "a1"]
    assert line.gather() == ["b1", "c1", "a2", "b2"]


def test_a_silent_source_does_not_hold_the_others_back() -> None:
    line = Line("ab", max_batch=2)
    line.put(frame(0, "b"), frame(1, "b"))
    assert line.gather() == ["b0", "b1"]


def test_a_batch_waits_max_wait_ms_after_its_first_frame_and_no_longer() -> None:
    line = Line(max_wait_ms=80)
    line.put(frame(0, "a"))
    started = time.monotonic()
    assert line.gather() == ["a0"]
    assert time.monotonic() - started >= 0.08


def test_a_frame_that_comes_within_the_wait_joins_the_batch() -> None:
    line = Line(max_batch=2, max_wait_ms=LONG_MS)
    line.put(frame(0, "a"))
    assert while_it_gathers(line, lambda: line.put(frame(1, "a"))) == ["a0", "a1"]


def test_an_incomplete_batch_does_not_wait_when_every_source_has_ended() -> None:
    line = Line("ab", max_wait_ms=LONG_MS)
    line.put(frame(0, "a"))
    line.close()
    assert line.gather() == ["a0"]
    assert line.batcher.ended
    assert line.gather() == []


def test_gather_waits_for_the_first_frame_as_long_as_it_takes() -> None:
    line = Line()
    assert while_it_gathers(line, lambda: line.put(frame(3, "a"))) == ["a3"]


def test_gather_returns_empty_when_the_sources_end_while_it_waits() -> None:
    line = Line("ab")
    assert while_it_gathers(line, line.close) == []


def test_failures_and_ends_keep_their_place_and_are_no_part_of_the_count() -> None:
    line = Line(max_batch=2)
    line.put(frame(0, "a"), frame_failure(1, "a"), frame(2, "a"), source_end("a"))
    assert line.gather() == ["a0", "-", "a2"]
    assert line.gather() == ["-"]


def test_an_end_alone_is_handed_on_at_once() -> None:
    line = Line(max_wait_ms=LONG_MS)
    line.put(source_end("a"))
    assert line.gather() == ["-"]


@pytest.mark.parametrize(("max_bytes", "expected"), [(1, 1), (2 * 48 * 64 * 3, 2)])
def test_pixels_bound_the_batch_too_converted_or_not(max_bytes: int, expected: int) -> None:
    line = Line(max_batch=8, max_bytes=max_bytes)
    line.put(*(frame(index, "a") if index % 2 else latent(index, "a") for index in range(8)))
    assert len(line.gather()) == expected


def test_a_source_that_is_added_while_others_are_gathered_has_its_turn() -> None:
    line = Line("a", max_batch=2)
    line.put(frame(0, "a"), frame(1, "a"))
    line.queues["b"] = line.add("b")
    line.put(frame(0, "b"))
    assert line.gather() == ["a0", "b0"]


def test_a_batcher_without_any_source_waits_for_one_until_it_is_closed() -> None:
    line = Line("")

    def add_and_put() -> None:
        line.queues["late"] = line.add("late")
        line.put(frame(7, "late"))

    assert not line.batcher.ended
    assert while_it_gathers(line, add_and_put) == ["late7"]
    line.queues["late"].close()
    assert not line.batcher.ended
    assert while_it_gathers(line, line.batcher.close) == []
    assert line.batcher.ended


def test_a_source_that_has_ended_leaves_its_name_free_and_its_turn_to_the_others() -> None:
    line = Line("ab", max_batch=2)
    line.put(frame(0, "a"), frame(0, "b"), frame(1, "b"))
    with pytest.raises(BadSetting, match="source a: there is one of this name"):
        line.add("a")
    line.queues["a"].close()
    with pytest.raises(BadSetting):
        line.add("a")
    assert line.gather() == ["a0", "b0"]
    line.queues["a"] = line.add("a")
    line.put(frame(0, "a"))
    assert line.gather() == ["b1", "a0"]


def test_a_frame_that_is_too_old_is_dropped_by_name_and_fills_no_batch() -> None:
    line = Line(max_batch=2, max_age_s=1.0)
    line.put(aged(frame(0, "a"), 1.5), aged(frame(1, "a"), 5), frame(2, "a"), frame(3, "a"))
    assert line.gather() == ["a2", "a3"]
    assert line.dropped == [("a0", "stale"), ("a1", "stale")]


def test_stale_frames_cost_their_source_no_turn() -> None:
    line = Line("ab", max_batch=4)
    line.queues["live"] = line.add("live", max_age_s=1.0)
    line.put(*(frame(index, name) for name in "ab" for index in range(4)))
    line.put(*(aged(frame(index, "live"), 2) for index in range(9)), frame(9, "live"))
    assert line.gather() == ["a0", "b0", "live9", "a1"]
    assert len(line.dropped) == 9


def test_how_late_a_frame_came_counts_as_its_age() -> None:
    line = Line(max_age_s=60.0)
    line.put(aged(frame(0, "a"), 1, lag_s=61.0), aged(frame(1, "a"), 1, lag_s=2.0))
    assert line.gather() == ["a1"]
    assert line.dropped == [("a0", "stale")]


def test_a_frame_that_becomes_too_old_while_its_batch_waits_is_dropped() -> None:
    line = Line(max_wait_ms=LONG_MS, max_age_s=0.05)
    line.queues["b"] = line.add("b")
    line.put(frame(0, "a"))

    def fill_later() -> None:
        while time.monotonic_ns() < old_ns:
            threading.Event().wait(0.01)
        line.put(*(frame(index, "b") for index in range(4)))

    old_ns = time.monotonic_ns() + 60_000_000
    assert while_it_gathers(line, fill_later) == ["b0", "b1", "b2", "b3"]
    assert line.dropped == [("a0", "stale")]


def test_stale_frames_alone_make_no_batch_and_gather_waits_on() -> None:
    line = Line(max_age_s=1.0)
    line.put(aged(frame(0, "a"), 2))
    assert while_it_gathers(line, lambda: line.put(frame(1, "a"))) == ["a1"]


def test_a_files_frames_never_get_too_old() -> None:
    line = Line()
    line.put(aged(frame(0, "a"), 3600))
    assert line.gather() == ["a0"]


def test_a_latent_frame_is_converted_outside_of_the_lock_and_counts_as_decoding() -> None:
    line = Line()
    held: list[bool] = []

    def convert() -> object:
        other = threading.Thread(target=lambda: held.append(line.bell.acquire(timeout=10)))
        other.start()
        other.join()
        return noise(48, 64)

    line.put(latent(0, "a", convert))
    [(item, _)] = line.batcher.gather()
    assert isinstance(item, Frame)
    assert (item.image_hwc == noise(48, 64)).all()
    assert item.decode_ms > 1.5
    assert held == [True]


def test_a_latent_frame_that_can_not_be_converted_fails_alone_in_its_place() -> None:
    def broken() -> object:
        raise DecodeError("a: no such pixel format")

    line = Line()
    line.put(frame(0, "a"), latent(1, "a", broken), frame(2, "a"))
    [(first, _), (failure, _), (last, _)] = line.batcher.gather()
    assert isinstance(failure, FrameFailure)
    assert (failure.frame_index, failure.code) == (1, "decode_error")
    assert [isinstance(item, Frame) for item in (first, last)] == [True, True]


def test_a_dropped_latent_frame_is_never_converted() -> None:
    def never() -> object:
        raise AssertionError

    line = Line(max_age_s=1.0)
    old = dataclasses.replace(latent(0, "a", never), captured_ns=0)
    line.put(old, frame(1, "a"))
    assert line.gather() == ["a1"]


def test_what_was_taken_says_when() -> None:
    line = Line()
    line.put(frame(0, "a"))
    before_ns = time.monotonic_ns()
    [(_, taken_ns)] = line.batcher.gather()
    assert before_ns <= taken_ns <= time.monotonic_ns()


def test_sources_that_can_wait_are_left_waiting_where_only_live_ones_are_asked_for() -> None:
    line = Line("a")
    line.queues["live"] = line.add("live", "drop_oldest")
    line.put(frame(0, "a"), frame(0, "live"))
    assert names(line.batcher.gather(only_live=True)) == ["live0"]
    assert names(line.batcher.gather(until_s=time.monotonic() + 0.01, only_live=True)) == []
    assert line.gather() == ["a0"]


@given(
    st.lists(st.lists(st.sampled_from(list(KINDS)), max_size=12), min_size=1, max_size=5),
    st.integers(1, 6),
)
def test_whatever_comes_each_source_is_whole_and_in_order(
    sources: list[list[str]], max_batch: int
) -> None:
    line = Line("abcde"[: len(sources)], max_batch)
    put: dict[str, list[int]] = {}
    for name, kinds in zip("abcde", sources, strict=False):
        put[name] = list(range(len(kinds)))
        for index, kind in enumerate(kinds):
            line.put(KINDS[kind](index, name))
        line.queues[name].close()
    line.batcher.close()
    got: dict[str, list[int]] = {name: [] for name in put}
    while batch := line.batcher.gather():
        frames = [item for item, _ in batch if isinstance(item, Frame)]
        assert len(frames) <= max_batch
        for item, _ in batch:
            assert isinstance(item, Frame | FrameFailure)
            got[item.source_id].append(item.frame_index)
    assert got == put


def test_an_event_travels_between_the_frames() -> None:
    line = Line()
    line.put(frame(0, "a"), source_event("a"), frame(1, "a"))
    batch = line.batcher.gather()
    assert names(batch) == ["a0", "-", "a1"]
    assert isinstance(batch[1].item, SourceEvent)
