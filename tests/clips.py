"""Small clips with their frame numbers painted in, written with PyAV; and ways to damage them."""

import dataclasses
import io
import re
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

if TYPE_CHECKING:
    from av.stream import DataStream
    from av.video.stream import VideoStream

Image = NDArray[np.uint8]
N_BITS = 8
SIZE = (64, 96)
"""(height, width) of a clip unless another is asked for."""


def painted(number: int, size: tuple[int, int] = SIZE) -> Image:
    """(height, width, 3) RGB whose upright bars spell the number, above a band of red and blue.

    The bars are wide enough to survive H.264; the band tells top from bottom and left from right.
    """
    height, width = size
    bits = number >> np.arange(N_BITS) & 1
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = (bits[np.arange(width) * N_BITS // width] * 255).astype(np.uint8)[:, np.newaxis]
    image[height * 3 // 4 :, : width // 2] = (200, 40, 40)
    image[height * 3 // 4 :, width // 2 :] = (40, 40, 200)
    return image


def number_in(image_hwc: Image) -> int:
    """The number that `painted` put there."""
    height, width = image_hwc.shape[:2]
    columns = (np.arange(N_BITS) * 2 + 1) * width // (2 * N_BITS)
    bits = image_hwc[height * 3 // 8, columns].mean(axis=-1) > 127
    return int((bits << np.arange(N_BITS)).sum())


@dataclasses.dataclass(frozen=True)
class Look:
    """How a clip is coded. The defaults are what a phone or a camera writes."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"g": "10"})
    container_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    audio: bool = False
    data: bool = False
    """A stream of five bytes beside each frame, as drones and cameras write their telemetry."""
    cover: bytes | None = None
    """JPEG bytes kept beside the video, as players show them."""
    colorspace: int | None = None
    color_range: int | None = None


H264 = Look()
FASTSTART = Look(container_options={"movflags": "faststart"})
FFV1 = Look(codec="ffv1", pix_fmt="bgr0", options={})
"""Lossless: what is painted comes back exactly."""


def write_clip(
    path: Path,
    images: int | Sequence[Image | av.VideoFrame],
    look: Look = H264,
    ticks: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 10),
) -> Path:
    """A clip of these images, or of so many painted ones, at `ticks` (0, 1, 2 …) of `time_base`."""
    pictures = [painted(i) for i in range(images)] if isinstance(images, int) else images
    frames = [_video_frame(picture, look) for picture in pictures]
    with av.open(str(path), "w", options=dict(look.container_options)) as container:
        if look.cover is not None:
            container.add_attachment("cover.jpg", "image/jpeg", look.cover)
        stream = container.add_stream(look.codec, rate=1 / time_base, options=dict(look.options))
        video = cast("VideoStream", stream)
        video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, look.pix_fmt
        video.codec_context.time_base = time_base
        if look.colorspace is not None and look.color_range is not None:
            video.codec_context.colorspace = look.colorspace
            video.codec_context.color_range = look.color_range
        sound = container.add_stream("aac", rate=8000) if look.audio else None
        data = container.add_data_stream("klv") if look.data else None
        for frame, tick in zip(frames, ticks or range(len(frames)), strict=True):
            frame.pts, frame.time_base = tick, time_base
            container.mux(video.encode(frame))
            if sound is not None:
                container.mux(sound.encode(_silence(tick, time_base)))
            if data is not None:
                container.mux(_telemetry(data, tick, time_base))
        container.mux(video.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def write_sound(path: Path, cover: bytes | None = None) -> Path:
    """A second of silence and no picture, unless a cover (JPEG bytes, in a Matroska file)."""
    with av.open(str(path), "w") as container:
        if cover is not None:
            container.add_attachment("cover.jpg", "image/jpeg", cover)
        sound = container.add_stream("aac", rate=8000)
        for tick in range(10):
            container.mux(sound.encode(_silence(tick, Fraction(1, 10))))
        container.mux(sound.encode(None))
    return path


def _video_frame(picture: Image | av.VideoFrame, look: Look) -> av.VideoFrame:
    if isinstance(picture, av.VideoFrame):
        return picture
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return frame if look.pix_fmt == "rgb24" else frame.reformat(format=look.pix_fmt)


def _silence(tick: int, time_base: Fraction) -> av.AudioFrame:
    samples = int(8000 * time_base)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), "fltp", "mono")
    frame.rate, frame.pts, frame.time_base = 8000, tick * samples, Fraction(1, 8000)
    return frame


def _telemetry(stream: "DataStream", tick: int, time_base: Fraction) -> "av.Packet[Any]":
    packet: av.Packet[Any] = av.Packet(b"north")
    packet.stream, packet.time_base = stream, time_base
    packet.pts = packet.dts = tick
    return packet


def jpeg(size: tuple[int, int] = (500, 500)) -> bytes:
    """A black picture of (width, height) in a JPEG's bytes."""
    file = io.BytesIO()
    PillowImage.new("RGB", size).save(file, "JPEG")
    return file.getvalue()


def cut(path: Path, n_bytes: int) -> Path:
    """A copy that holds only the first `n_bytes`, or all but the last ones where negative."""
    copy = path.with_name(f"cut-{path.name}")
    copy.write_bytes(path.read_bytes()[:n_bytes])
    return copy


def packets(path: Path) -> list["av.Packet[Any]"]:
    """The video packets of a whole clip, in file order, with `pos` and `size`."""
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def ruin_packet(path: Path, number: int) -> Path:
    """A copy in which one video packet is noise of the same length."""
    packet = packets(path)[number]
    assert packet.pos is not None
    data = bytearray(path.read_bytes())
    data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    copy = path.with_name(f"ruined-{path.name}")
    copy.write_bytes(data)
    return copy


def turn_mp4(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Writes a display matrix into the track header of an MP4 (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one, w = 1 << 16, 1 << 30
    data[matrix : matrix + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, w
    )
    path.write_bytes(data)
    return path


def claim_frames(path: Path, n_frames: int) -> Path:
    """Makes an AVI's headers claim a number of frames that it doesn't hold."""
    data = bytearray(path.read_bytes())
    count = struct.pack("<I", n_frames)
    main, stream = data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32
    data[main : main + 4] = data[stream : stream + 4] = count
    path.write_bytes(data)
    return path


def unfill_matroska_size(path: Path) -> Path:
    """Makes the segment's length unknown, as a recorder that was never stopped leaves it."""
    data = bytearray(path.read_bytes())
    found = re.search(rb"\x18\x53\x80\x67\x01", data)
    assert found is not None
    data[found.end() : found.end() + 7] = b"\xff" * 7
    path.write_bytes(data)
    return path
