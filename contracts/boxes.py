"""The line between a box that sticks out of its frame and a box that is wrong.

A detector that looks at a frame's edge may place a box a little outside it: that box is right and
is clamped to the frame. A detector wired up wrongly (centre and size read as corners, normalised
or network coordinates read as pixels) gives boxes that no clamping makes true: those are refused.
The line: **a box is clamped when its centre lies inside the frame** – no side sticks out by half
of the box or more – and refused when it doesn't, when it is not ordered (x1 < x2, y1 < y2), not
finite, or lies wholly within the frame's first pixel, as boxes in normalised units do.
"""

import math

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
    if x2 <= 1 and y2 <= 1 and min(width, height) > 1:
        return "wholly within the first pixel; is it in normalised units?"
    return None


def clamp_box(box_xyxy: BoxXYXY, width: int, height: int) -> BoxXYXY:
    """The part of the box that lies in the frame. Not empty where `box_fault` finds no fault."""
    x1, y1, x2, y2 = box_xyxy
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
