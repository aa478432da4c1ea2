"""Video files as they are found: turned, odd, cut, damaged, mislabelled; each read by real PyAV."""

import gc
import os
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from contracts.errors import DecodeError, FrameTooLarge, NotAVideo, SourceError, TruncatedVideo
from stream.container import cut_part
from stream.file import FileReader
from stream.reader import Picture, Unreadable
from tests import clips
from tests.clips import FASTSTART, FFV1, H264, Look, number_in, painted, write_clip

SHARED_CLIPS = Path(__file__).parents[2] / "shared/data/clips"
MEGAPIXEL = 10**6
MPEG4 = Look(codec="mpeg4", options={"g": "10"})
MJPEG = Look(codec="mjpeg", pix_fmt="yuvj420p", options={})
VP9 = Look(codec="libvpx-vp9", options={"g": "10", "cpu-used": "8"})


class Outcome:
    """All that a file gave, up to the error that it ended with, if any."""

    def __init__(self, path: Path, max_frame_pixels: int = MEGAPIXEL) -> None:
        self.pictures: list[Picture] = []
        self.errors: list[SourceError] = []
        self.end: SourceError | None = None
        reader = FileReader(path, max_frame_pixels)
        try:
            for reading in reader.pictures():
                self._take(reading)
        except SourceError as error:
            self.end = error

    def _take(self, reading: Picture | Unreadable | SourceError) -> None:
        if isinstance(reading, Picture):
            image = reading.image_hwc
            assert image.dtype == np.uint8
            assert image.flags.c_contiguous
            assert image.shape[2] == 3
            self.pictures.append(reading)
        else:
            self.errors.append(reading.error if isinstance(reading, Unreadable) else reading)

    @property
    def numbers(self) -> list[int]:
        """The numbers painted into the pictures."""
        return [number_in(picture.image_hwc) for picture in self.pictures]

    @property
    def times(self) -> list[float | None]:
        """In seconds."""
        return [picture.pts_s for picture in self.pictures]


