"""A video file, read and decoded with PyAV (FFmpeg); FFmpeg's errors get their names here."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.codec.context import Flags
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from contracts.errors import (
    DecodeError,
    FrameTooLarge,
    NotAVideo,
    SourceError,
    SourceNotFound,
    TruncatedVideo,
)
from stream.container import MEDIA_PARTS, cut_part
from stream.reader import Picture, Reading, Unreadable

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.sidedata.sidedata import SideDataContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from contracts.frame import ImageHWC

Turn = tuple[int, int, int, int]
"""Signs of a display matrix."""

_TEXT_FORMATS = frozenset({"tty", "bin", "adf", "idf", "xbin"})
"""FFmpeg draws a .txt or .nfo file as a film of a terminal; nobody who asks for frames means it."""


class FileReader:
    """An open video file, owned by the thread that opened it.

    `pts_s` is a frame's own presentation time as the stream has it: the first one need not be 0.
    Where the stream has none, its decoding time stands in; where it has neither, None.
    """

    live = False

    def __init__(self, path: Path, max_frame_pixels: int) -> None:
        """Opens the file. `SourceNotFound`, `NotAVideo`, or `TruncatedVideo`: its index is cut."""
        self._path = path
        self._max_frame_pixels = max_frame_pixels
        self._container = _open(path)
        try:
            self._stream = _video_stream(self._container, path)
        except SourceError:
            self._container.close()
            raise
        self._stream.thread_type = "AUTO"
        # Without this flag the decoder leaves frames out that it could not make whole, and says
        # nothing. With it they come, marked corrupt, and are accounted for.
        self._stream.codec_context.flags |= Flags.output_corrupt
        self._reformatter = VideoReformatter()
        self._cut_short: str | None = None
        self._rotation_deg: int | None = None
        self._turn: Turn | None = None

    @property
    def frame_count_hint(self) -> int | None:
        """What the container claims; None where it claims nothing."""
        return self._stream.frames or None

    def pictures(self) -> Iterator[Reading]:
        """Every frame in presentation order; a packet that the decoder refuses is a `DecodeError`.

        Raises `TruncatedVideo` after the last frame of a file that is cut short, and `NotAVideo`
        where there was no frame at all.
        """
        n_readings = 0
        with contextlib.closing(self):
            for packet in self._packets():
                for reading in self._decode(packet):
                    n_readings += 1
                    yield reading
            if cut_short := self._cut_short or _cut_by_its_own_sizes(self._path):
                raise TruncatedVideo(f"{self._path}: the file is cut short: {cut_short}")
            if n_readings == 0:
                raise NotAVideo(f"{self._path}: expected frames, but the video stream has none")

    def close(self) -> None:
        """The file is closed; the decoder and its threads go with the reader."""
        self._container.close()

    def _packets(self) -> "Iterator[Packet[Any] | None]":
        """The stream's packets and, last, None, which makes the decoder give what it holds back.

        A packet marked corrupt is held until another one comes: in the middle of a file it is
        damaged, and the decoder may make something of it; at the end it is the piece that was cut.
        """
        held: Packet[Any] | None = None
        cut = False
        try:
            for packet in self._container.demux():
                # Decoding an empty packet flushes. PyAV ends each stream with one; ours comes last.
                if packet.size == 0:
                    continue
                cut = packet.is_corrupt
                if packet.stream.index != self._stream.index:
                    continue
                if held is not None:
                    yield held
                held = packet if cut else None
                if not cut:
                    yield packet
        except av.FFmpegError as error:
            self._cut_short = f"it can't be read further: {error.strerror}"
        if cut:
            self._cut_short = "its last packet is incomplete"
        elif held is not None:
            yield held
        yield None

    def _decode(self, packet: "Packet[Any] | None") -> Iterator[Reading]:
        """What the decoder gives for this packet; with frame threads, that of an earlier one.

        Known loss: PyAV ends the flush (`packet` None) at its first error, so that a damaged packet
        among the last few of a file takes those frames along that were decoded beside it.
        """
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.FFmpegError as error:
            text = f"{self._path.name}: the decoder refused a packet: {error.strerror}"
            yield _because(DecodeError(text), error)
            return
        for frame in frames:
            yield self._convert(frame)

    def _convert(self, frame: "VideoFrame") -> Picture | Unreadable:
        """RGB, upright, by the frame's own colour space and range; untagged is BT.601, limited."""
        pts_s = self._pts_s(frame)
        if frame.width * frame.height > self._max_frame_pixels:
            text = f"{frame.width}×{frame.height} pixels, at most {self._max_frame_pixels} in all"
            return Unreadable(FrameTooLarge(f"{self._path.name}: {text}"), pts_s)
        try:
            # One converter for all frames, on this thread: PyAV's to_ndarray(format=…) makes a
            # converter and a pool of threads for every frame, which costs four times as much.
            rgb = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        except av.FFmpegError as error:
            text = f"{self._path.name}: {frame.format.name} can't be converted: {error.strerror}"
            return Unreadable(_because(DecodeError(text), error), pts_s)
        degraded = ("corrupt_frame",) if frame.is_corrupt else ()
        image_hwc = _upright(rgb.astype(np.uint8, copy=False), self._turn_of(frame))
        return Picture(image_hwc, pts_s, degraded=degraded)

    def _turn_of(self, frame: "VideoFrame") -> "Turn | None":
        """How the frame is meant to be shown, looked up where its rotation is a new one.

        In PyAV, a frame whose side data was looked at refers to itself, and stays in memory until
        Python's cycle collector comes by: at 8K that was gigabytes.
        """
        if frame.rotation != self._rotation_deg:
            self._rotation_deg = frame.rotation
            self._turn = _display_matrix(frame)
        return self._turn

    def _pts_s(self, frame: "VideoFrame") -> float | None:
        ticks = frame.dts if frame.pts is None else frame.pts
        if ticks is None or self._stream.time_base is None:
            return None
        return float(ticks * self._stream.time_base)


