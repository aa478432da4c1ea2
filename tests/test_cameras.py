"""The test bench for cameras, seen with PyAV alone: cameras, ports and proxies do what they say."""

import asyncio
import contextlib
import gc
import itertools
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Literal

import av
import numpy as np
import pytest

from tests.cameras import Login, RtspServer, camera_number, refusing_port, silent_port
from tests.lossy_proxy import LossyRelay, RtspUdpProxy, TcpProxy
from tests.mount import Mount
from tests.resources import held, released

CAMERAS = (
    Mount("h264"),
    Mount("h265", codec="h265"),
    Mount("mjpeg", codec="mjpeg"),
    Mount("fast", fps=100),
    Mount("boastful", fps=28.7, declared_fps=30),
    Mount("short", ends_after=30),
    Mount("resized", resize_every=10),
    Mount("damaged", corrupt_every=10),
    Mount("forward", jump_at=10, jump_s=3600),
    Mount("back", jump_at=10, jump_s=-3600),
    Mount("unstamped", stamped=False),
    Mount("shared", shared=True),
)

NO_ANSWER = (av.ExitError, av.InvalidDataError)
"""What FFmpeg makes of a server that does not answer in time: the latter while it opens RTSP."""


@pytest.fixture(scope="module")
def cameras() -> Iterator[RtspServer]:
    with RtspServer(*CAMERAS) as server:
        yield server


def watch(
    url: str, transport: str = "tcp", timeout_s: float | tuple[float, float] = 20
) -> Iterator[av.VideoFrame]:
    """Frames as PyAV gives them; a read that takes longer raises `av.ExitError`."""
    # To guess the frame rate would take FFmpeg a second for each stream.
    options = {"rtsp_transport": transport, "fpsprobesize": "0", "analyzeduration": "500000"}
    with av.open(url, options=options, timeout=timeout_s) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.InvalidDataError):  # The line ended within a frame.
                yield from packet.decode()


def first(n: int, frames: Iterator[av.VideoFrame]) -> list[av.VideoFrame]:
    return list(itertools.islice(frames, n))


def ends(frames: Iterator[av.VideoFrame]) -> bool:
    """Whether the stream ends soon, with an error or without: FFmpeg has both for a cut line."""
    try:
        return len(first(100, frames)) < 100
    except av.ConnectionResetError:
        return True


def numbers(frames: list[av.VideoFrame]) -> list[int]:
    return [
        camera_number(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)) for frame in frames
    ]


def steps_s(frames: list[av.VideoFrame]) -> list[float]:
    """From each frame's time to the next one's; the first frame of a stream may have no time."""
    times_s = [frame.time for frame in frames if frame.time is not None]
    return [round(b - a, 3) for a, b in itertools.pairwise(times_s)]


