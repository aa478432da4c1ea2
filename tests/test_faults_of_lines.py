"""Lines that break, swallow everything, or lose and delay: said by name, and survived."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cameras import MAX_RETRY_S, RtspServer, camera
from tests.live_run import LiveRun
from tests.lossy_proxy import RtspUdpProxy, TcpProxy
from tests.mount import Mount

pytestmark = pytest.mark.usefixtures("leaves_nothing")

Record = Callable[[str, object], None]
FPS = 20


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer(Mount("cam", fps=FPS)) as server:
        yield server


def test_a_connection_that_is_reset_is_made_again(
    server: RtspServer, steady: dict[str, Any], record_property: Record
) -> None:
    with (
        TcpProxy(server.port) as proxy,
        LiveRun(camera(server.url("cam", port=proxy.port)), steady) as live,
    ):
        live.wait_until_live("cam")
        with live.keeping(steady=15):
            proxy.cut()
            back_s = live.back_after_s("cam", time.monotonic())
            live.wait_for_results("cam", FPS)
        [*before, (lost, code), again, live_again] = live.states("cam")
    assert before == [("connecting", None), ("live", None)]
    assert lost == "backing_off"
    assert code in ("ended", "source_lost")
    assert [again, live_again] == [("connecting", code), ("live", None)]
    assert back_s < MAX_RETRY_S + 2
    record_property("outcome", f"{code}, live again after {back_s:.1f} s; {live.kept}")


def test_a_half_open_connection_stalls_and_is_made_again_once_the_line_is_there(
    server: RtspServer, steady: dict[str, Any], record_property: Record
) -> None:
    limits: dict[str, Any] = {"stall_timeout_s": 1, "open_timeout_s": 1}
    with (
        TcpProxy(server.port) as proxy,
        LiveRun(camera(server.url("cam", port=proxy.port), **limits), steady) as live,
    ):
        live.wait_until_live("cam")
        with live.keeping(steady=15):
            proxy.black_hole()
            live.wait_for_states("cam", ("backing_off", "stalled"), ("backing_off", "timeout"))
            proxy.heal()
            back_s = live.back_after_s("cam", time.monotonic())
            live.wait_for_results("cam", FPS)
        states = live.states("cam")
    assert states[:7] == [
        ("connecting", None),
        ("live", None),
        ("stalled", "stalled"),
        ("backing_off", "stalled"),
        ("connecting", "stalled"),
        ("backing_off", "timeout"),
        ("connecting", "timeout"),
    ]
    assert states[-1] == ("live", None)
    assert back_s < 1 + MAX_RETRY_S + 2
    record_property(
        "outcome",
        f"stalled, then timeout; live again {back_s:.1f} s after the line; {live.kept}",
    )


def test_a_line_that_loses_packets_ends_nothing_and_what_is_damaged_is_marked(
    server: RtspServer, steady: dict[str, Any], record_property: Record
) -> None:
    with (
        RtspUdpProxy(server.port, loss=0.05, jitter_s=0.2) as proxy,
        LiveRun(camera(server.url("cam", port=proxy.port), transport="udp"), steady) as live,
    ):
        live.wait_until_live("cam")
        with live.keeping(steady=15):
            live.wait_for_results("cam", 5 * FPS)
        assert live.states("cam") == [("connecting", None), ("live", None)]
    # FFmpeg puts what comes of two packets, where one between is lost, at either's time.
    wrong = live.wrong_pictures("cam", FPS, tolerance=1)
    unmarked = [result for result in wrong if not result.degraded]
    results = live.results("cam")
    # The frame at the loss itself may still pass for whole: only the next one's time tells.
    assert len(unmarked) <= len(results) / 20
    record_property(
        "outcome",
        f"live throughout; {len(wrong)} of {len(results)} pictures wrong, {len(unmarked)} of them"
        f" not marked; dropped {live.status('cam').ledger.dropped}; {live.kept}",
    )
