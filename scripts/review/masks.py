"""Masks in the shapes in which services send them, and whether they belong to their boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from contracts.boxes import BoxXYXY
from scripts.review.answers import Answer
from scripts.review.findings import Findings
from scripts.review.geometry import FORMATS, overlap
from scripts.review.read import Unreadable, is_number

Mask = NDArray[np.bool_]

FARTHEST = 100_000
"""Coordinates of a polygon that are drawn."""
MARGIN_PX = 3
LEAST_INSIDE = 0.9
"""Of a mask's pixels, in its box."""
LEAST_OVERLAP = 0.25
"""Of the box around the mask with the box."""


def check_masks(findings: Findings, answer: Answer, reading: str) -> None:
    """Each mask, where there are any, is of the picture's size and lies in its box."""
    for index, found in enumerate(answer.found):
        if found.mask is None or found.box is None:
            continue
        try:
            mask = mask_of(found.mask, answer.picture.size)
        except Unreadable as unread:
            findings.report(unread.code, answer.exchange, f"detection {index}: {unread}")
            continue
        box = FORMATS[reading].decode(found.box, *answer.picture.size)
        if fault := fault_of(mask, box):
            findings.report("mask_not_in_box", answer.exchange, f"detection {index}: {fault}")


def fault_of(mask: Mask, box: BoxXYXY) -> str | None:
    """Why the mask can't be of what is in the box, or None where it can."""
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return "the mask is empty"
    x1, y1, x2, y2 = box
    inside = (xs >= x1 - MARGIN_PX) & (xs < x2 + MARGIN_PX)
    inside &= (ys >= y1 - MARGIN_PX) & (ys < y2 + MARGIN_PX)
    if inside.mean() < LEAST_INSIDE:
        return f"{1 - inside.mean():.0%} of the mask lie outside of its box"
    around = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    if overlap(around, box) < LEAST_OVERLAP:
        return "the mask fills little of its box"
    return None


def mask_of(sent: Any, size: tuple[int, int]) -> Mask:
    """The pixels of a picture of (width, height): from run lengths, rows of numbers, or polygons.

    Raises Unreadable where the mask is of another size, or nothing of these.
    """
    width, height = size
    if isinstance(sent, dict) and "counts" in sent:
        _check_size(sent.get("size"), height, width)
        return _from_runs(sent["counts"], height, width)
    if isinstance(sent, list) and sent:
        if _is_rows(sent):
            _check_size([len(sent), len(sent[0])], height, width)
            return np.asarray(sent) > 0.5
        if polygons := _polygons(sent):
            return _drawn(polygons, size)
    raise Unreadable("mask_untold", f"a {type(sent).__name__} that is not known here")


def _check_size(told: Any, height: int, width: int) -> None:
    """Before anything is made of that size."""
    if told != [height, width]:
        text = f"(height, width) of the mask is {told}, of the picture {[height, width]}"
        raise Unreadable("mask_size_wrong", text)


def _from_runs(counts: Any, height: int, width: int) -> Mask:
    """Runs go down the columns, the first of them outside of the mask."""
    runs = _numbers_of(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(is_number(run) and run >= 0 for run in runs):
        raise Unreadable("mask_untold", "the runs are no lengths")
    if sum(runs) != height * width:
        text = f"the runs cover {sum(runs)} pixels, the picture has {height * width}"
        raise Unreadable("mask_size_wrong", text)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, np.asarray(runs, np.int64)).reshape(width, height).T


def _numbers_of(counts: str) -> list[int]:
    """COCO's compressed runs: five bits a character, from the third on less the last but one.

    https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c, rleFrString. Written out
    here as the library takes the text of a stranger at its word.
    """
    runs: list[int] = []
    value = bits = 0
    for character in counts:
        code = ord(character) - 48
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            value -= (code & 16) << (bits - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return runs


def _is_rows(sent: list[Any]) -> bool:
    """Rows of numbers, all as long; a polygon has two in each, or few of them."""
    lists = all(isinstance(row, list) and row and all(map(is_number, row)) for row in sent)
    return lists and len({len(row) for row in sent}) == 1 and len(sent[0]) > 2 and len(sent) > 8


def _polygons(sent: list[Any]) -> list[list[tuple[float, float]]]:
    """Corners of each: `[{x, y}, …]`, `[[x, y], …]` or `[[x, y, x, y, …], …]`; else none."""
    if all(isinstance(point, dict) and {"x", "y"} <= point.keys() for point in sent):
        flat = [[value for point in sent for value in (point["x"], point["y"])]]
    elif all(isinstance(point, list) and len(point) == 2 for point in sent):
        flat = [[value for point in sent for value in point]]
    else:
        flat = [one for one in sent if isinstance(one, list) and len(one) >= 6]
    if not all(is_number(value) and abs(value) < FARTHEST for one in flat for value in one):
        return []
    return [list(zip(one[::2], one[1::2], strict=False)) for one in flat]


def _drawn(polygons: Sequence[Sequence[tuple[float, float]]], size: tuple[int, int]) -> Mask:
    image = Image.new("1", size)
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        draw.polygon(polygon, fill=1)
    return np.asarray(image)
