"""From a packet to latent pictures: what every source that PyAV (FFmpeg) decodes has in common."""

import functools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.codec.context import Flags
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from contracts.errors import DecodeError, FrameTooLarge, SourceError
from stream.reader import Latent, Unreadable

if TYPE_CHECKING:
    from fractions import Fraction

    from av import Packet
    from av.sidedata.sidedata import SideDataContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    from contracts.frame import ImageHWC

Turn = tuple[int, int, int, int]
"""Signs of a display matrix."""


class Decoder:
    """One stream's decoder, owned by the thread that reads; what it gives can be developed on any.

    A frame's `pts_s` is its own presentation time as the stream has it; where it has none, its
    decoding time stands in; where it has neither, None.
    """

    def __init__(
        self,
        context: "VideoCodecContext",
        time_base: "Fraction | None",
        name: str,
        max_frame_pixels: int,
    ) -> None:
        """`name` stands for the source in messages. The context must not have decoded yet."""
        # Without this flag the decoder leaves frames out that it could not make whole, and says
        # nothing. With it they come, marked corrupt, and are accounted for.
        context.flags |= Flags.output_corrupt
        self.context = context
        self._time_base = time_base
        self._name = name
        self._max_frame_pixels = max_frame_pixels
        self._converter = _Converter(name)
        self._rotation_deg: int | None = None
        self._turn: Turn | None = None

    def decode(self, packet: "Packet[Any] | None") -> Iterator[Latent | Unreadable]:
        """What the decoder gives for this packet; with frame threads, that of an earlier one.

        A packet that it refuses is a `DecodeError`. None makes it give what it holds back.

        Known loss: PyAV ends the flush (`packet` None) at its first error, so that a damaged packet
        among the last few of a file takes those frames along that were decoded beside it.
        """
        try:
            frames = self.context.decode(packet)
        except av.FFmpegError as error:
            text = f"{self._name}: the decoder refused a packet: {error.strerror}"
            yield Unreadable(because(DecodeError(text), error))
            return
        for frame in frames:
            yield self._latent(frame)

    def restart(self) -> Iterator[Latent | Unreadable]:
        """What the decoder holds back; then it is as new, and wants a keyframe."""
        if self.context.is_open:
            yield from self.decode(None)
            self.context.flush_buffers()

    def close(self) -> None:
        """Its threads and the pictures that it keeps are gone, whoever still knows this object.

        May be called twice. PyAV's context itself has no other end.
        """
        if hasattr(self, "context"):
            del self.context

    def seconds(self, ticks: int | None) -> float | None:
        """A time of a packet or a frame in seconds."""
        if ticks is None or self._time_base is None:
            return None
        return float(ticks * self._time_base)

    def _latent(self, frame: "VideoFrame") -> Latent | Unreadable:
        pts_s = self.seconds(frame.dts if frame.pts is None else frame.pts)
        n_pixels = frame.width * frame.height
        if n_pixels > self._max_frame_pixels:
            text = f"{frame.width}×{frame.height} pixels, at most {self._max_frame_pixels} in all"
            return Unreadable(FrameTooLarge(f"{self._name}: {text}"), pts_s)
        return Latent(
            functools.partial(self._converter.rgb, frame, self._turn_of(frame)),
            n_bytes=n_pixels * 3,
            pts_s=pts_s,
            degraded=("corrupt_frame",) if frame.is_corrupt else (),
        )

    def _turn_of(self, frame: "VideoFrame") -> "Turn | None":
        """How the frame is meant to be shown, looked up where its rotation is a new one.

        In PyAV, a frame whose side data was looked at refers to itself, and stays in memory until
        Python's cycle collector comes by: at 8K that was gigabytes.
        """
        if frame.rotation != self._rotation_deg:
            self._rotation_deg = frame.rotation
            self._turn = _display_matrix(frame)
        return self._turn


class _Converter:
    """Makes pixels of the frames of one decoder, on any thread, one at a time.

    One for all frames: PyAV's to_ndarray(format=…) makes a converter and a pool of threads for
    every frame, which costs four times as much. The lock is free but where two threads develop
    frames of the same source at once. OpenCV's conversion is no faster, and knows BT.601 only.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._reformatter = VideoReformatter()

    def rgb(self, frame: "VideoFrame", turn: "Turn | None") -> "ImageHWC":
        """RGB, upright, by the frame's own colour space and range; untagged is BT.601, limited."""
        try:
            with self._lock:
                rgb = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        except av.FFmpegError as error:
            text = f"{self._name}: {frame.format.name} can't be converted: {error.strerror}"
            raise DecodeError(text) from error
        return _upright(rgb.astype(np.uint8, copy=False), turn)


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


def because(error: SourceError, cause: BaseException) -> SourceError:
    """The error with its cause, as `raise … from` has it, for errors that are yielded."""
    error.__cause__ = cause
    return error
