"""The line between a box that sticks out of its frame and a box that is wrong.

A detector that looks at a frame's edge may place a box a little outside it: that box is right and
is clamped to the frame. A detector wired up wrongly (centre and size read as corners, network
coordinates read as pixels) gives boxes that no clamping makes true: those are refused. The line:
**a box is clamped when its centre lies inside the frame** – no side sticks out by half of the box
or more – and refused when it doesn't, when it is not ordered (x1 < x2, y1 < y2), or not finite.

Boxes in normalised units pass that line, each a speck in the first pixel. One speck there may be
true, so all boxes of a frame are looked at together: `first_pixel_only`.
"""

import math
from collections.abc import Sequence

BoxXYXY = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in absolute pixels of the original frame; x2 and y2 are exclusive edges."""


def box_fault(box_xyxy: BoxXYXY, width: int, height: int) -> str | None:
    """Why this box can't be a box of a frame of width × height pixels, or None when it can."""
    if not all(math.isfinite(value) for value in box_xyxy):
        return "not finite"
    x1, y1, x2, y2 = box_xyxy
    if x1 >= x2 or y1 >= y2:
        return "not ordered (x1 < x2, y1 < y2); is it (cx, cy, w, h) or (x, y, w, h)?"
    if not (0 < (x1 + x2) / 2 < width and 0 < (y1 + y2) / 2 < height):
        return "its centre lies outside the frame"
    return None


def first_pixel_only(boxes_xyxy: Sequence[BoxXYXY], width: int, height: int) -> bool:
    """True where there are boxes, and they all lie in the frame's first pixel, as normalised do."""
    specks = [x2 <= 1 and y2 <= 1 for _, _, x2, y2 in boxes_xyxy]
    return min(width, height) > 1 and bool(specks) and all(specks)


def clamp_box(box_xyxy: BoxXYXY, width: int, height: int) -> BoxXYXY:
    """The part of the box that lies in the frame. Not empty where `box_fault` finds no fault."""
    x1, y1, x2, y2 = box_xyxy
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
