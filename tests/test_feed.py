"""What a source gives: its numbers and times, what is left out and why, and what is told of it."""

import logging
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contracts.errors import CorruptImage, DecodeError, Refused, SourceLost
from contracts.frame import Frame, LatentFrame
from contracts.messages import FrameFailure, LedgerCounts, SourceEvent
from stream.feed import ROUNDING_S, RateLimit
from stream.queue import QueueClosed
from stream.reader import Latent, Reading, Skipped, Unreadable
from tests.messages import CAPTURED_AT
from tests.sources import Line, end_of, events_in, failures_in, frames_in, picture

SECOND_NS = 1_000_000_000


def take_in(line: Line, *readings: Reading) -> None:
    """As the capture thread does."""
    for reading in readings:
        line.feed.take_in(reading, 1.5)


def test_every_reading_gets_the_next_number_whatever_becomes_of_it() -> None:
    line = Line()
    take_in(line, picture(), Skipped(), DecodeError("no"), picture(lag_s=9.0), picture())
    items = line.held()
    assert frames_in(items) == [0, 4]
    assert failures_in(items) == [(2, "decode_error")]
    assert line.ledger.counts() == LedgerCounts(
        captured=5, dropped={"not_decoded": 1, "stale": 1}, in_flight=3
    )


def test_a_latent_frame_keeps_its_pixels_for_later_and_carries_what_is_known_of_it() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    line = Line()
    take_in(
        line,
        Latent(
            lambda: pixels,
            n_bytes=72,
            pts_s=1.5,
            image_id="door",
            degraded=("corrupt_frame",),
            lag_s=0.25,
            sent_at=CAPTURED_AT,
        ),
    )
    assert line.queue.counts().n_bytes == 72
    (frame,) = line.held()
    assert isinstance(frame, LatentFrame)
    assert frame.develop().image_hwc is pixels
    assert (frame.pts_s, frame.image_id, frame.lag_s) == (1.5, "door", 0.25)
    assert frame.develop().sent_at == CAPTURED_AT
    assert frame.degraded == ("corrupt_frame",)


def test_a_failure_carries_the_frame_s_own_place_and_times() -> None:
    line = Line()
    take_in(line, Unreadable(CorruptImage("b.jpg: cut short"), pts_s=0.5, image_id="b.jpg"))
    (failure,) = line.held()
    assert isinstance(failure, FrameFailure)
    assert (failure.image_id, failure.pts_s) == ("b.jpg", 0.5)
    assert (failure.code, failure.message) == ("corrupt_image", "b.jpg: cut short")


def test_all_that_a_paused_live_source_gives_is_dropped_as_one_run_of_paused() -> None:
    line = Line()
    line.feed.running.clear()
    take_in(line, picture(), Skipped(), DecodeError("no"), picture())
    line.feed.running.set()
    take_in(line, picture())
    assert frames_in(line.held()) == [4]
    assert line.ledger.counts().dropped == {"paused": 4}


def test_no_frame_of_a_paused_file_is_lost() -> None:
    line = Line(live=False)
    line.feed.running.clear()
    take_in(line, picture())
    assert frames_in(line.held()) == [0]
    assert line.feed.paused


@pytest.mark.parametrize(
    ("live", "max_age_ms", "lag_s", "kept"),
    [
        (True, None, 0.9, True),
        (True, None, 1.1, False),
        (True, 200.0, 0.3, False),
        (False, None, 1e6, True),
        (False, 200.0, 0.3, False),
    ],
)
def test_a_frame_that_came_too_late_is_stale(
    live: bool, max_age_ms: float | None, lag_s: float, kept: bool
) -> None:
    line = Line(live=live, max_age_ms=max_age_ms)
    take_in(line, picture(lag_s=lag_s))
    assert line.ledger.counts().dropped == ({} if kept else {"stale": 1})


def test_a_file_is_limited_by_its_own_clock_however_fast_it_is_read() -> None:
    line = Line(live=False, max_fps=5.0)
    take_in(line, *(picture(i) for i in range(10)))
    assert frames_in(line.held()) == [0, 2, 4, 6, 8]
    assert line.ledger.counts().dropped == {"rate_limit": 5}


def test_a_live_source_is_limited_by_our_clock_whatever_its_own_says() -> None:
    line = Line(max_fps=0.001)
    take_in(line, picture(0), picture(99), picture(5))
    assert frames_in(line.held()) == [0]
    assert line.ledger.counts().dropped == {"rate_limit": 2}


def test_a_stale_frame_takes_no_other_frame_s_turn() -> None:
    line = Line(max_fps=0.001)
    take_in(line, picture(lag_s=9.0), picture())
    assert frames_in(line.held()) == [1]


def test_what_was_dropped_can_be_told_with_the_next_frame_by_reason() -> None:
    line = Line(depth=1, when_full="drop_oldest")
    take_in(line, Skipped(), picture(), Skipped(), picture(lag_s=9.0), picture(), picture())
    assert frames_in(line.held()) == [5]
    assert line.ledger.drops_before(5) == {"not_decoded": 2, "queue_full": 2, "stale": 1}
    assert line.ledger.drops_before(6) == {}


def test_a_frame_that_nobody_takes_is_dropped_as_shutdown() -> None:
    line = Line()
    line.queue.abandon()
    with pytest.raises(QueueClosed):
        take_in(line, picture())
    assert line.ledger.counts() == LedgerCounts(captured=1, dropped={"shutdown": 1})


def test_it_is_complete_when_max_frames_have_come_dropped_ones_included() -> None:
    line = Line(max_frames=2)
    complete: list[bool] = []
    for reading in (picture(), Skipped()):
        take_in(line, reading)
        complete.append(line.feed.complete)
    assert complete == [False, True]


