"""Pixels that can't be had back: a box becomes a few cells of its mean colours."""

from typing import TYPE_CHECKING

import cv2

from contracts.boxes import BoxXYXY
from pipeline.crop import pixel_bounds

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

CELLS = 4
"""Along the box's longer side. A face or a plate keeps its colours, and nothing to know it by; with
six, a nut was still a ring."""

SMALLEST_CELL_PX = 8


def pixelate(image_hwc: "ImageHWC", box_xyxy: BoxXYXY) -> None:
    """The whole pixels that the box touches are cells of one colour each, in the picture itself.

    What they were is lost: a cell is the mean of its pixels.
    """
    x1, y1, x2, y2 = pixel_bounds(box_xyxy)
    part = image_hwc[y1:y2, x1:x2]
    height, width = part.shape[:2]
    cell_px = max(max(height, width) / CELLS, SMALLEST_CELL_PX)
    cells = max(1, round(width / cell_px)), max(1, round(height / cell_px))
    means = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
    part[:] = cv2.resize(means, (width, height), interpolation=cv2.INTER_NEAREST)
