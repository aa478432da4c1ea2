"""The line between a quadrilateral that sticks out of its frame and one that is wrong.

It is that of `contracts.boxes`, drawn for the upright box around the four corners: where that box's
centre lies inside the frame, the corners may be clamped to it, else the quadrilateral is refused.
So is one that is not finite, or whose corners don't go clockwise around an area.
"""

import itertools
import math

from contracts.boxes import BoxXYXY, box_fault

PointXY = tuple[float, float]
Quad = tuple[PointXY, PointXY, PointXY, PointXY]
"""Corners in absolute pixels of the original frame, clockwise from the top left one."""


def quad_fault(quad: Quad, width: int, height: int) -> str | None:
    """Why this can't be a quadrilateral in a frame of width × height pixels, or None."""
    if not all(map(math.isfinite, itertools.chain(*quad))):
        return "not finite"
    if area_of(quad) <= 0:
        return "its corners don't go clockwise around an area"
    return box_fault(bounds_of(quad), width, height)


def bounds_of(quad: Quad) -> BoxXYXY:
    """The upright box around the corners."""
    xs, ys = zip(*quad, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def area_of(quad: Quad) -> float:
    """Square pixels; negative where the corners go anticlockwise (shoelace, y downwards)."""
    around = itertools.pairwise([*quad, quad[0]])
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in around) / 2


def clamp_quad(quad: Quad, width: int, height: int) -> Quad:
    """Each corner is at the point of the frame that is nearest to it."""
    first, second, third, fourth = (
        (min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height))) for x, y in quad
    )
    return first, second, third, fourth


def scale_and_move(quad: Quad, scale_xy: PointXY, move_xy: PointXY) -> Quad:
    """Each corner is scaled, then moved."""
    (scale_x, scale_y), (move_x, move_y) = scale_xy, move_xy
    first, second, third, fourth = ((x * scale_x + move_x, y * scale_y + move_y) for x, y in quad)
    return first, second, third, fourth
