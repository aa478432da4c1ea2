"""A file as a camera: at its own speed, without end where it loops, and stopped at once."""

import dataclasses
import itertools
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

from contracts.errors import DecodeError, FrameTooLarge, SourceNotFound, TruncatedVideo
from stream.pace import Pace
from stream.reader import Latent, ReaderOptions, Reading, Unreadable
from stream.realtime import RealtimeReader
from tests import clips
from tests.clips import FFV1, H264, Look, number_in, write_clip
from tests.resources import held, released

OPTIONS = ReaderOptions(max_frame_pixels=10**6, realtime=True)
LOOPING = dataclasses.replace(OPTIONS, loop=True)
FAST = Fraction(1, 200)
"""The test waits for each frame's time: five milliseconds."""


def number_of(reading: Reading) -> int:
    assert isinstance(reading, Latent)
    return number_in(reading.develop())


def pts_of(readings: list[Reading]) -> list[float | None]:
    return [r.pts_s for r in readings if isinstance(r, Latent | Unreadable)]


def test_every_frame_comes_at_its_own_time_and_not_before(tmp_path: Path) -> None:
    ticks = [50, 51, 52, 60, 61, 80]
    clip = write_clip(tmp_path / "a.mkv", 6, FFV1, ticks, Fraction(1, 100))
    reader = RealtimeReader(clip, OPTIONS)
    readings, came_s = [], []
    for reading in reader.pictures():
        readings.append(reading)
        came_s.append(time.monotonic())
    assert [number_of(reading) for reading in readings] == list(range(6))
    assert pts_of(readings) == pytest.approx([tick / 100 for tick in ticks])
    for tick, at_s in zip(ticks, came_s, strict=True):
        assert at_s - came_s[0] >= (tick - 50) / 100 - 0.02


def test_a_loop_begins_again_with_times_that_go_on(tmp_path: Path) -> None:
    ticks = [100, 101, 102, 103]
    clip = write_clip(tmp_path / "a.mkv", 4, FFV1, ticks, FAST)
    readings = list(itertools.islice(RealtimeReader(clip, LOOPING).pictures(), 14))
    assert [number_of(reading) for reading in readings] == [0, 1, 2, 3] * 3 + [0, 1]
    assert pts_of(readings) == pytest.approx([(100 + i) / 200 for i in range(14)], abs=1e-3)


def test_a_file_without_times_keeps_its_frame_rate(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.h264", 5, Look(options={"bf": "0"}), time_base=Fraction(1, 50))
    started_s = time.monotonic()
    readings = list(itertools.islice(RealtimeReader(clip, LOOPING).pictures(), 8))
    assert time.monotonic() - started_s >= 7 / 50
    assert [number_of(reading) for reading in readings] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert pts_of(readings) == [None] * 8


def test_it_stops_in_the_middle_of_a_wait(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", 2, FFV1, [0, 3600], Fraction(1))
    stop = threading.Event()
    readings = RealtimeReader(clip, dataclasses.replace(LOOPING, stop=stop)).pictures()
    assert number_of(next(readings)) == 0
    rest: list[Reading] = []
    waiting = threading.Thread(target=lambda: rest.extend(readings))
    waiting.start()
    stop.set()
    waiting.join(10)
    assert not waiting.is_alive()
    assert rest == []


def test_a_frame_that_comes_late_says_so_and_one_that_is_much_too_late_sets_the_time() -> None:
    pace = Pace(threading.Event())
    assert pace.wait_for(100.0) == 0
    assert 0.5 <= pace.wait_for(99.5) <= 1
    assert pace.wait_for(90.0) == 0
    assert 0.5 <= pace.wait_for(89.5) <= 1


def test_a_wait_that_is_too_long_is_left_out() -> None:
    pace = Pace(threading.Event(), longest_wait_s=0.01)
    assert pace.wait_for(0.0) == 0
    assert pace.wait_for(1e6) == 0


def test_damage_and_what_a_file_ends_with_are_as_in_the_file(tmp_path: Path) -> None:
    look = dataclasses.replace(clips.FASTSTART, options={"g": "10", "bf": "0"})
    whole = write_clip(tmp_path / "a.mp4", 30, look, time_base=FAST)
    readings = list(RealtimeReader(clips.ruin_packet(whole, 12), OPTIONS).pictures())
    errors = [r.error for r in readings if isinstance(r, Unreadable)]
    assert [type(error) for error in errors] == [DecodeError]
    taken: list[Reading] = []
    with pytest.raises(TruncatedVideo):
        taken.extend(RealtimeReader(clips.cut(whole, -300), OPTIONS).pictures())
    small = dataclasses.replace(OPTIONS, max_frame_pixels=10)
    first = next(RealtimeReader(whole, small).pictures())
    assert isinstance(first, Unreadable)
    assert isinstance(first.error, FrameTooLarge)
    with pytest.raises(SourceNotFound):
        RealtimeReader(tmp_path / "nothing.mp4", OPTIONS)


def test_loops_leave_no_thread_and_no_file_open(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 3, H264, time_base=FAST)
    before = held()
    for n_readings in (0, 1, 8) * 5:
        read_some(clip, n_readings)
    assert released(before)


def read_some(clip: Path, n_readings: int) -> None:
    reader = RealtimeReader(clip, LOOPING)
    readings = itertools.islice(reader.pictures(), n_readings)
    assert len(list(readings)) == n_readings
    reader.close()
    reader.close()


def test_it_is_live_and_has_no_length(tmp_path: Path) -> None:
    reader = RealtimeReader(write_clip(tmp_path / "a.mp4", 2), OPTIONS)
    assert reader.live
    assert reader.frame_count_hint is None
    reader.close()
