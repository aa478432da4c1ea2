"""A video file, read with PyAV (FFmpeg); FFmpeg's errors on opening it get their names here."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.stream import Disposition

from contracts.errors import DecodeError, NotAVideo, SourceError, SourceNotFound, TruncatedVideo
from stream.container import MEDIA_PARTS, cut_part
from stream.decode import Decoder
from stream.reader import Latent, Picture, Unreadable

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

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
        self._container = _open(path)
        try:
            self._stream = _video_stream(self._container, path)
        except SourceError:
            self._container.close()
            raise
        self._stream.thread_type = "AUTO"
        self._decoder = Decoder(
            self._stream.codec_context, self._stream.time_base, path.name, max_frame_pixels
        )
        self._cut_short: str | None = None

    @property
    def frame_count_hint(self) -> int | None:
        """What the container claims; None where it claims nothing."""
        return self._stream.frames or None

    @property
    def frame_rate(self) -> float | None:
        """Frames a second, on average, as the container claims; None where it claims nothing."""
        rate = self._stream.average_rate
        return float(rate) if rate else None

    def pictures(self) -> Iterator[Picture | Unreadable]:
        """Every frame in presentation order; a packet that the decoder refuses is a `DecodeError`.

        Raises `TruncatedVideo` after the last frame of a file that is cut short, and `NotAVideo`
        where there was no frame at all.
        """
        for reading in self.latents():
            yield develop(reading) if isinstance(reading, Latent) else reading

    def latents(self) -> Iterator[Latent | Unreadable]:
        """As `pictures`, with the pictures not yet converted."""
        n_readings = 0
        with contextlib.closing(self):
            for packet in self._packets():
                for reading in self._decoder.decode(packet):
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


def develop(latent: Latent) -> Picture | Unreadable:
    """The picture with its pixels, or why they can't be had."""
    try:
        image_hwc = latent.develop()
    except DecodeError as error:
        return Unreadable(error, latent.pts_s)
    return Picture(image_hwc, latent.pts_s, degraded=latent.degraded)


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


def _cut_by_its_own_sizes(path: Path) -> str | None:
    part = cut_part(path)
    return f"it ends in its {part}" if part in MEDIA_PARTS else None
