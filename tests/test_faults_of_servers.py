"""Servers that die, catch up, hide and stay silent: their camera comes back, and no other notices.

One that freezes is in `tests.test_faults_by_name`.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from contracts.messages import FrameResult
from tests.cameras import MAX_RETRY_S, RtspServer, camera, refusing_port, silent_port
from tests.live_run import LiveRun
from tests.mount import Mount
from tests.resources import resident_bytes

pytestmark = pytest.mark.usefixtures("leaves_nothing")

Record = Callable[[str, object], None]
FPS = 10


def test_a_server_that_is_killed_ten_times_is_found_again_each_time(
    steady: dict[str, Any], record_property: Record
) -> None:
    backs_s, resident = [], []
    with (
        RtspServer(Mount("cam", fps=FPS)) as server,
        LiveRun(camera(server.url("cam")), steady) as live,
    ):
        live.wait_until_live("cam")
        with live.keeping(steady=15):
            for _ in range(10):
                server.restart()
                backs_s.append(live.back_after_s("cam", time.monotonic()))
                live.wait_for_results("cam")
                resident.append(resident_bytes())
        states = live.states("cam")
    assert max(backs_s) < MAX_RETRY_S + 2
    assert [state for state in states if state[0] == "live"] == [("live", None)] * 11
    assert {code for _, code in states} <= {None, "ended", "source_lost", "refused"}
    grown_mb = (resident[-1] - resident[2]) / 1e6
    assert grown_mb < 20
    record_property(
        "outcome",
        f"live again {max(backs_s):.1f} s after its server at the latest; {live.kept};"
        f" memory {grown_mb:+.1f} MB over 7 restarts",
    )


def test_what_a_thawed_server_sends_late_is_stale_and_leaves_us_not_behind(
    steady: dict[str, Any], record_property: Record
) -> None:
    with (
        RtspServer(Mount("cam", fps=FPS)) as server,
        LiveRun(camera(server.url("cam"), stall_timeout_s=30), steady) as live,
    ):
        live.wait_for_results("cam", 2 * FPS)
        with live.keeping(steady=15):
            server.freeze()
            live.wait_s(5)
            server.thaw()
            thawed_s = time.monotonic()
            live.wait_s(4)
        late_s = {at_s - thawed_s: s for at_s, s in lateness_by_arrival(live) if at_s > thawed_s}
        assert live.states("cam") == [("connecting", None), ("live", None)]
        stale = live.status("cam").ledger.dropped["stale"]
    assert stale >= 3 * FPS
    # What is older than a second by the camera's clock is not looked at.
    assert max(late_s.values()) < 1.5
    settled_s = max(s for since_s, s in late_s.items() if since_s > 2)
    assert settled_s < 0.5
    record_property(
        "outcome",
        f"{stale} frames stale; what was delivered came {max(late_s.values()):.2f} s late at most,"
        f" and {settled_s:.2f} s from two seconds after the thaw on; {live.kept}",
    )


def lateness_by_arrival(live: LiveRun) -> list[tuple[float, float]]:
    """When each result came, and how much later than the earliest one for its number."""
    came = [
        (at_s, message.detections[0].class_id / FPS)
        for message, at_s in live.heard_of("cam")
        if isinstance(message, FrameResult)
    ]
    start_s = min(at_s - taken_s for at_s, taken_s in came)
    return [(at_s, at_s - taken_s - start_s) for at_s, taken_s in came]


def test_a_camera_whose_server_comes_up_later_joins(
    steady: dict[str, Any], record_property: Record
) -> None:
    server = RtspServer(Mount("cam", fps=FPS))
    with contextlib.ExitStack() as until_it_is_up:
        server.port = until_it_is_up.enter_context(refusing_port())
        with LiveRun(camera(server.url("cam")), steady) as live, live.keeping(steady=15):
            live.wait_for_states("cam", *[("backing_off", "refused")] * 3)
            until_it_is_up.close()
            with server:
                back_s = live.back_after_s("cam", time.monotonic())
                live.wait_for_results("cam", FPS)
    assert back_s < MAX_RETRY_S + 2
    record_property("outcome", f"refused, then live {back_s:.1f} s after its server; {live.kept}")


def test_a_server_that_takes_the_call_and_never_answers_is_a_timeout_each_time(
    steady: dict[str, Any], record_property: Record
) -> None:
    with silent_port() as port:
        silent = camera(f"rtsp://127.0.0.1:{port}/cam", open_timeout_s=1)
        with LiveRun(silent, steady) as live, live.keeping(steady=15):
            live.wait_for_states("cam", *[("backing_off", "timeout")] * 3)
    status = live.status("cam")
    assert {code for _, code in live.states("cam")} == {None, "timeout"}
    assert status.abandoned_threads == 0
    record_property("outcome", f"timeout, {status.connections} attempts; {live.kept}")
