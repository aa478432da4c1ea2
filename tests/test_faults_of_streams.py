"""Streams that are damaged, change, or have a clock that can't be trusted: reading goes on."""

import functools
import io
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cameras import RtspServer, camera
from tests.clips import painted
from tests.live_run import LiveRun
from tests.mount import Mount
from tests.senders import Line, serving

pytestmark = pytest.mark.usefixtures("leaves_nothing")

Record = Callable[[str, object], None]
FPS = 20
MOUNTS = (
    Mount("damaged", fps=FPS, corrupt_every=10),
    Mount("damaged265", codec="h265", fps=FPS, corrupt_every=10),
    Mount("resized", fps=FPS, resize_every=30),
    Mount("unstamped", fps=FPS, stamped=False),
    Mount("forward", fps=FPS, jump_at=3 * FPS, jump_s=3600),
    Mount("slow", fps=FPS, clock=0.8),
    Mount("back", fps=FPS, jump_at=3 * FPS, jump_s=-3600),
)


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer(*MOUNTS) as server:
        yield server


def watched(live: LiveRun, n_results: int = 5 * FPS) -> None:
    """So many results have come, at their rate, from one connection."""
    with live.keeping(cam=FPS, steady=15):
        live.wait_for_results("cam", n_results)


def test_damaged_h264_is_marked_with_all_that_is_built_upon_it(
    server: RtspServer, steady: dict[str, Any], record_property: Record
) -> None:
    with LiveRun(camera(server.url("damaged")), steady) as live:
        watched(live)
    results, wrong = live.results("cam"), live.wrong_pictures("cam", FPS)
    marked = [result for result in results if result.degraded]
    assert wrong
    assert [result for result in wrong if not result.degraded] == []
    assert len(marked) < len(results)
    record_property(
        "outcome",
        f"live throughout; {len(wrong)} of {len(results)} pictures wrong, {len(marked)} marked,"
        f" all wrong ones among them; {live.kept}",
    )


def test_damaged_h265_ends_nothing(
    server: RtspServer, steady: dict[str, Any], record_property: Record
) -> None:
    with LiveRun(camera(server.url("damaged265")), steady) as live:
        watched(live)
    results, wrong = live.results("cam"), live.wrong_pictures("cam", FPS)
    # FFmpeg's decoder does not notice it, so that nobody can say it.
    unmarked = [result for result in wrong if not result.degraded]
    record_property(
        "outcome",
        f"live throughout; {len(wrong)} of {len(results)} pictures wrong, {len(unmarked)} of them"
        f" not marked; {live.kept}",
    )


def test_a_camera_that_changes_its_size_is_followed(
    server: RtspServer, steady: dict[str, Any], record_property: Record
) -> None:
    with LiveRun(camera(server.url("resized"), queue_depth=32), steady) as live:
        watched(live)
        results, numbers = live.results("cam"), live.numbers("cam")
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    widths = [result.width for result in results]
    assert widths == [320 if number // 30 % 2 == 0 else 160 for number in numbers]
    record_property("outcome", f"{len(numbers)} frames in a row, 320 and 160 wide; {live.kept}")


@pytest.mark.parametrize("path", ["forward", "back"])
def test_a_clock_that_jumps_an_hour_makes_no_frame_stale(
    server: RtspServer, steady: dict[str, Any], record_property: Record, path: str
) -> None:
    with LiveRun(camera(server.url(path), queue_depth=32), steady) as live:
        watched(live, 6 * FPS)
        results, numbers = live.results("cam"), live.numbers("cam")
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[-1] > 4 * FPS
    assert live.status("cam").ledger.dropped == {}
    times = [result.pts_s for result in results if result.pts_s is not None]
    jumps = [b - a for a, b in itertools.pairwise(times) if abs(b - a - 1 / FPS) > 0.01]
    assert len(jumps) == 1
    record_property("outcome", f"{len(numbers)} frames in a row over {jumps[0]:.1f} s; {live.kept}")


def test_a_clock_that_runs_slow_makes_no_frame_stale_once_it_is_known(
    server: RtspServer, steady: dict[str, Any], record_property: Record
) -> None:
    with LiveRun(camera(server.url("slow"), queue_depth=32), steady) as live:
        # By then a frame seems to be late by more than a second.
        live.wait_for(lambda: live.status("cam").ledger.captured > 7 * FPS, "seven seconds")
        stale = live.status("cam").ledger.dropped.get("stale", 0)
        with live.keeping(cam=FPS, steady=15):
            live.wait_for_results("cam", 3 * FPS)
    assert live.status("cam").ledger.dropped.get("stale", 0) == stale
    assert stale < FPS
    record_property(
        "outcome", f"{len(live.results('cam'))} results, {stale} stale at first; {live.kept}"
    )


def test_frames_that_all_bear_one_stamp_are_delivered(
    server: RtspServer, steady: dict[str, Any], record_property: Record
) -> None:
    with LiveRun(camera(server.url("unstamped"), queue_depth=32), steady) as live:
        watched(live)
        results, numbers = live.results("cam"), live.numbers("cam")
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len({result.pts_s for result in results}) <= 2
    record_property("outcome", f"{len(numbers)} frames in a row; {live.kept}")


def test_frames_without_any_time_are_delivered(
    steady: dict[str, Any], record_property: Record
) -> None:
    with (
        serving(send_jpegs) as port,
        LiveRun(camera(f"http://127.0.0.1:{port}/cam.mjpg", queue_depth=32), steady) as live,
    ):
        watched(live)
        results, numbers = live.results("cam"), live.numbers("cam")
    assert {result.pts_s for result in results} == {None}
    assert numbers == list(range(len(numbers)))
    record_property("outcome", f"{len(numbers)} frames in a row; {live.kept}")


def send_jpegs(line: Line) -> None:
    """As cameras do over HTTP: each JPEG is a part of an answer that never ends."""
    line.request()
    line.send(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n")
    start_s = time.monotonic()
    for number in range(60 * FPS):
        line.stall(max(0.0, start_s + number / FPS - time.monotonic()))
        data = jpeg_of(number)
        head = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        line.send(head.encode() + data + b"\r\n")


@functools.cache
def jpeg_of(number: int) -> bytes:
    """A JPEG that says its number, as `camera_number` reads it."""
    halves = [painted(byte, (120, 320))[:90] for byte in divmod(number, 256)[::-1]]
    file = io.BytesIO()
    Image.fromarray(np.concatenate([halves[0], halves[1][::-1]])).save(file, "JPEG")
    return file.getvalue()
