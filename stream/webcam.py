"""A webcam, read with OpenCV; the camera does not wait for us."""

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
from cv2.utils import logging as cv2_logging

from contracts.errors import FrameTooLarge, SourceLost, SourceNotFound
from stream.reader import Latent, Reading, Unreadable

if TYPE_CHECKING:
    from contracts.frame import ImageHWC


class WebcamReader:
    """An open camera, owned by the thread that opened it. Its pictures are latent: BGR.

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
                yield self._latent(bgr_hwc)

    def close(self) -> None:
        """The camera is free for others."""
        self._capture.release()

    def _latent(self, bgr_hwc: cv2.typing.MatLike) -> Latent | Unreadable:
        height, width = bgr_hwc.shape[:2]
        if height * width > self._max_frame_pixels:
            text = f"{width}×{height} pixels, at most {self._max_frame_pixels} in all"
            return Unreadable(FrameTooLarge(f"{self._name}: {text}"))
        return Latent(functools.partial(_rgb, bgr_hwc), n_bytes=height * width * 3)


def _rgb(bgr_hwc: cv2.typing.MatLike) -> "ImageHWC":
    return cv2.cvtColor(bgr_hwc, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
