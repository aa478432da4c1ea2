"""What the four numbers of a box mean, told by how they change when the picture does.

The same things are shown again in a picture twice as large, moved, and mirrored. Each format reads
the boxes as corners in pixels; the one that is meant finds them where the things went.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from contracts.boxes import BoxXYXY
from scripts.review.pictures import Move
from scripts.review.read import Found, Numbers

CONVINCING = 0.5
"""Mean intersection over union from which on a format explains the boxes."""
CLEARLY_BETTER = 0.25
NOT_WORSE = 0.1
MOST_BOXES = 8
NETWORK_SIDES_PX = (300, 320, 416, 480, 512, 608, 640, 672, 736, 800, 896, 1024, 1280)

Decoder = Callable[[Numbers, float, float], BoxXYXY]


class Format(NamedTuple):
    """How four numbers in a picture of (width, height) are read; `code` where it is a mistake."""

    code: str
    decode: Decoder


class Seen(NamedTuple):
    """What was found in one picture, and where the first picture's boxes are in it."""

    found: Sequence[Found]
    size: tuple[int, int]
    move: Move


def _xyxy(box: Numbers, _width: float, _height: float) -> BoxXYXY:
    return box


def _xywh(box: Numbers, _width: float, _height: float) -> BoxXYXY:
    x, y, width, height = box
    return x, y, x + width, y + height


def _cxcywh(box: Numbers, _width: float, _height: float) -> BoxXYXY:
    x, y, width, height = box
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _yxyx(box: Numbers, _width: float, _height: float) -> BoxXYXY:
    return box[1], box[0], box[3], box[2]


def _fractions(read: Decoder) -> Decoder:
    """Of the picture's width and height."""
    return lambda box, width, height: _scaled(read(box, width, height), width, height)


def _padded(box: Numbers, width: float, height: float) -> BoxXYXY:
    """Of a square in the middle of which the picture lies."""
    longest = max(width, height)
    return _moved(box, (longest - width) / 2, (longest - height) / 2)


def _stretched(side: float) -> Decoder:
    """Of a square into which the picture was stretched."""
    return lambda box, width, height: _scaled(box, width / side, height / side)


def _letterboxed(side: float, middle: bool) -> Decoder:
    """Of a square into which the picture was put without stretching, in a corner or the middle."""

    def decode(box: Numbers, width: float, height: float) -> BoxXYXY:
        scale = max(width, height) / side
        corners = _scaled(box, scale, scale)
        return _padded(corners, width, height) if middle else corners

    return decode


def _scaled(box: BoxXYXY, x: float, y: float) -> BoxXYXY:
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _moved(box: BoxXYXY, dx: float, dy: float) -> BoxXYXY:
    return box[0] - dx, box[1] - dy, box[2] - dx, box[3] - dy


PLAIN: dict[str, Decoder] = {"xyxy": _xyxy, "xywh": _xywh, "cxcywh": _cxcywh, "yxyx": _yxyx}


def _formats() -> Iterator[tuple[str, Format]]:
    for name, read in PLAIN.items():
        yield name, Format(f"box_is_{name}", read)
        yield f"{name}-fractions", Format("box_is_normalised", _fractions(read))
    yield "xyxy with the padding", Format("box_with_padding", _padded)
    for side in NETWORK_SIDES_PX:
        for how, decode in (
            ("stretched", _stretched(side)),
            ("letterboxed in a corner", _letterboxed(side, middle=False)),
            ("letterboxed in the middle", _letterboxed(side, middle=True)),
        ):
            name = f"xyxy of a network's {side} × {side}, {how}"
            yield name, Format("box_of_network_size", decode)


FORMATS = dict(_formats())
PROMISES = (*PLAIN, *(f"{name}-fractions" for name in PLAIN))
"""The formats that a service may promise."""


def boxes_of(seen: Seen, name: str) -> list[tuple[object, BoxXYXY]]:
    """Class and corners in pixels of the detections, read in this format."""
    decode = FORMATS[name].decode
    return [
        (found.class_key, decode(found.box, *seen.size))
        for found in seen.found
        if found.box is not None
    ]


def agreement(first: Seen, other: Seen, name: str) -> float:
    """How well the first picture's boxes, moved, are found again: mean overlap, 0 to 1."""
    theirs = boxes_of(other, name)
    ours = boxes_of(first, name)[:MOST_BOXES]
    best = [
        max((overlap(other.move(box), box2) for key2, box2 in theirs if key2 == key), default=0.0)
        for key, box in ours
    ]
    return _mean(best)


def on_shapes(first: Seen, shapes: Sequence[BoxXYXY], name: str) -> float:
    """How well the boxes lie on what is known to be in the picture."""
    ours = boxes_of(first, name)[:MOST_BOXES]
    return _mean([max(overlap(box, shape) for shape in shapes) for _, box in ours])


class Reading(NamedTuple):
    """The format that explains the boxes best, beside the promised one: fits picture by picture."""

    best: str
    fits: Sequence[float]
    promised: str
    promised_fits: Sequence[float]

    @property
    def told(self) -> bool:
        """True where one explains them."""
        return max(_mean(self.fits), _mean(self.promised_fits)) >= CONVINCING

    @property
    def mistaken(self) -> bool:
        """True where another than the promised one does: in one picture clearly, in none worse."""
        gains = [one - other for one, other in zip(self.fits, self.promised_fits, strict=True)]
        return self.told and max(gains) > CLEARLY_BETTER and min(gains) > -NOT_WORSE

    @property
    def name(self) -> str:
        """The format to read the boxes in."""
        return self.best if self.mistaken else self.promised

    def __str__(self) -> str:
        """How far the boxes go where the things do."""
        best, promised = _mean(self.fits), _mean(self.promised_fits)
        if not self.mistaken:
            return f"read as {self.promised} they go with the picture by {promised:.0%}"
        return (
            f"read as {self.best} they go with the picture by {best:.0%}, "
            f"as {self.promised} by {promised:.0%}"
        )


def read_format(first: Seen, others: Sequence[Seen], shapes: Sequence[BoxXYXY]) -> Reading:
    """What the numbers mean. `shapes` are boxes that are known; there must be boxes in `first`."""
    allowed = next(found.formats for found in first.found if found.box is not None)
    fits = {name: _fits(first, others, shapes, name) for name in FORMATS}
    best = max(fits, key=lambda name: _mean(fits[name]))
    promised = max(allowed, key=lambda name: _mean(fits[name]))
    return Reading(best, fits[best], promised, fits[promised])


def _fits(first: Seen, others: Sequence[Seen], shapes: Sequence[BoxXYXY], name: str) -> list[float]:
    on_others = [agreement(first, other, name) for other in others]
    return [*on_others, *([on_shapes(first, shapes, name)] if shapes else [])]


def _mean(fits: Sequence[float]) -> float:
    return sum(fits) / len(fits) if fits else 0.0


def overlap(one: BoxXYXY, other: BoxXYXY) -> float:
    """Intersection over union; 0 for boxes that are none."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    area = _area(one) + _area(other) - both
    return both / area if both and math.isfinite(area) and _area(one) and _area(other) else 0.0


def _area(box: BoxXYXY) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
