"""One MP4 while it is written: an encoder, a canvas of fixed size, and times that only grow."""

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import av.error
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from sinks.files import claim

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

ENCODER: Final = "libx264"
OPTIONS = {"crf": "23", "preset": "veryfast"}
THREADS = 4
MAX_SIDE_PX = 16384  # What libx264 takes.

TICKS_PER_S = 90_000
STEP_S = 1 / 25
"""Between two frames whose times say nothing usable."""
LATEST_START_S = 60.0
FURTHEST_BACK_S = 1.0
FURTHEST_AHEAD_S = 3600.0


class Clock:
    """Turns `pts_s` into ticks of 1/90000 s that strictly increase, as MP4 needs them.

    - `pts_s` is kept where it can be. A time that repeats, or goes back by less than a second,
      becomes one tick after the frame before.
    - A frame without `pts_s` comes 1/25 s after the frame before.
    - A source that begins before 0 or after its first minute (a camera that has been running) is
      counted from its first frame: players would show hours of nothing before it.
    - Where time leaps, back by a second or ahead by an hour, it goes on 1/25 s after the frame
      before: MP4 can't hold a step of seven hours.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._origin_s = 0.0

    def tick(self, pts_s: float | None) -> int:
        """The frame's time in ticks."""
        if self._last is None:
            self._last = self._first(pts_s)
        else:
            self._last = self._next(pts_s, self._last)
        return self._last

    def _first(self, pts_s: float | None) -> int:
        if pts_s is None:
            return 0
        if not 0 <= pts_s <= LATEST_START_S:
            self._origin_s = pts_s
        return round((pts_s - self._origin_s) * TICKS_PER_S)

    def _next(self, pts_s: float | None, last: int) -> int:
        step = round(STEP_S * TICKS_PER_S)
        if pts_s is None:
            return last + step
        seconds = pts_s - self._origin_s
        if not -FURTHEST_BACK_S < seconds - last / TICKS_PER_S < FURTHEST_AHEAD_S:
            self._origin_s = pts_s - (last + step) / TICKS_PER_S
            return last + step
        return max(last + 1, round(seconds * TICKS_PER_S))


class Recording:
    """Owned by the sink thread. `path` appears when `finish` has made the file whole, not before.

    The first frame's size, made even, is the video's; frames of another size are letterboxed into
    it. PyAV's errors (OSError, FFmpegError) come out of every method as they are.
    BlockingIOError when it is made: another run is writing this video.
    """

    def __init__(self, path: Path, width: int, height: int) -> None:
        self._path = path
        self._part = path.with_name(f"{path.stem}.part{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        # FFmpeg opens the file by its name, twice: this holds the lock on it meanwhile.
        self._claim = claim(self._part)
        self._clock = Clock()
        self._size = canvas_size(width, height)
        # The index goes to the front at the end, so that the file plays while it is downloaded.
        options = {"movflags": "+faststart"}
        self._container = av.open(str(self._part), "w", format="mp4", options=options)
        self._stream = self._container.add_stream(ENCODER, rate=25, options=OPTIONS)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = Fraction(1, TICKS_PER_S)
        context = self._stream.codec_context
        context.time_base = Fraction(1, TICKS_PER_S)
        context.thread_count = THREADS
        # With B-frames MP4 takes the length from decoding times, which is too short when the
        # frames are not evenly spaced.
        context.max_b_frames = 0
        # Said in the file, so that players don't guess the colours from the resolution.
        context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709
        context.color_range = ColorRange.MPEG

    def add(self, image_hwc: "ImageHWC", pts_s: float | None) -> None:
        """The frame, (height, width, 3) uint8 RGB, is with the encoder."""
        canvas = letterbox(image_hwc, *self._size)
        rgb = av.VideoFrame.from_ndarray(canvas, format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts = self._clock.tick(pts_s)
        frame.time_base = Fraction(1, TICKS_PER_S)
        frame.duration = round(STEP_S * TICKS_PER_S)  # Counts for the last frame only.
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """The file is whole, playable and has its name; or is gone, and the error is raised."""
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._part.replace(self._path)
        except (OSError, av.error.FFmpegError):
            self.discard()
            raise
        self._claim.close()

    def discard(self) -> None:
        """The unfinished file is gone. Safe to call twice."""
        with contextlib.suppress(OSError, av.error.FFmpegError):
            self._container.close()
        with contextlib.suppress(OSError):
            # Once the claim is closed, a file of this name is another run's.
            if not self._claim.closed:
                self._part.unlink()
        self._claim.close()


def canvas_size(width: int, height: int) -> tuple[int, int]:
    """Width and height for a video of such frames: even, as yuv420p needs, and not too large."""
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    return width + width % 2, height + height % 2


def letterbox(image_hwc: "ImageHWC", width: int, height: int) -> "ImageHWC":
    """The picture on a black canvas of this size: whole, centred, its shape kept.

    One that is only a pixel narrower or lower, because it is odd, is not scaled.
    """
    image_height, image_width = image_hwc.shape[:2]
    if not (0 <= width - image_width <= 1 and 0 <= height - image_height <= 1):
        scale = min(width / image_width, height / image_height)
        size = max(1, round(image_width * scale)), max(1, round(image_height * scale))
        image_hwc = cv2.resize(
            image_hwc, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        ).astype(np.uint8, copy=False)
    top = (height - image_hwc.shape[0]) // 2
    left = (width - image_hwc.shape[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + image_hwc.shape[0], left : left + image_hwc.shape[1]] = image_hwc
    return canvas