def assert_looks_like(image: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """The same picture, up to what a lossy codec does at edges."""
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 12


def test_every_frame_comes_in_order_with_its_own_number(tmp_path: Path) -> None:
    outcome = Outcome(write_clip(tmp_path / "a.mp4", 40))
    assert outcome.numbers == list(range(40))
    assert outcome.times == pytest.approx([i / 10 for i in range(40)])
    assert outcome.errors == []
    assert outcome.end is None


def test_variable_frame_rate_keeps_each_frames_own_time(tmp_path: Path) -> None:
    ticks = [0, 40, 41, 300, 1000, 1033]
    clip = write_clip(tmp_path / "a.mp4", 6, ticks=ticks, time_base=Fraction(1, 1000))
    outcome = Outcome(clip)
    assert outcome.numbers == list(range(6))
    assert outcome.times == pytest.approx([tick / 1000 for tick in ticks])


def test_a_stream_that_begins_late_keeps_its_own_clock(tmp_path: Path) -> None:
    outcome = Outcome(write_clip(tmp_path / "a.mkv", 3, FFV1, ticks=[50, 51, 52]))
    assert outcome.times == pytest.approx([5.0, 5.1, 5.2])


def test_a_stream_without_any_times_gives_none(tmp_path: Path) -> None:
    outcome = Outcome(write_clip(tmp_path / "a.h264", 5, Look(options={"bf": "0"})))
    assert outcome.numbers == list(range(5))
    assert outcome.times == [None] * 5


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda stored: np.rot90(stored, -1)),
        ((0, -1, 1, 0), lambda stored: np.rot90(stored, 1)),
        ((-1, 0, 0, -1), lambda stored: np.rot90(stored, 2)),
        ((-1, 0, 0, 1), lambda stored: stored[:, ::-1]),
        ((1, 0, 0, -1), lambda stored: stored[::-1]),
        ((0, 1, 1, 0), lambda stored: stored.transpose(1, 0, 2)),
    ],
    ids=["clockwise", "anticlockwise", "upside-down", "mirrored", "flipped", "transposed"],
)
def test_turned_and_flipped_files_come_upright(
    tmp_path: Path,
    matrix: tuple[int, int, int, int],
    shown: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> None:
    clip = clips.turn_mp4(write_clip(tmp_path / "a.mp4", [painted(37)] * 3), *matrix)
    outcome = Outcome(clip)
    assert len(outcome.pictures) == 3
    for picture in outcome.pictures:
        assert_looks_like(picture.image_hwc, shown(painted(37)))


@pytest.mark.parametrize("size", [(63, 95), (65, 97), (64, 98)])
def test_odd_sizes_come_back_exactly(tmp_path: Path, size: tuple[int, int]) -> None:
    images = [painted(i, size) for i in range(3)]
    outcome = Outcome(write_clip(tmp_path / "a.mkv", images, FFV1))
    for picture, image in zip(outcome.pictures, images, strict=True):
        np.testing.assert_array_equal(picture.image_hwc, image)


@pytest.mark.parametrize(
    "look",
    [
        Look(pix_fmt="yuv420p10le"),
        Look(pix_fmt="yuv422p10le"),
        Look(pix_fmt="gray"),
        Look(codec="ffv1", pix_fmt="gray16le", options={}),
        Look(codec="ffv1", pix_fmt="yuva420p", options={}),
        Look(codec="libx264rgb", pix_fmt="rgb24", options={}),
        Look(pix_fmt="yuv444p", options={"x264-params": "interlaced=1"}),
    ],
    ids=["10-bit", "10-bit-422", "grey", "grey-16", "alpha", "rgb", "interlaced"],
)
def test_pixel_formats_come_as_rgb(tmp_path: Path, look: Look) -> None:
    outcome = Outcome(write_clip(tmp_path / "a.mkv", 5, look))
    assert outcome.numbers == list(range(5))
    expected = painted(4)
    if look.pix_fmt.startswith("gray"):
        expected = np.array(PillowImage.fromarray(expected).convert("L").convert("RGB"))
    assert_looks_like(outcome.pictures[4].image_hwc, expected)


BT709, BT601 = (0.2126, 0.0722), (0.299, 0.114)


def yuv_frame(rgb: NDArray[np.uint8], weights: tuple[float, float], full: bool) -> av.VideoFrame:
    """The same picture in YCbCr, by the formulas of ITU-R BT.601 and BT.709."""
    red, blue = weights
    unit = rgb / 255
    luma = unit @ np.array([red, 1 - red - blue, blue])
    cb, cr = (unit[..., 2] - luma) / (2 - 2 * blue), (unit[..., 0] - luma) / (2 - 2 * red)
    low, luma_span, chroma_span = (0, 255, 255) if full else (16, 219, 224)
    planes = [low + luma_span * luma, 128 + chroma_span * cb, 128 + chroma_span * cr]
    rounded = np.stack(planes).round().clip(0, 255).astype(np.uint8)
    return av.VideoFrame.from_ndarray(rounded, format="yuvj444p" if full else "yuv444p")


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(("space", "weights"), [(1, BT709), (6, BT601)], ids=["bt709", "bt601"])
def test_colours_follow_the_tags_of_the_frame(
    tmp_path: Path, space: int, weights: tuple[float, float], full: bool
) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]], np.uint8)
    image = np.broadcast_to(colours.repeat(24, axis=0), (64, 96, 3))
    look = Look(
        pix_fmt="yuvj444p" if full else "yuv444p",
        options={"qp": "0"},
        colorspace=space,
        color_range=2 if full else 1,
    )
    frames = [yuv_frame(image, weights, full) for _ in range(2)]
    outcome = Outcome(write_clip(tmp_path / "a.mp4", frames, look))
    decoded = outcome.pictures[0].image_hwc[32, 12::24].astype(int)
    assert np.abs(decoded - colours).max() <= 3


