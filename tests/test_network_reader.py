"""Streams from the network: real servers on the loopback interface, well-behaved and otherwise."""

import dataclasses
import functools
import itertools
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available

from contracts.errors import (
    BadSetting,
    DecodeError,
    Ended,
    FrameTooLarge,
    SourceLost,
    Stalled,
    StreamLost,
)
from stream.file import FileReader
from stream.hardware import hardware_decoder
from stream.network import NetworkReader
from stream.reader import Latent, Picture, ReaderOptions, Reading, Skipped, Unreadable
from tests import clips
from tests.clips import Look, number_in, painted, write_clip, write_sound
from tests.resources import held, released
from tests.senders import Line, sending, serving

REPOSITORY = Path(__file__).parents[1]
FPS = 25
FRAME = Fraction(1, FPS)
OPTIONS = ReaderOptions(max_frame_pixels=10**6, open_timeout_s=10, read_timeout_s=10)
QUICK = dataclasses.replace(OPTIONS, open_timeout_s=0.4, read_timeout_s=0.3)
H264 = Look(options={"g": "10", "bf": "0", "sc_threshold": "0"})
H265 = Look("libx265", options={"g": "10", "x265-params": "log-level=0"})
MJPEG = Look("mjpeg", "yuvj420p", {})


class Outcome:
    """All that a connection gave, or its first so many readings, and the error at its end."""

    def __init__(
        self, url: str, options: ReaderOptions = OPTIONS, n_readings: int | None = None
    ) -> None:
        self.latents: list[Latent] = []
        self.skipped: list[Skipped] = []
        self.unreadable: list[Unreadable] = []
        self.end: StreamLost | None = None
        self.reader = NetworkReader(url, options)
        try:
            for reading in itertools.islice(self.reader.pictures(), n_readings):
                self._take(reading)
        except StreamLost as lost:
            self.end = lost
        self.reader.close()

    def _take(self, reading: Reading) -> None:
        if isinstance(reading, Latent):
            self.latents.append(reading)
        elif isinstance(reading, Skipped):
            self.skipped.append(reading)
        else:
            assert isinstance(reading, Unreadable)
            self.unreadable.append(reading)

    @functools.cached_property
    def numbers(self) -> list[int]:
        """The numbers painted into the pictures."""
        return [number_in(latent.develop()) for latent in self.latents]

    @property
    def times(self) -> list[float | None]:
        """In seconds."""
        return [latent.pts_s for latent in self.latents]


def clip(path: Path, look: Look = H264, numbers: range = range(40), height: int = 64) -> bytes:
    """The bytes of a clip of these painted numbers, which are also its times."""
    images = [painted(number, (height, height * 3 // 2)) for number in numbers]
    return write_clip(path, images, look, ticks=numbers, time_base=FRAME).read_bytes()


@pytest.fixture
def transport_stream(tmp_path: Path) -> bytes:
    """Forty frames."""
    return clip(tmp_path / "a.ts")


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("a.ts", H264),
        ("a.ts", H265),
        ("a.ts", Look("mpeg2video", options={"g": "10", "bf": "2"})),
        ("a.ts", Look(audio=True)),
        ("a.flv", H264),
        ("a.mkv", MJPEG),
    ],
    ids=["264", "265", "mpeg-2 with b-frames", "sound beside", "flv", "jpeg"],
)
def test_every_frame_comes_with_its_number_and_its_time(
    tmp_path: Path, name: str, look: Look
) -> None:
    with serving(sending(clip(tmp_path / name, look))) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}")
    assert outcome.numbers == list(range(40))
    start_s = outcome.times[0]
    assert start_s is not None
    assert outcome.times == pytest.approx([start_s + i / FPS for i in range(40)], abs=0.002)
    assert isinstance(outcome.end, Ended)
    assert outcome.skipped == []
    assert outcome.unreadable == []


def test_a_stream_without_times_has_none(tmp_path: Path) -> None:
    with serving(sending(clip(tmp_path / "a.h264"))) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}")
    assert outcome.numbers == list(range(40))
    assert outcome.times == [None] * 40
    assert {latent.lag_s for latent in outcome.latents} == {0}