def test_events_stand_between_the_frames_and_drop_none_of_them() -> None:
    line = Line(depth=1, when_full="drop_oldest")
    line.feed.tell("connecting")
    take_in(line, picture())
    line.feed.tell("backing_off", Refused("rtsp://u:secret@cam: nobody"), 1.23456)
    items = line.held()
    assert [type(item).__name__ for item in items] == ["SourceEvent", "Frame", "SourceEvent"]
    assert events_in(items) == [("connecting", None), ("backing_off", "refused")]
    event = items[2]
    assert isinstance(event, SourceEvent)
    assert event.retry_in_s == 1.235
    assert "secret" not in event.message
    assert event.at.utcoffset() is not None


def test_the_end_follows_the_last_frame_and_closes_the_queue() -> None:
    line = Line(depth=1)
    take_in(line, picture())
    line.feed.end(SourceLost("cam: gone"))
    items = line.rest()
    assert frames_in(items) == [0]
    end = end_of(items)
    assert (end.code, end.message) == ("source_lost", "cam: gone")
    assert end.ledger == LedgerCounts(captured=1, in_flight=1)


def test_nobody_is_left_to_hear_of_the_source_once_its_queue_is_abandoned() -> None:
    line = Line()
    line.queue.abandon()
    line.feed.tell("live")
    line.feed.end(None)
    assert line.held() == []


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    line = Line()
    assert line.feed.fps(time.monotonic_ns()) == 0.0
    take_in(line, *(picture() for _ in range(20)))
    last = line.held()[-1]
    assert isinstance(last, Frame)
    assert line.feed.fps(last.captured_ns) == pytest.approx(20, rel=0.5)
    assert line.feed.fps(last.captured_ns + 4 * SECOND_NS) == pytest.approx(5, rel=0.1)
    assert line.feed.fps(last.captured_ns + 9 * SECOND_NS) == pytest.approx(20 / 9, rel=0.1)
    assert line.feed.fps(last.captured_ns + 11 * SECOND_NS) == 0.0


def test_a_camera_s_failures_are_one_log_line_a_stretch(caplog: pytest.LogCaptureFixture) -> None:
    bad = DecodeError("bad\npacket")
    take_in(Line(), bad, bad, CorruptImage("no"), bad, picture(), bad)
    assert [record.getMessage() for record in caplog.records] == [
        "cam#0: decode_error: bad packet",
        "cam#2: corrupt_image: no",
        "cam#3: decode_error: bad packet",
        "cam#5: decode_error: bad packet",
    ]


def test_a_file_s_failures_are_one_log_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire.stream")
    take_in(Line(live=False), CorruptImage("a.jpg: cut"), CorruptImage("b.jpg: cut"))
    assert [record.getMessage() for record in caplog.records] == [
        "cam#0: corrupt_image: a.jpg: cut",
        "cam#1: corrupt_image: b.jpg: cut",
    ]


rates = st.floats(0.1, 1000)


@given(fps=rates, faster=st.floats(1.0, 50.0), n=st.integers(1, 300))
def test_of_a_steady_stream_the_limit_s_share_passes_evenly(
    fps: float, faster: float, n: int
) -> None:
    limit, every_s = RateLimit(fps), 1 / (fps * faster)
    taken_s = [i * every_s for i in range(n) if limit.takes(i * every_s)]
    assert abs(len(taken_s) - (n - 1) * every_s * fps) <= 1 + ROUNDING_S * fps
    for before_s, after_s in pairwise(taken_s):
        assert abs(after_s - before_s - 1 / fps) <= every_s + ROUNDING_S


@given(fps=rates, gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60), start_s=st.floats(0, 9))
def test_no_stretch_of_any_stream_gives_more_than_the_limit_and_two(
    fps: float, gaps: list[float], start_s: float
) -> None:
    """`gaps` are in periods of the limit, so that everything happens about where it matters."""
    limit = RateLimit(fps)
    times_s = start_s + np.cumsum(gaps) / fps
    taken_s = [float(time_s) for time_s in times_s if limit.takes(float(time_s))]
    assert taken_s[0] == times_s[0]
    for i, first_s in enumerate(taken_s):
        for n, last_s in enumerate(taken_s[i:], start=1):
            assert n <= (last_s - first_s + ROUNDING_S) * fps + 2 + 1e-6


@given(rates, st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_after_a_jump_the_limit_starts_anew(fps: float, before_s: float, after_s: float) -> None:
    assume(abs(after_s - before_s) > 4 / fps)
    limit = RateLimit(fps)
    assert limit.takes(before_s)
    assert limit.takes(after_s)
    assert not limit.takes(after_s + 0.4 / fps) or 0.6 / fps < ROUNDING_S + 1e-6


@given(fps=st.floats(1, 60), slower=st.floats(0, 0.5), seed=st.integers(0, 1000))
def test_a_jittering_stream_that_is_no_faster_than_the_limit_loses_next_to_nothing(
    fps: float, slower: float, seed: int
) -> None:
    jitter = np.random.default_rng(seed).uniform(-0.25, 0.25, 300)
    times_s = (np.arange(300) * (1 + slower) + jitter) / fps
    limit = RateLimit(fps)
    assert sum(limit.takes(float(time_s)) for time_s in times_s) >= 298


@given(st.lists(st.floats(-1e9, 1e9)))
def test_without_a_limit_every_frame_passes(times_s: list[float]) -> None:
    limit = RateLimit(None)
    assert all(limit.takes(time_s) for time_s in times_s)