def test_sound_and_data_beside_the_video_are_passed_over(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", 20, Look(audio=True, data=True))
    with av.open(str(clip)) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio", "data"}
    outcome = Outcome(clip)
    assert outcome.numbers == list(range(20))
    assert outcome.end is None


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", 5, Look(cover=clips.jpeg()))
    with av.open(str(clip)) as container:
        assert len(container.streams.video) == 2
    assert Outcome(clip).numbers == list(range(5))
    with pytest.raises(NotAVideo, match="audio"):
        FileReader(clips.write_sound(tmp_path / "song.mkv", clips.jpeg()), MEGAPIXEL)


def test_a_wrong_frame_count_is_a_hint_and_nothing_else(tmp_path: Path) -> None:
    clip = clips.claim_frames(write_clip(tmp_path / "a.avi", 8, MPEG4), 500)
    reader = FileReader(clip, MEGAPIXEL)
    assert reader.frame_count_hint == 500
    reader.close()
    outcome = Outcome(clip)
    assert outcome.numbers == list(range(8))
    assert outcome.end is None


def test_resolution_may_change_in_the_middle(tmp_path: Path) -> None:
    small = write_clip(tmp_path / "small.h264", 4)
    large = write_clip(tmp_path / "large.h264", [painted(i, (128, 160)) for i in range(4, 8)])
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    outcome = Outcome(both)
    assert outcome.numbers == list(range(8))
    shapes = [picture.image_hwc.shape[:2] for picture in outcome.pictures]
    assert shapes == [(64, 96)] * 4 + [(128, 160)] * 4


def test_a_frame_with_too_many_pixels_is_one_failure_with_its_time(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 3)
    outcome = Outcome(clip, max_frame_pixels=64 * 96 - 1)
    assert [type(error) for error in outcome.errors] == [FrameTooLarge] * 3
    assert outcome.end is None
    first = next(FileReader(clip, 1).pictures())
    assert isinstance(first, Unreadable)
    assert first.pts_s == 0


def test_a_colon_in_a_name_is_not_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4", 3).rename("cam:1 %03d.mp4")
    assert Outcome(Path("cam:1 %03d.mp4")).numbers == [0, 1, 2]


def test_a_frame_that_a_recorder_left_out_does_not_end_the_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", 10, MJPEG)
    data = bytearray(clip.read_bytes())
    head = positions_of(clip)[4] - 8
    length = int.from_bytes(data[head + 4 : head + 8], "little")
    data[head : head + 16] = struct.pack("<4sI4sI", b"00dc", 0, b"JUNK", length - 8)
    clip.write_bytes(data[: data.index(b"idx1")])
    assert Outcome(clip).numbers == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_playlist_in_a_file_reaches_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        playlist = tmp_path / "list.m3u8"
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        playlist.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(NotAVideo):
            FileReader(playlist, MEGAPIXEL)
        with pytest.raises(BlockingIOError):
            server.accept()


def positions_of(clip: Path) -> list[int]:
    """Where each video packet begins in the file."""
    return [packet.pos for packet in clips.packets(clip) if packet.pos is not None]


def times_in_coded_order(clip: Path) -> list[Fraction]:
    """When each video packet's frame is shown, in seconds after the first one's time."""
    packets = clips.packets(clip)
    times = [packet.pts * packet.time_base for packet in packets if packet.pts is not None]
    return [time_s - times[0] for time_s in times]


WHOLE = {
    "a.mp4": FASTSTART,
    "b.mp4": H264,
    "c.mp4": Look(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "d.mov": FASTSTART,
    "e.mkv": H264,
    "f.webm": VP9,
    "g.avi": MPEG4,
    "h.avi": MJPEG,
    "i.ts": H264,
    "j.flv": H264,
    "k.mp4": Look(audio=True, container_options={"movflags": "faststart"}),
    "l.mkv": Look(audio=True),
    "m.m2ts": Look(container_options={"mpegts_m2ts_mode": "1"}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_end_normally_and_show_no_cut(tmp_path: Path, name: str) -> None:
    clip = write_clip(tmp_path / name, 30, WHOLE[name])
    assert cut_part(clip) is None
    outcome = Outcome(clip)
    assert outcome.numbers == list(range(30))
    assert outcome.errors == []
    assert outcome.end is None


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
@pytest.mark.parametrize("name", sorted(WHOLE.keys() - {"b.mp4"}))
def test_cut_files_give_their_whole_frames_and_then_say_so(
    tmp_path: Path, name: str, share: float
) -> None:
    clip = write_clip(tmp_path / name, 30, WHOLE[name])
    first, *_, last = positions_of(clip)
    outcome = Outcome(clips.cut(clip, int(first + share * (last - first))))
    # A cut takes the frames that were coded last, and some of those are shown before others.
    coded = [round(time_s * 10) for time_s in times_in_coded_order(clip)]
    assert outcome.numbers == sorted(coded[: len(outcome.numbers)])
    assert 30 * share / 2 < len(outcome.numbers) < 30
    assert outcome.errors == []
    assert isinstance(outcome.end, TruncatedVideo)


@pytest.mark.parametrize("name", ["a.mp4", "e.mkv", "g.avi"])
def test_a_file_cut_right_between_two_packets_says_so_too(tmp_path: Path, name: str) -> None:
    look = Look(codec=WHOLE[name].codec, options={"g": "10", "bf": "0"})
    look = Look(look.codec, options=look.options, container_options=WHOLE[name].container_options)
    clip = write_clip(tmp_path / name, 30, look)
    twentieth = positions_of(clip)[20]
    lead = 8 if name == "g.avi" else 0
    outcome = Outcome(clips.cut(clip, twentieth - lead))
    assert outcome.numbers[:19] == list(range(19))
    assert len(outcome.numbers) <= 20
    assert isinstance(outcome.end, TruncatedVideo)


def test_an_mp4_whose_index_is_cut_off_is_cut_short_and_not_no_video(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 30)
    for n_bytes in (clip.stat().st_size // 2, clip.read_bytes().index(b"moov") - 4):
        with pytest.raises(TruncatedVideo):
            FileReader(clips.cut(clip, n_bytes), MEGAPIXEL)


@pytest.mark.parametrize("name", ["a.mp4", "c.mp4", "e.mkv", "g.avi"])
def test_a_file_that_lacks_only_its_last_byte_has_lost_no_frame(tmp_path: Path, name: str) -> None:
    look = H264 if name == "a.mp4" else WHOLE[name]
    outcome = Outcome(clips.cut(write_clip(tmp_path / name, 30, look), -1))
    assert outcome.numbers == list(range(30))
    assert outcome.end is None


def test_a_recording_that_was_never_finished_ends_normally(tmp_path: Path) -> None:
    clip = clips.unfill_matroska_size(write_clip(tmp_path / "a.mkv", 30))
    outcome = Outcome(clip)
    assert outcome.numbers == list(range(30))
    assert outcome.end is None


@pytest.mark.parametrize("number", [5, 20])
@pytest.mark.parametrize(("name", "look"), [("a.mp4", H264), ("a.avi", MPEG4), ("b.avi", MJPEG)])
def test_a_packet_that_the_decoder_refuses_is_one_failure_and_reading_goes_on(
    tmp_path: Path, name: str, look: Look, number: int
) -> None:
    look = Look(look.codec, look.pix_fmt, {**look.options, "bf": "0"})
    clip = clips.ruin_packet(write_clip(tmp_path / name, 30, look), number)
    outcome = Outcome(clip)
    assert [type(error) for error in outcome.errors] == [DecodeError]
    assert outcome.errors[0].__cause__ is not None
    assert len(outcome.pictures) == 29
    assert outcome.end is None


def test_frames_that_the_decoder_marks_corrupt_come_marked_as_degraded(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", 30, Look(options={"g": "20", "sc_threshold": "0"}))
    joined_late = tmp_path / "late.ts"
    joined_late.write_bytes(clip.read_bytes()[188 * 60 :])
    outcome = Outcome(joined_late)
    marks = [bool(picture.degraded) for picture in outcome.pictures]
    assert marks[0]
    assert not marks[-1]
    assert {mark for picture in outcome.pictures for mark in picture.degraded} == {"corrupt_frame"}
    assert outcome.numbers[-10:] == list(range(20, 30))


def zipped(path: Path) -> None:
    """A zip archive."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x" * 5000)


NO_VIDEOS: dict[str, Callable[[Path], object]] = {
    "notes.txt": lambda path: path.write_text("one line\n" * 200),
    "notes.mp4": lambda path: path.write_text("one line\n" * 200),
    "empty.mp4": lambda path: path.touch(),
    "zip.mp4": zipped,
    "noise.mp4": lambda path: path.write_bytes(np.random.default_rng(1).bytes(100_000)),
    "subtitles.srt": lambda path: path.write_text("1\n00:00:01,000 --> 00:00:02,000\nhi\n\n" * 9),
    "sound.m4a": clips.write_sound,
    "frameless.y4m": lambda path: path.write_text("YUV4MPEG2 W16 H16 F25:1\n"),
}


@pytest.mark.parametrize("name", NO_VIDEOS)
def test_what_is_no_video_says_so(tmp_path: Path, name: str) -> None:
    NO_VIDEOS[name](tmp_path / name)
    with pytest.raises(NotAVideo, match=name):
        list(FileReader(tmp_path / name, MEGAPIXEL).pictures())


def open_fds() -> int:
    """File descriptors that this process holds."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def os_threads() -> int:
    """Threads that the operating system knows of, FFmpeg's among them."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208


@pytest.mark.parametrize("n_read", [0, 1, 5, 1000])
def test_fifty_readers_leave_no_file_and_no_thread_behind(tmp_path: Path, n_read: int) -> None:
    clip = write_clip(tmp_path / "a.mp4", 10)
    gc.collect()
    fds, threads = open_fds(), os_threads()
    for _ in range(50):
        reader = FileReader(clip, MEGAPIXEL)
        for _reading in zip(range(n_read), reader.pictures(), strict=False):
            pass
        reader.close()
        reader.close()
    del reader
    assert open_fds() <= fds
    assert os_threads() <= threads


def test_a_generator_that_is_dropped_half_way_closes_the_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 10)
    before = open_fds()
    readings: Iterator[Any] = FileReader(clip, MEGAPIXEL).pictures()
    next(readings)
    assert open_fds() > before
    del readings
    assert open_fds() == before


def test_files_that_cannot_be_opened_leave_nothing_behind(tmp_path: Path) -> None:
    sound = clips.write_sound(tmp_path / "a.m4a")
    before = open_fds()
    for _ in range(20):
        with pytest.raises(NotAVideo):
            FileReader(sound, MEGAPIXEL)
    assert open_fds() == before


def box(kind: bytes, content: bytes) -> bytes:
    """An MP4 box."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    """A RIFF chunk, padded to an even length."""
    return struct.pack("<4sI", kind, len(content)) + content + bytes(len(content) % 2)


LARGE_BOX = struct.pack(">I4sQ", 1, b"mdat", 16 + 40) + bytes(40)
OPEN_BOX = struct.pack(">I4s", 0, b"mdat") + bytes(40)
AVI = chunk(b"RIFF", b"AVI " + chunk(b"JUNK", bytes(21)) + chunk(b"LIST", b"movi" + bytes(40)))
OPEN_AVI = AVI.replace(struct.pack("<I", 44), bytes(4))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (box(b"ftyp", b"isom") + box(b"moov", bytes(8)) + LARGE_BOX, None),
        (box(b"ftyp", b"isom") + box(b"moov", bytes(8)) + LARGE_BOX[:-1], "mdat"),
        (box(b"ftyp", b"isom") + box(b"moov", bytes(8)) + OPEN_BOX, None),
        (box(b"ftyp", b"isom") + OPEN_BOX, "moov"),
        (AVI, None),
        (AVI[:-1], "movi"),
        (AVI[:40], "header or index"),
        (OPEN_AVI[:-1], None),
        (AVI + AVI[:-1], "movi"),
    ],
    ids=[
        "64-bit",
        "64-bit-cut",
        "open",
        "no-moov",
        "avi",
        "avi-cut",
        "avi-head",
        "open-avi",
        "2nd",
    ],
)
def test_the_part_that_a_file_ends_in(tmp_path: Path, content: bytes, part: str | None) -> None:
    path = tmp_path / "clip"
    path.write_bytes(content)
    assert cut_part(path) == part


def test_container_sizes_are_read_without_trust(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heads = [
        struct.pack(">I", 24) + b"ftypisom",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67",
        b"RIFF\x10\x00\x00\x00AVI LIST",
        b"G" + bytes(187) + b"G",
        b"FLV\x01\x01\x00\x00\x00\x09",
    ]
    for head in heads:
        for _ in range(50):
            path = tmp_path / "noise"
            path.write_bytes(head + rng.bytes(int(rng.integers(0, 300))))
            part = cut_part(path)
            assert part is None or part


@pytest.mark.shared
def test_vtest_gives_its_795_frames_a_tenth_of_a_second_apart() -> None:
    reader = FileReader(SHARED_CLIPS / "vtest.avi", MEGAPIXEL)
    readings = ((type(reading), getattr(reading, "pts_s", None)) for reading in reader.pictures())
    kinds, times = zip(*readings, strict=True)
    assert set(kinds) == {Picture}
    assert times == pytest.approx([i / 10 for i in range(795)])


@pytest.mark.shared
@pytest.mark.parametrize("name", ["Megamind.avi", "Megamind_bugy.avi"])
def test_a_clip_from_the_wild_is_accounted_for_to_the_last_packet(name: str) -> None:
    outcome = Outcome(SHARED_CLIPS / name)
    n_packets = len(clips.packets(SHARED_CLIPS / name))
    assert len(outcome.pictures) + len(outcome.errors) == n_packets == 270
    assert outcome.end is None


def test_frames_are_freed_as_they_go_and_do_not_wait_for_the_cycle_collector(
    tmp_path: Path,
) -> None:
    clip = write_clip(tmp_path / "a.mp4", 40)
    gc.collect()
    gc.disable()
    try:
        for _ in FileReader(clip, MEGAPIXEL).pictures():
            pass
        alive = [item for item in gc.get_objects() if type(item) is av.VideoFrame]
    finally:
        gc.enable()
    assert len(alive) <= 2


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mkv"])
def test_a_title_in_another_encoding_does_not_matter(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Xberwachung"
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = clips.SIZE
        for number in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(painted(number), "rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(b"Xberwachung") == 1
    path.write_bytes(content.replace(b"Xberwachung", "Überwachung".encode("latin-1")))
    outcome = Outcome(path)
    assert outcome.numbers == list(range(5))
    assert outcome.end is None