def test_jpegs_one_after_the_other_over_http_have_no_times(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", 20, MJPEG)
    parts = b"".join(
        b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
        % (packet.size, bytes(packet))
        for packet in clips.packets(tmp_path / "a.mkv")
    )
    header = "Content-Type: multipart/x-mixed-replace; boundary=next"
    with serving(lambda line: line.answer("200 OK", parts, header)) as port:
        outcome = Outcome(f"http://127.0.0.1:{port}/video")
    assert outcome.numbers == list(range(20))
    assert outcome.times == [None] * 20


def test_latent_pictures_are_those_that_a_file_gives(tmp_path: Path) -> None:
    data = clip(tmp_path / "a.ts")
    with serving(sending(data)) as port:
        latents = Outcome(f"tcp://127.0.0.1:{port}").latents
    pictures = list(FileReader(tmp_path / "a.ts", 10**6).pictures())
    for latent, picture in zip(latents, pictures, strict=True):
        assert isinstance(picture, Picture)
        image_hwc = latent.develop()
        np.testing.assert_array_equal(image_hwc, picture.image_hwc)
        assert image_hwc.dtype == np.uint8
        assert image_hwc.flags.c_contiguous
        assert image_hwc.nbytes == latent.n_bytes


def test_pictures_are_developed_by_any_threads_after_the_reader_was_closed(
    transport_stream: bytes,
) -> None:
    with serving(sending(transport_stream)) as port:
        latents = Outcome(f"tcp://127.0.0.1:{port}").latents
    found: dict[int, int] = {}

    def develop(first: int) -> None:
        found.update((i, number_in(latents[i].develop())) for i in range(first, 40, 4))

    threads = [threading.Thread(target=develop, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: i for i in range(40)}


@pytest.mark.parametrize(
    ("drive", "lost"),
    [
        (Line.stall, Stalled),
        (Line.reset, SourceLost),
        (lambda _line: None, Ended),
    ],
    ids=["stalls", "is reset", "ends"],
)
@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_how_a_stream_breaks_off_has_its_name(
    transport_stream: bytes, scheme: str, drive: Callable[[Line], None], lost: type[StreamLost]
) -> None:
    received = threading.Event()

    def send_and_break_off(line: Line) -> None:
        if scheme == "http":
            line.answer()
        line.send(transport_stream)
        # A reset overtakes what was sent before.
        received.wait(10)
        drive(line)

    options = dataclasses.replace(QUICK, open_timeout_s=10)
    with serving(send_and_break_off) as port:
        reader = NetworkReader(f"{scheme}://user:secret@127.0.0.1:{port}/door", options)
        readings = reader.pictures()
        numbers = [number_of(next(readings)) for _ in range(30)]
        received.set()
        with pytest.raises(lost) as caught:
            numbers.extend(number_of(reading) for reading in readings)
    assert numbers[:30] == list(range(30))
    assert type(caught.value) is lost
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def number_of(reading: Reading) -> int:
    assert isinstance(reading, Latent)
    return number_in(reading.develop())


def test_sound_that_goes_on_does_not_make_up_for_pictures_that_don_t(tmp_path: Path) -> None:
    with_sound = clip(tmp_path / "a.ts", Look(audio=True))
    sound = write_sound(tmp_path / "b.ts").read_bytes()
    with av.open(str(tmp_path / "a.ts")) as container:
        [sound_id] = [stream.id for stream in container.streams.audio]
    assert sound_id == 0x101

    def send_sound_only(line: Line) -> None:
        line.send(with_sound)
        while True:
            line.send(on_pid(sound, 0x100, sound_id))
            line.stall(0.02)

    with serving(send_sound_only) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}", QUICK)
    assert isinstance(outcome.end, Stalled)
    assert "no picture" in str(outcome.end)


def on_pid(transport_stream: bytes, old: int, new: int) -> bytes:
    """Its packets of one PID, on another one."""
    packets = [transport_stream[i : i + 188] for i in range(0, len(transport_stream), 188)]
    pids = [int.from_bytes(packet[1:3]) for packet in packets]
    return b"".join(
        packet[:1] + (pid & 0xE000 | new).to_bytes(2) + packet[3:]
        for packet, pid in zip(packets, pids, strict=True)
        if pid & 0x1FFF == old
    )


def test_a_packet_that_can_t_be_decoded_is_one_failure_with_its_time(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4", dataclasses.replace(clips.FASTSTART, options=H264.options))
    ruined = clips.ruin_packet(tmp_path / "a.mp4", 15).read_bytes()
    with serving(sending(ruined)) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}")
    [unreadable] = outcome.unreadable
    assert isinstance(unreadable.error, DecodeError)
    assert unreadable.pts_s == pytest.approx(15 / FPS)
    assert outcome.numbers[:15] == list(range(15))
    assert len(outcome.latents) == 39
    assert isinstance(outcome.end, Ended)


def test_pictures_of_damaged_packets_are_marked_and_reading_goes_on(tmp_path: Path) -> None:
    images = [painted(number, (256, 384)) for number in range(40)]
    for number, image in enumerate(images):
        image[192:] = np.random.default_rng(number).integers(0, 256, (64, 384, 3))
    path = write_clip(tmp_path / "a.ts", images, H264, time_base=FRAME)
    damaged = clips.packets(path)[15]
    assert damaged.pos is not None
    # The network has lost a piece of it.
    lost = slice(damaged.pos + 10 * 188, damaged.pos + 15 * 188)
    data = bytearray(path.read_bytes())
    del data[lost]
    with serving(sending(bytes(data))) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}")
    marked = [i for i, latent in enumerate(outcome.latents) if latent.degraded]
    # From the loss to the next keyframe; the demuxer tells it one frame early.
    assert marked == list(range(14, 20))
    assert outcome.latents[15].degraded == ("corrupt_frame",)
    assert outcome.numbers[:15] + outcome.numbers[20:] == [*range(15), *range(20, 40)]


