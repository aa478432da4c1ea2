"""The part of a frame that the detector is shown, and the way back to the whole frame.

Within its region the detector works as if there were nothing else: a box that sticks out of the
region is clamped to it, as one that sticks out of a frame is to the frame. The way back only adds
whole pixels, so what the detector said is exactly what leaves.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from contracts.frame import Frame
from contracts.messages import Detection, MaskRle
from contracts.settings import Region
from pipeline.admit import rounded


class Window(NamedTuple):
    """Whole pixels of a frame; x2 and y2 are exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int


def window_of(region: Region, width: int, height: int) -> Window:
    """The region in pixels, each edge at the nearest one; never empty."""
    x1, x2 = _span(region[0], region[2], width)
    y1, y2 = _span(region[1], region[3], height)
    return Window(x1, y1, x2, y2)


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(round(low * size), size - 1)
    return first, max(round(high * size), first + 1)


def cut(frame: Frame, window: Window) -> Frame:
    """The frame as if it had only the window's pixels, which are copied to lie side by side."""
    x1, y1, x2, y2 = window
    pixels = np.ascontiguousarray(frame.image_hwc[y1:y2, x1:x2])
    return dataclasses.replace(frame, image_hwc=pixels)


def put_back(detection: Detection, window: Window, width: int, height: int) -> Detection:
    """The detection of a cut frame where it lies in the whole one, of width × height pixels."""
    x1, y1, x2, y2 = detection.box
    box = (x1 + window.x1, y1 + window.y1, x2 + window.x1, y2 + window.y1)
    mask = detection.mask_rle and put_back_mask(detection.mask_rle, window, width, height)
    return detection.model_copy(update={"box": rounded(box), "mask_rle": mask})


def put_back_mask(mask: MaskRle, window: Window, width: int, height: int) -> MaskRle:
    """The mask over the whole frame; outside of the window it is empty."""
    # COCO's runs go down the columns, and so must the array that is encoded.
    whole = np.zeros((height, width), np.uint8, order="F")
    part = coco_mask.decode({"size": mask.size, "counts": mask.counts.encode("ascii")})
    whole[window.y1 : window.y2, window.x1 : window.x2] = part
    return MaskRle(size=(height, width), counts=coco_mask.encode(whole)["counts"].decode("ascii"))
