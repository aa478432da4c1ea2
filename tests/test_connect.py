"""Opening streams from the network: in good time, or with the name of what is in the way."""

import dataclasses
import shutil
import ssl
import subprocess
import time
import traceback
from pathlib import Path

import pytest

from contracts.errors import (
    AuthFailed,
    NotFound,
    Refused,
    SourceLost,
    StreamLost,
    Timeout,
    TlsError,
    UnsupportedCodec,
)
from stream.connect import connect
from stream.reader import ReaderOptions
from tests.cameras import Login, RtspServer, refusing_port, silent_port
from tests.clips import write_clip, write_sound
from tests.mount import Mount
from tests.resources import held, released
from tests.senders import Drive, Line, sending, serving

OPTIONS = ReaderOptions(max_frame_pixels=10**6, open_timeout_s=10)
QUICK = dataclasses.replace(OPTIONS, open_timeout_s=0.4)


def opening(url: str, options: ReaderOptions = QUICK) -> StreamLost:
    """The error with which the URL does not open."""
    with pytest.raises(StreamLost) as caught:
        connect(url, options)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    return caught.value


SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_port_where_nothing_listens_has_refused(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    with refusing_port() as port:
        lost = opening(f"{scheme}://user:secret@127.0.0.1:{port}/door")
    assert isinstance(lost, Refused)
    assert f"127.0.0.1:{port}" in str(lost)
    # FFmpeg would log the URL as it is; PyAV keeps that to itself unless it is told otherwise.
    assert caplog.records == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_never_answers_times_out_and_leaves_nothing_behind(scheme: str) -> None:
    before = held()
    with silent_port() as port:
        started_s = time.monotonic()
        lost = opening(f"{scheme}://user:secret@127.0.0.1:{port}/door")
        assert time.monotonic() - started_s < QUICK.open_timeout_s + 1
    assert isinstance(lost, Timeout)
    assert released(before)


def test_a_server_that_only_drips_times_out_as_a_whole() -> None:
    def drip(line: Line) -> None:
        while True:
            line.send(b"\x47")
            line.stall(0.01)

    started_s = time.monotonic()
    with serving(drip) as port:
        assert isinstance(opening(f"tcp://127.0.0.1:{port}"), Timeout)
    assert time.monotonic() - started_s < QUICK.open_timeout_s + 1


@pytest.mark.parametrize(
    ("status", "lost"),
    [
        ("401 Unauthorized", AuthFailed),
        ("403 Forbidden", AuthFailed),
        ("404 Not Found", NotFound),
        ("500 Internal Server Error", SourceLost),
        ("503 Service Unavailable", SourceLost),
    ],
)
def test_what_an_http_server_says_has_its_name(status: str, lost: type[StreamLost]) -> None:
    with serving(lambda line: line.answer(status)) as port:
        assert type(opening(f"http://user:secret@127.0.0.1:{port}/door")) is lost


@pytest.mark.parametrize(
    ("drive", "lost"),
    [
        (Line.reset, Refused),
        (sending(), SourceLost),
        (sending(bytes(range(256)) * 4096), SourceLost),
    ],
    ids=["resets", "hangs up", "sends noise"],
)
def test_a_server_that_has_no_stream_is_not_open(drive: Drive, lost: type[StreamLost]) -> None:
    with serving(drive) as port:
        assert type(opening(f"tcp://127.0.0.1:{port}", OPTIONS)) is lost


def test_sound_without_video_is_no_codec_of_ours(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "a.ts").read_bytes()
    with serving(sending(sound)) as port:
        lost = opening(f"tcp://127.0.0.1:{port}", OPTIONS)
    assert isinstance(lost, UnsupportedCodec)
    assert "audio only" in str(lost)


def test_a_host_that_nobody_knows_is_said_so() -> None:
    lost = opening("rtsp://user:secret@no-such-host.invalid/door", OPTIONS)
    assert isinstance(lost, Refused)
    assert "no host of that name" in str(lost)


def test_a_playlist_can_open_no_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", 10)
    entries = ["#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:9,", f"file://{clip}"]
    playlist = "\n".join([*entries, "#EXT-X-ENDLIST", ""])
    with serving(lambda line: line.answer(body=playlist.encode())) as port:
        assert isinstance(opening(f"http://127.0.0.1:{port}/a.m3u8", OPTIONS), SourceLost)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has signed, and its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    asked = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost"
    command = ["openssl", *asked.split(), "-addext", names]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return folder / "cert.pem"


def test_a_certificate_that_nobody_signed_is_refused_unless_it_is_given_or_waived(
    tmp_path: Path, certificate: Path
) -> None:
    clip = write_clip(tmp_path / "a.ts", 10).read_bytes()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with serving(lambda line: line.answer(body=clip), tls) as port:
        url = f"https://user:secret@localhost:{port}/door"
        assert isinstance(opening(url, OPTIONS), TlsError)
        for remedy in ({"ca_file": str(certificate)}, {"tls_verify": "0"}):
            options = dataclasses.replace(OPTIONS, ffmpeg_options=remedy)
            container, stream = connect(url, options)
            assert stream.codec_context.name == "h264"
            container.close()


@pytest.mark.parametrize(
    ("url", "lost"),
    [
        ("rtsp://127.0.0.1:{}/door", AuthFailed),
        ("rtsp://user:wrong-secret@127.0.0.1:{}/door", AuthFailed),
        ("rtsp://user:secret@127.0.0.1:{}/nothing", NotFound),
    ],
)
def test_what_a_camera_says_has_its_name(url: str, lost: type[StreamLost]) -> None:
    with RtspServer(Mount("door"), login=Login("user", "secret")) as server:
        assert type(opening(url.format(server.port), OPTIONS)) is lost


def test_extra_options_reach_ffmpeg_and_win(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", 10).read_bytes()
    asked: list[str] = []

    def answer(line: Line) -> None:
        asked.append(line.request())
        line.send(b"HTTP/1.0 200 OK\r\n\r\n" + clip)

    extra = {"user_agent": "framewire at the door", "probesize": "100000"}
    with serving(answer) as port:
        options = dataclasses.replace(OPTIONS, ffmpeg_options=extra)
        container, _ = connect(f"http://127.0.0.1:{port}/door", options)
        container.close()
    assert "User-Agent: framewire at the door" in asked[0]
    assert container.options["probesize"] == "100000"