@pytest.mark.parametrize(
    ("first", "then"),
    [(H264, H264), (H264, Look(options={"bf": "0"}, pix_fmt="yuv444p"))],
    ids=["size", "size and pixel format"],
)
def test_a_stream_may_change_in_the_middle(tmp_path: Path, first: Look, then: Look) -> None:
    small = clip(tmp_path / "a.ts", first, range(20))
    large = clip(tmp_path / "b.ts", then, range(20, 40), height=128)
    with serving(sending(small, large)) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}")
    assert outcome.numbers == list(range(40))
    shapes = [latent.develop().shape for latent in outcome.latents]
    assert shapes == [(64, 96, 3)] * 20 + [(128, 192, 3)] * 20
    assert [latent.n_bytes for latent in outcome.latents[19:21]] == [64 * 96 * 3, 128 * 192 * 3]


def test_a_frame_with_too_many_pixels_is_one_failure_before_it_is_converted(
    transport_stream: bytes,
) -> None:
    options = dataclasses.replace(OPTIONS, max_frame_pixels=64 * 96 - 1)
    with serving(sending(transport_stream)) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}", options)
    assert [type(unreadable.error) for unreadable in outcome.unreadable] == [FrameTooLarge] * 40
    assert outcome.unreadable[1].pts_s is not None


def test_frames_of_a_burst_after_a_stall_are_late_by_the_stall(
    tmp_path: Path, transport_stream: bytes
) -> None:
    stall_s = 0.6
    twentieth = clips.packets(tmp_path / "a.ts")[20].pos

    def stall_and_burst(line: Line) -> None:
        line.send(transport_stream[:twentieth])
        line.stall(stall_s)
        line.send(transport_stream[twentieth:])

    with serving(stall_and_burst) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}")
    assert outcome.numbers == list(range(40))
    lags = [latent.lag_s for latent in outcome.latents]
    # A frame is whole when the next one begins, so that one or two before the stall wait too.
    assert max(lags[:18]) < stall_s / 2
    assert max(lags[18:20]) > stall_s - 2.5 / FPS
    assert lags[30] > stall_s - 13.5 / FPS


def test_a_stream_joined_in_the_middle_begins_at_its_first_keyframe(
    tmp_path: Path, transport_stream: bytes
) -> None:
    third = clips.packets(tmp_path / "a.ts")[3].pos
    assert third is not None
    tables = transport_stream[: 3 * 188]
    with serving(sending(tables, transport_stream[third:])) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}")
    first = outcome.numbers[0]
    assert 3 < first <= 10
    assert outcome.numbers == list(range(first, 40))
    assert len(outcome.skipped) == first - 3


def test_what_is_skipped_may_change_between_two_reads(transport_stream: bytes) -> None:
    with serving(sending(transport_stream)) as port:
        reader = NetworkReader(f"tcp://127.0.0.1:{port}", OPTIONS)
        readings = reader.pictures()
        taken = [next(readings) for _ in range(12)]
        reader.skip = "nonkey"
        taken += [next(readings) for _ in range(15)]
        reader.skip = "none"
        with pytest.raises(Ended):
            taken.extend(readings)
    assert len(taken) == 40
    decoded = [(i, number_of(r)) for i, r in enumerate(taken) if isinstance(r, Latent)]
    assert all(i == number for i, number in decoded)
    assert [i for i, _ in decoded][:12] == list(range(12))
    assert decoded[-1][0] == 39
    assert all(isinstance(reading, Skipped) for i, reading in enumerate(taken) if 13 < i < 16)


