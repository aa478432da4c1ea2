"""A webcam, read with OpenCV; the camera does not wait for us."""

import contextlib
from collections.abc import Iterator

import cv2
import numpy as np
from cv2.utils import logging as cv2_logging

from contracts.errors import FrameTooLarge, SourceLost, SourceNotFound
from stream.reader import Picture, Reading, Unreadable


class WebcamReader:
    """An open camera, owned by the thread that opened it.

    `pts_s` is None: OpenCV gives a camera's frames no time of their own. When the frame came is in
    `captured_at` and `captured_ns`, which the capture thread stamps.
    """

    live = True
    frame_count_hint: int | None = None

    def __init__(self, target: int | str, max_frame_pixels: int) -> None:
        """Opens the camera: its number, or its device's path. `SourceNotFound` where it can't."""
        self._name = f"webcam {target}"
        self._max_frame_pixels = max_frame_pixels
        # For the whole process: OpenCV tells stderr about every back end that it tried in vain.
        cv2_logging.setLogLevel(cv2_logging.LOG_LEVEL_SILENT)
        self._capture = cv2.VideoCapture(target)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceNotFound(f"{self._name}: no camera that can be opened is there")

    def pictures(self) -> Iterator[Reading]:
        """Frames for as long as the camera gives them, then `SourceLost`: a camera has no end."""
        n_readings = 0
        with contextlib.closing(self):
            while True:
                came, bgr_hwc = self._capture.read()
                if not came:
                    raise SourceLost(f"{self._name}: gave no more frames after {n_readings}")
                n_readings += 1
                yield self._convert(bgr_hwc)

    def close(self) -> None:
        """The camera is free for others."""
        self._capture.release()

    def _convert(self, bgr_hwc: cv2.typing.MatLike) -> Picture | Unreadable:
        height, width = bgr_hwc.shape[:2]
        if height * width > self._max_frame_pixels:
            text = f"{width}×{height} pixels, at most {self._max_frame_pixels} in all"
            return Unreadable(FrameTooLarge(f"{self._name}: {text}"))
        rgb_hwc = cv2.cvtColor(bgr_hwc, cv2.COLOR_BGR2RGB)
        return Picture(rgb_hwc.astype(np.uint8, copy=False))