def _open(path: Path) -> "InputContainer":
    """The open container. Where FFmpeg can't make anything of the file, the reason by name."""
    try:
        # `file:` keeps a colon in a name from being read as a protocol. Titles are in whatever
        # encoding their tool wrote; the pictures are good whatever they say.
        return av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FileNotFoundError, av.error.PermissionError) as error:
        raise SourceNotFound(f"{path}: can't be opened: {error.strerror}") from error
    except av.FFmpegError as error:
        if part := cut_part(path):
            text = f"{path}: the file is cut short: it ends in or before its {part}"
            raise TruncatedVideo(text) from error
        text = f"{path}: expected a video, but FFmpeg can't open it: {error.strerror}"
        raise NotAVideo(text) from error


def _video_stream(container: "InputContainer", path: Path) -> "VideoStream":
    """The best video stream that is not a cover picture; `NotAVideo` where there is none."""
    if container.format.name in _TEXT_FORMATS:
        raise NotAVideo(f"{path}: expected a video, but this is text")
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise NotAVideo(f"{path}: expected a video, but it holds {kinds} only")
    best = container.streams.best("video")
    stream = next((stream for stream in streams if stream is best), streams[0])
    if stream.codec_context is None or not stream.codec_context.width:
        raise NotAVideo(f"{path}: its video stream can't be decoded")
    return stream


def _display_matrix(frame: "VideoFrame") -> "Turn | None":
    """The signs of a, b, c, d, which map a stored point (x, y) to (a·x + c·y, b·x + d·y) on the
    screen (FFmpeg's libavutil/display.h), or None where the frame is shown as it is stored.
    """
    matrix = cast("SideDataContainer", frame.side_data).get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return None
    a, b, _, c, d = np.sign(np.frombuffer(bytes(matrix), np.int32)[:5]).tolist()
    return a, b, c, d


def _upright(rgb_hwc: "ImageHWC", turn: "Turn | None") -> "ImageHWC":
    """The picture as it is meant to be shown, C-contiguous: turned and flipped by quarter turns.

    A display matrix that is not a quarter turn is left alone.
    """
    if turn is not None:
        a, b, c, d = turn
        if (a, d) == (0, 0) and b and c:
            rgb_hwc = rgb_hwc.transpose(1, 0, 2)[::b, ::c]
        elif (b, c) == (0, 0) and a and d:
            rgb_hwc = rgb_hwc[::d, ::a]
    return np.ascontiguousarray(rgb_hwc)


def _cut_by_its_own_sizes(path: Path) -> str | None:
    part = cut_part(path)
    return f"it ends in its {part}" if part in MEDIA_PARTS else None


def _because(error: SourceError, cause: BaseException) -> SourceError:
    """The error with its cause, as `raise … from` has it, for errors that are yielded."""
    error.__cause__ = cause
    return error