def test_transport_streams_come_over_udp_too(tmp_path: Path, transport_stream: bytes) -> None:
    done = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    def send_again_and_again() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for start in itertools.cycle(range(0, len(transport_stream), 7 * 188)):
                sender.sendto(transport_stream[start : start + 7 * 188], ("127.0.0.1", port))
                if done.wait(0.001):
                    break

    sender = threading.Thread(target=send_again_and_again)
    sender.start()
    try:
        outcome = Outcome(f"udp://127.0.0.1:{port}", n_readings=100)
    finally:
        done.set()
        sender.join()
    first_s = clips.packets(tmp_path / "a.ts")[0].pts
    assert first_s is not None
    whole = [latent for latent in outcome.latents if not latent.degraded]
    assert len(whole) > 50
    for latent in whole:
        assert latent.pts_s is not None
        assert number_of(latent) == round((latent.pts_s - first_s / 90000) * FPS)


def test_rtmp_comes_from_a_publisher_too(tmp_path: Path) -> None:
    clip(tmp_path / "a.flv")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"rtmp://127.0.0.1:{taken.getsockname()[1]}/live/secret-key"
    # Here the reader is the server: FFmpeg can be that, and PyAV can publish to it.
    options = dataclasses.replace(OPTIONS, ffmpeg_options={"listen": "1"})
    command = [sys.executable, "-m", "tests.publish", str(tmp_path / "a.flv"), url]
    with subprocess.Popen(command, cwd=REPOSITORY) as publisher:
        try:
            outcome = Outcome(url, options)
        finally:
            publisher.terminate()
    assert outcome.numbers == list(range(40))
    assert outcome.times[1] == pytest.approx((outcome.times[0] or 0) + 1 / FPS, abs=0.002)
    assert isinstance(outcome.end, Ended)


def test_hls_comes_at_its_own_speed(tmp_path: Path, served_folder: tuple[Path, str]) -> None:
    folder, address = served_folder
    clip(folder / "a.ts")
    entries = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:1.6,", "a.ts", "#EXT-X-ENDLIST", ""]
    (folder / "list.m3u8").write_text("\n".join(entries))
    stop = threading.Event()
    options = dataclasses.replace(OPTIONS, stop=stop)
    reader = NetworkReader(f"{address}/list.m3u8", options)
    readings = reader.pictures()
    started_s = time.monotonic()
    numbers = [number_of(next(readings)) for _ in range(10)]
    assert time.monotonic() - started_s >= 9 / FPS
    # Whoever waits for a frame's time is woken by this.
    stop.set()
    with pytest.raises(Ended):
        numbers.extend(number_of(reading) for reading in readings)
    assert numbers == list(range(40))


def test_hardware_that_is_not_here_is_made_up_for_by_software_and_told(
    transport_stream: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    absent = no_such_device()
    with serving(sending(transport_stream)) as port:
        url = f"tcp://user:secret@127.0.0.1:{port}"
        outcome = Outcome(url, dataclasses.replace(OPTIONS, hwaccel=absent))
        assert outcome.numbers == list(range(40))
        assert outcome.reader.hardware_failed
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(told) == 1
        assert f"no {absent} device here decodes h264" in told[0]
        assert "secret" not in told[0]


def no_such_device() -> str:
    """A kind of device that FFmpeg knows and that decodes nothing here."""
    software = av.CodecContext.create("h264", "r")
    for name in hwdevices_available():
        if hardware_decoder(software, name) is None:
            return name
    pytest.skip("all kinds of devices are here")


def test_hardware_is_taken_where_there_is_some_and_not_missed_otherwise(
    transport_stream: bytes,
) -> None:
    options = dataclasses.replace(OPTIONS, hwaccel="auto")
    with serving(sending(transport_stream)) as port:
        outcome = Outcome(f"tcp://127.0.0.1:{port}", options)
        assert outcome.numbers == list(range(40))
        assert not outcome.reader.hardware_failed


def test_hardware_of_an_unknown_name_is_a_bad_setting() -> None:
    options = dataclasses.replace(OPTIONS, hwaccel="quantum")
    with pytest.raises(BadSetting, match=r"expected one of auto, none, .*got quantum"):
        NetworkReader("tcp://127.0.0.1:9", options)


def test_thirty_connections_leave_no_thread_and_no_file_open(transport_stream: bytes) -> None:
    before = held()
    with serving(sending(transport_stream)) as port:
        for n_readings in (0, 5, None) * 10:
            Outcome(f"tcp://127.0.0.1:{port}", n_readings=n_readings)
    assert released(before)


def test_a_reader_is_live_has_no_length_and_closes_twice(transport_stream: bytes) -> None:
    with serving(sending(transport_stream)) as port:
        reader = NetworkReader(f"tcp://127.0.0.1:{port}", OPTIONS)
        assert reader.live
        assert reader.frame_count_hint is None
        reader.close()
        reader.close()
