"""RTSP cameras, those that behave and those that don't, as the reader sees them."""

import dataclasses
import itertools
import threading
from datetime import UTC, datetime, timedelta

import pytest

from contracts.errors import Ended, Stalled, StreamLost
from stream.network import NetworkReader
from stream.reader import Latent, ReaderOptions, Reading, Transport, Unreadable
from tests.cameras import Login, RtspServer, camera_number
from tests.mount import Mount

OPTIONS = ReaderOptions(max_frame_pixels=10**6, open_timeout_s=20, read_timeout_s=20)
FRAME_S = 1 / 25


def take(reader: NetworkReader, n_readings: int) -> list[Reading]:
    readings = list(itertools.islice(reader.pictures(), n_readings))
    reader.close()
    return readings


def latents_of(readings: list[Reading]) -> list[Latent]:
    return [reading for reading in readings if isinstance(reading, Latent)]


def numbers_of(readings: list[Reading]) -> list[int]:
    return [camera_number(latent.develop()) for latent in latents_of(readings)]


def lags_of(readings: list[Reading]) -> list[float]:
    return [latent.lag_s for latent in latents_of(readings)]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
def test_every_frame_of_a_camera_comes_in_order_with_its_time(
    codec: str, transport: Transport
) -> None:
    with RtspServer(Mount("door", codec=codec), login=Login("user", "se:c@r/et")) as server:  # type: ignore[arg-type]
        url = server.url("door", "user", "se:c@r/et")
        reader = NetworkReader(url, dataclasses.replace(OPTIONS, transport=transport))
        readings = take(reader, 30)
    numbers = numbers_of(readings)
    assert numbers == list(range(numbers[0], numbers[0] + 30))
    times = [latent.pts_s for latent in latents_of(readings) if latent.pts_s is not None]
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert steps == pytest.approx([FRAME_S] * len(steps), abs=0.002)
    assert len(times) >= 29


def test_a_camera_tells_its_own_clock_once_it_has_reported() -> None:
    with RtspServer(Mount("door")) as server:
        readings = NetworkReader(server.url("door"), OPTIONS).pictures()
        # Reports come every few seconds.
        told = (r.sent_at for r in itertools.islice(readings, 500) if isinstance(r, Latent))
        sent_at = list(itertools.islice(filter(None, told), 3))
    assert len(sent_at) == 3
    steps_s = [(after - before).total_seconds() for before, after in itertools.pairwise(sent_at)]
    assert steps_s == pytest.approx([FRAME_S] * 2, abs=0.002)
    # It is the clock of this machine here.
    assert abs(sent_at[-1] - datetime.now(UTC)) < timedelta(seconds=2)


def test_a_camera_that_changes_its_size_is_followed() -> None:
    with RtspServer(Mount("door", resize_every=20)) as server:
        readings = take(NetworkReader(server.url("door"), OPTIONS), 60)
    numbers = numbers_of(readings)
    assert numbers == list(range(numbers[0], numbers[0] + 60))
    shapes = {latent.develop().shape for latent in latents_of(readings)}
    assert shapes == {(240, 320, 3), (120, 160, 3)}


def test_damaged_frames_are_marked_or_failures_and_reading_goes_on() -> None:
    with RtspServer(Mount("door", corrupt_every=10)) as server:
        readings = take(NetworkReader(server.url("door"), OPTIONS), 60)
    bad = [
        reading
        for reading in readings
        if isinstance(reading, Unreadable) or (isinstance(reading, Latent) and reading.degraded)
    ]
    assert 3 <= len(bad) <= 55
    whole = [latent for latent in latents_of(readings) if not latent.degraded]
    assert len(whole) >= 5


@pytest.mark.parametrize("jump_s", [-1000, -2, 2, 1000])
def test_times_that_jump_make_no_lag(jump_s: float) -> None:
    with RtspServer(Mount("door", jump_at=20, jump_s=jump_s)) as server:
        readings = take(NetworkReader(server.url("door"), OPTIONS), 50)
    numbers = numbers_of(readings)
    assert numbers == list(range(numbers[0], numbers[0] + 50))
    assert max(lags_of(readings)) < 1


def test_a_camera_without_a_clock_has_no_lag() -> None:
    with RtspServer(Mount("door", stamped=False)) as server:
        readings = take(NetworkReader(server.url("door"), OPTIONS), 50)
    assert len(latents_of(readings)) == 50
    assert max(lags_of(readings)) == 0


def test_a_camera_that_ends_its_stream_has_ended() -> None:
    with RtspServer(Mount("door", ends_after=30)) as server:
        reader = NetworkReader(server.url("door"), OPTIONS)
        readings: list[Reading] = []
        with pytest.raises(Ended):
            readings.extend(reader.pictures())
    assert numbers_of(readings)[:29] == list(range(29))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_that_freezes_has_stalled(transport: Transport) -> None:
    options = dataclasses.replace(OPTIONS, transport=transport, read_timeout_s=0.5)
    with RtspServer(Mount("door")) as server:
        readings = NetworkReader(server.url("door"), options).pictures()
        assert numbers_of([next(readings) for _ in range(10)])[-1] >= 9
        server.freeze()
        with pytest.raises(Stalled):
            list(readings)


def test_a_camera_that_dies_is_lost_at_once() -> None:
    with RtspServer(Mount("door")) as server:
        readings = NetworkReader(server.url("door"), OPTIONS).pictures()
        next(readings)
        server.kill()
        with pytest.raises(StreamLost) as caught:
            list(readings)
        assert caught.value.code in ("ended", "source_lost")
        server.restart()


def test_frames_that_waited_while_a_camera_was_frozen_are_late() -> None:
    frozen_s = 1.0
    with RtspServer(Mount("door")) as server:
        readings = NetworkReader(server.url("door"), OPTIONS).pictures()
        before = [next(readings) for _ in range(30)]
        server.freeze()
        threading.Event().wait(frozen_s)
        server.thaw()
        after = [next(readings) for _ in range(60)]
    numbers = numbers_of(before + after)
    assert numbers == list(range(numbers[0], numbers[0] + 90))
    assert max(lags_of(after)) > frozen_s / 2
    assert lags_of(after)[-1] < frozen_s / 2
