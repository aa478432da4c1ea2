"""Six defects that pipelines of this kind are known for, each a test that this one has it not."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import InferenceHung
from contracts.messages import FrameFailure, SourceEvent
from tests.cameras import MAX_RETRY_S, Login, RtspServer, camera, refusing_port, silent_port
from tests.live_run import CameraDetector, LiveRun
from tests.mount import Mount
from tests.sources import Hang

pytestmark = pytest.mark.usefixtures("leaves_nothing")

Record = Callable[[str, object], None]


def test_with_a_slow_consumer_every_captured_frame_is_in_some_counter(
    record_property: Record,
) -> None:
    never = threading.Event()

    def take_200_ms(_indices: list[int]) -> None:
        never.wait(0.2)

    with (
        RtspServer(Mount("cam", fps=100)) as server,
        LiveRun(
            camera(server.url("cam")), detector=CameraDetector(take_200_ms), max_batch=1
        ) as live,
    ):
        live.wait_until_live("cam")
        with live.keeping(cam=100):
            live.wait_for_results("cam", 5 * 5)
        results = live.results("cam")
    counts = live.status("cam").ledger
    assert set(counts.dropped) <= {"queue_full", "not_decoded"}
    assert counts.failed == {}
    limit_ms = 200 + 10 + 10
    """One batch, one frame interval, and `max_wait_ms`."""
    ages_ms = [result.stage_ms.queue_ms + result.stage_ms.batch_ms for result in results]
    assert max(ages_ms) < limit_ms
    record_property(
        "outcome",
        f"captured {counts.captured} = delivered {counts.delivered} + dropped {counts.dropped};"
        f" at most {max(ages_ms):.0f} ms old when looked at; {live.kept}",
    )


def test_a_rate_that_is_not_the_declared_one_loses_no_frame(record_property: Record) -> None:
    with (
        RtspServer(Mount("cam", fps=28.7, declared_fps=30)) as server,
        LiveRun(camera(server.url("cam"), queue_depth=64)) as live,
        live.keeping(cam=28.7),
    ):
        live.wait_for_results("cam", 6 * 28)
    numbers = live.numbers("cam")
    assert numbers == list(range(len(numbers)))
    counts = live.status("cam").ledger
    assert counts.captured == counts.delivered == len(numbers)
    record_property(
        "outcome",
        f"captured {counts.captured} = delivered {counts.delivered}, numbers 0 to {numbers[-1]}"
        f" without a gap; {live.kept}",
    )


def test_an_exception_in_the_model_ends_no_camera(
    steady: dict[str, Any], record_property: Record
) -> None:
    def fault(indices: list[int]) -> None:
        if any(20 <= index < 30 for index in indices):
            raise RuntimeError("no kernel image is available")

    with (
        RtspServer(Mount("cam", fps=10)) as server,
        LiveRun(camera(server.url("cam")), steady, detector=CameraDetector(fault)) as live,
        live.keeping(cam=10, steady=15),
    ):
        live.wait_for(
            lambda: all(live.results(name)[-1].frame_index > 50 for name in ("cam", "steady")),
            "results after the fault",
        )
    failed = {name: live.status(name).ledger.failed for name in ("cam", "steady")}
    for codes in failed.values():
        assert set(codes) <= {"inference_error", "model_unavailable"}
        assert 5 <= sum(codes.values()) <= 20
    record_property("outcome", f"both live throughout; failed: {failed}; {live.kept}")


def test_dead_sources_at_the_start_hold_up_nobody(record_property: Record) -> None:
    names = [f"cam{number}" for number in range(5)]
    mounts = [Mount(name, fps=10) for name in names]
    with RtspServer(*mounts) as server, refusing_port() as refusing, silent_port() as silent:
        dead = [
            camera(f"rtsp://127.0.0.1:{refusing}/a", "refused"),
            camera(f"rtsp://127.0.0.1:{silent}/a", "silent", open_timeout_s=5),
            camera(server.url("nothing"), "not-found"),
        ]
        with LiveRun(*dead, *[camera(server.url(name), name) for name in names]) as live:
            started_s = time.monotonic()
            live.wait_until_live(*names)
            live_s = time.monotonic() - started_s
            assert live.states("silent") == [("connecting", None)]
            with live.keeping(**dict.fromkeys(names, 10.0)):
                live.wait_for_states("silent", ("backing_off", "timeout"))
    assert set(live.states("refused")) >= {("backing_off", "refused")}
    assert set(live.states("not-found")) >= {("backing_off", "not_found")}
    assert live.status("not-found").connections <= 3
    record_property(
        "outcome",
        f"5 cameras live after {live_s:.1f} s, at {min(live.rates.values()):.1f} to"
        f" {max(live.rates.values()):.1f} of 10 frames/s; refused"
        f" {live.status('refused').connections}×, not_found"
        f" {live.status('not-found').connections}×, timeout",
    )


def test_a_wrong_password_is_not_hammered_and_the_right_one_joins(
    tmp_path: Path,
    steady: dict[str, Any],
    record_property: Record,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong")
    with RtspServer(Mount("cam", fps=10), login=Login("anna", "right")) as server:
        url = f"rtsp://anna:${{file:{secret}}}@127.0.0.1:{server.port}/cam"
        with (
            caplog.at_level(logging.INFO),
            LiveRun(camera(url, max_retry_s=0.1), steady) as live,
        ):
            with live.keeping(steady=15):
                live.wait_for_states("cam", *[("backing_off", "auth_failed")] * 4)
            attempts = live.status("cam").connections
            secret.write_text("right")
            back_s = live.back_after_s("cam", time.monotonic())
            live.wait_for_results("cam")
    events = [one.message for one in live.heard_of("cam") if isinstance(one.message, SourceEvent)]
    waits_s = [event.retry_in_s for event in events if event.retry_in_s is not None]
    assert min(waits_s) >= 0.8 * 10 * 0.1 * 0.99
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["auth_failed" in line for line in lines] == [True]
    assert not [line for line in caplog.messages if "wrong" in line.partition("auth_failed")[0]]
    assert back_s < 1 + 2
    record_property(
        "outcome",
        f"{attempts} attempts, {min(waits_s):.2f} s apart at least, one line in the log;"
        f" live {back_s:.1f} s after the password was right; {live.kept}",
    )


def test_a_frozen_camera_gives_no_old_and_no_black_frames(
    steady: dict[str, Any], record_property: Record
) -> None:
    with (
        RtspServer(Mount("cam", fps=10)) as server,
        LiveRun(camera(server.url("cam"), stall_timeout_s=2, open_timeout_s=1), steady) as live,
    ):
        live.wait_until_live("cam")
        with live.keeping(steady=15):
            server.freeze()
            frozen_s = time.monotonic()
            live.wait_for_states("cam", ("stalled", "stalled"))
            stalled_s = time.monotonic() - frozen_s
            before = live.numbers("cam")
            live.wait_s(8 - stalled_s)
            assert live.numbers("cam") == before
            server.thaw()
            back_s = live.back_after_s("cam", time.monotonic())
            live.wait_for_results("cam", 10)
    assert 1 < stalled_s < 2 + 1
    assert back_s < 1 + MAX_RETRY_S + 2
    for result in live.results("cam"):
        assert result.pts_s is None or round(result.pts_s * 10) == result.detections[0].class_id
    record_property(
        "outcome",
        f"stalled after {stalled_s:.1f} s, nothing delivered until the thaw, back {back_s:.1f} s"
        f" after it; {live.kept}",
    )


def test_a_detector_that_hangs_is_not_nothing_there(record_property: Record) -> None:
    with RtspServer(Mount("cam", fps=10)) as server, Hang() as hang:
        detector = CameraDetector(lambda indices: hang() if indices[-1] >= 20 else None)
        with LiveRun(
            camera(server.url("cam")),
            detector=detector,
            breaks_off=InferenceHung,
            inference_timeout_s=1,
        ) as live:
            live.wait_for(lambda: live.failure, "the run's failure")
        assert live.failure is not None
        assert live.failure.exit_status == 70
        heard = [message for message, _ in live.heard_of("cam")]
        assert not [message for message in heard if isinstance(message, FrameFailure)]
        assert max(result.frame_index for result in live.results("cam")) < 20
        assert all(result.detections for result in live.results("cam"))
        counts = live.run.feeds["cam"].ledger.counts()
        assert counts.failed["inference_hung"] >= 1
    record_property("outcome", f"{live.failure}; exit 70; failed by name: {counts.failed}")