@contextlib.contextmanager
def echoing_port() -> Iterator[int]:
    """A port that sends back what it gets, to one connection after the other."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(100):
                self.request.sendall(data)

    with socketserver.TCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(100)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("path", ["h264", "h265", "mjpeg"])
def test_every_frame_comes_with_its_number_and_time(
    cameras: RtspServer, path: str, transport: str
) -> None:
    frames = first(20, watch(cameras.url(path), transport))
    assert numbers(frames) == list(range(20))
    assert set(steps_s(frames)) == {0.04}
    assert {(frame.width, frame.height) for frame in frames} == {(320, 240)}


def test_headers_can_claim_another_rate_than_the_frames_have(cameras: RtspServer) -> None:
    with av.open(cameras.url("boastful"), timeout=20) as container:
        assert container.streams.video[0].average_rate == 30
        frames = first(20, container.decode(video=0))
    assert set(steps_s(frames)) == {0.035}


def test_a_hundred_frames_a_second_come_complete(cameras: RtspServer) -> None:
    frames = first(300, watch(cameras.url("fast")))
    assert numbers(frames) == list(range(300))
    assert set(steps_s(frames)) == {0.01}


def test_a_stream_ends_after_as_many_frames_as_asked(cameras: RtspServer) -> None:
    assert numbers(list(watch(cameras.url("short")))) == list(range(30))


def test_the_picture_changes_its_size_and_changes_back(cameras: RtspServer) -> None:
    frames = first(30, watch(cameras.url("resized")))
    assert numbers(frames) == list(range(30))
    assert [frame.width for frame in frames] == [320] * 10 + [160] * 10 + [320] * 10


def test_damage_stays_between_two_key_frames(cameras: RtspServer) -> None:
    frames = first(60, watch(cameras.url("damaged")))
    wrong = {i for i, number in enumerate(numbers(frames)) if i != number}
    marked = {i for i, frame in enumerate(frames) if frame.is_corrupt}
    assert {10, 20, 30, 40} & (wrong | marked)
    assert not {*range(10), 25, *range(26, 30), 50} & (wrong | marked)


def test_timestamps_jump_and_frames_do_not(cameras: RtspServer) -> None:
    forward, back = (first(20, watch(cameras.url(path))) for path in ("forward", "back"))
    assert numbers(forward) == numbers(back) == list(range(20))
    assert set(steps_s(forward)) == {0.04, 3600.04}
    # RTP's 32 bits at 90 kHz: FFmpeg takes a jump back for one of the counter's turns.
    assert set(steps_s(back)) == {0.04, round(2**32 / 90_000 - 3600 + 0.04, 3)}


def test_frames_without_timestamps_of_their_own_all_have_the_same(cameras: RtspServer) -> None:
    frames = first(20, watch(cameras.url("unstamped")))
    assert numbers(frames) == list(range(20))
    assert set(steps_s(frames)) == {0}


def test_each_client_starts_a_camera_of_its_own_unless_it_is_shared(cameras: RtspServer) -> None:
    own, shared = watch(cameras.url("h264")), watch(cameras.url("shared"))
    assert numbers([next(own), next(shared)]) == [0, 0]
    [second_own] = numbers(first(1, watch(cameras.url("h264"))))
    [second_shared] = numbers(first(1, watch(cameras.url("shared"))))
    assert second_own == 0
    assert second_shared > 0


@pytest.mark.parametrize("method", ["digest", "basic"])
def test_only_who_logs_in_gets_frames(method: Literal["digest", "basic"]) -> None:
    with RtspServer(Mount("cam"), login=Login("anna", "p@:/ss", method)) as server:
        assert numbers(first(2, watch(server.url("cam", "anna", "p@:/ss")))) == [0, 1]
        for url in (
            server.url("cam"),
            server.url("cam", "anna", "wrong"),
            server.url("cam", "otto", "p@:/ss"),
        ):
            with pytest.raises(av.HTTPUnauthorizedError):
                next(watch(url))


def test_a_killed_server_leaves_nothing_and_comes_back_at_its_port() -> None:
    before = held()
    with RtspServer(Mount("cam")) as server:
        frames, port = watch(server.url("cam")), server.port
        assert numbers([next(frames)]) == [0]
        server.kill()
        assert ends(frames)
        with pytest.raises(av.ConnectionRefusedError):
            next(watch(server.url("cam")))
        server.restart()
        assert server.port == port
        assert numbers(first(2, watch(server.url("cam")))) == [0, 1]
        process = server.process
    assert process.returncode == -signal.SIGKILL
    del frames
    gc.collect()
    assert released(before)


def test_a_frozen_server_stalls_its_clients_and_serves_again_when_thawed() -> None:
    with RtspServer(Mount("cam")) as server:
        frames = watch(server.url("cam"), timeout_s=(20, 2))
        next(frames)
        server.freeze()
        with pytest.raises(av.ExitError):
            list(frames)
        with pytest.raises(NO_ANSWER):
            next(watch(server.url("cam"), timeout_s=1))
        server.thaw()
        assert numbers(first(2, watch(server.url("cam")))) == [0, 1]
        server.freeze()
    assert server.process.returncode == -signal.SIGKILL


def test_the_server_ends_when_whoever_started_it_is_gone() -> None:
    with RtspServer(Mount("cam")) as server:
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(30) == 0


def test_a_cut_line_is_noticed_at_once_and_can_be_dialled_again(cameras: RtspServer) -> None:
    with TcpProxy(cameras.port) as proxy:
        url = cameras.url("h264", port=proxy.port)
        frames = watch(url)
        next(frames)
        proxy.cut()
        assert ends(frames)
        assert numbers(first(2, watch(url))) == [0, 1]


@pytest.mark.parametrize(("transport", "line"), [("tcp", TcpProxy), ("udp", RtspUdpProxy)])
def test_a_black_hole_stalls_what_is_open_and_what_is_new_until_it_heals(
    cameras: RtspServer, transport: str, line: type[TcpProxy]
) -> None:
    with line(cameras.port) as proxy:
        url = cameras.url("h264", port=proxy.port)
        frames = watch(url, transport, timeout_s=(20, 2))
        next(frames)
        proxy.black_hole()
        with pytest.raises(av.ExitError):
            list(frames)
        with pytest.raises(NO_ANSWER):
            next(watch(url, transport, timeout_s=1))
        proxy.heal()
        assert numbers(first(2, watch(url, transport))) == [0, 1]


def test_a_black_hole_holds_back_what_comes_and_healed_lets_it_through() -> None:
    with echoing_port() as port, TcpProxy(port) as proxy, connected(proxy.port) as client:
        assert ask(client, b"before") == b"before"
        proxy.black_hole()
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(client, b"meanwhile")
        client.settimeout(20)
        proxy.heal()
        assert client.recv(100) == b"meanwhile"


def test_a_cut_resets_the_connection() -> None:
    with echoing_port() as port, TcpProxy(port) as proxy, connected(proxy.port) as client:
        assert ask(client, b"before") == b"before"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_a_slow_line_delays_every_answer_and_keeps_its_order() -> None:
    with (
        echoing_port() as port,
        TcpProxy(port, delay_s=0.02, jitter_s=0.02) as proxy,
        connected(proxy.port) as client,
    ):
        start_s = time.monotonic()
        assert [ask(client, b"%d" % i) for i in range(5)] == [b"%d" % i for i in range(5)]
        assert time.monotonic() - start_s >= 5 * 2 * 0.02


def test_a_proxy_to_nowhere_hangs_up_and_leaves_nothing() -> None:
    before = held()
    with refusing_port() as port, TcpProxy(port) as proxy, connected(proxy.port) as client:
        assert client.recv(100) == b""
    assert released(before)


def test_a_line_over_udp_is_whole_unless_loss_is_asked_for(cameras: RtspServer) -> None:
    with RtspUdpProxy(cameras.port) as proxy:
        frames = first(20, watch(cameras.url("h264", port=proxy.port), "udp"))
        assert proxy.relays[0].received >= 20
    assert numbers(frames) == list(range(20))


def test_a_lossy_line_over_udp_loses_frames_and_goes_on(cameras: RtspServer) -> None:
    with RtspUdpProxy(cameras.port, loss=0.05, jitter_s=0.2) as proxy:
        frames = first(200, watch(cameras.url("fast", port=proxy.port), "udp"))
        rtp = proxy.relays[0]
    assert 0.02 < rtp.dropped / rtp.received < 0.1
    assert len(frames) == 200
    assert numbers(frames) != list(range(200))


def test_each_line_loses_and_delays_the_same_datagrams() -> None:
    fates = [LossyRelay(9, 0.05, 0.2, asyncio.Event()).fate for _ in range(2)]
    a, b = ([fate() for _ in range(1000)] for fate in fates)
    assert a == b
    assert 30 < a.count(None) < 70
    assert 0.19 < max(late_s for late_s in a if late_s is not None) < 0.2


def test_a_silent_port_takes_the_call_and_says_nothing() -> None:
    with silent_port() as port:
        with pytest.raises(NO_ANSWER):
            next(watch(f"rtsp://127.0.0.1:{port}/cam", timeout_s=0.5))
        with connected(port) as client:
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                ask(client, b"OPTIONS * RTSP/1.0\r\n\r\n")


def test_a_refusing_port_refuses() -> None:
    with refusing_port() as port, pytest.raises(av.ConnectionRefusedError):
        next(watch(f"rtsp://127.0.0.1:{port}/cam"))
