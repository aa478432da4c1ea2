"""Finds the detections in an answer, under the names that vision services give them."""

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Numbers = tuple[float, float, float, float]

LISTS = ("detections", "predictions", "results", "objects", "instances", "annotations", "boxes")
WRAPPERS = ("result", "prediction", "data", "output", "outputs", "response", "body", "images")
BOXES = ("box", "boxxyxy", "bbox", "xyxy", "boundingbox", "rect", "rectangle", "coordinates")
CORNERS = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)
SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
SCORES = ("score", "scores", "confidence", "confidences", "conf", "probability", "prob")
CLASSES = ("classid", "categoryid", "labelid", "cls", "class", "label", "category", "classes")
NAMES = (
    *("classname", "labelname", "categoryname", "tagname", "name"),
    *("label", "class", "category", "object"),
)
MASKS = ("maskrle", "mask", "rle", "segmentation", "segments", "polygon", "points")
DEEPEST = 6
"""How many lists and objects are looked into for the list of detections."""
COLUMNS = {
    "box": ("boxes", "bboxes"),
    "score": ("scores", "confidences", "conf"),
    "class": ("classes", "labels", "classids", "categoryids", "cls"),
    "class_name": ("classnames", "names", "labelnames"),
    "mask": ("masks",),
}


class Unreadable(Exception):
    """The answer is not one that can be understood; `code` is that of the rule."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Found:
    """One detection as it was sent. `formats` is what the names of the box's numbers allow."""

    box: Numbers | None
    formats: tuple[str, ...]
    score: Any = None
    class_id: int | None = None
    class_name: str | None = None
    mask: Any = None
    labels: frozenset[str] = frozenset()
    """Words of every name that is given to it, also by a classifier."""

    @property
    def class_key(self) -> int | str | None:
        """What tells its class from others."""
        return self.class_name if self.class_id is None else self.class_id


def detections_in(body: Any, promised: str = "xyxy") -> list[Found]:
    """All of them, in the order in which they were sent. Raises Unreadable.

    `promised` is the format of boxes that are plain lists of numbers.
    """
    items = _items(body)
    if items is None:
        raise Unreadable("shape_unknown", f"no list under {', '.join(LISTS)} in {_shown(body)}")
    further = _classified(body)
    return [_found(item, promised, further.get(index, "")) for index, item in enumerate(items)]


def walk(body: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep, lists too."""
    pairs = body.items() if isinstance(body, dict) else ()
    for key, value in pairs:
        yield key, value
        yield from walk(value)
    for item in body if isinstance(body, list) else ():
        yield from walk(item)


def floats_in(body: Any) -> Iterator[float]:
    """Every number with a fraction, however deep."""
    if isinstance(body, float):
        yield body
    inner = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    for value in inner:
        yield from floats_in(value)


def is_number(value: Any) -> bool:
    """True for what JSON calls a number, unless it is too large for a float."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and not (isinstance(value, int) and abs(value) > sys.float_info.max)


def plain(key: str) -> str:
    """`classId`, `class_id` and `Class-ID` are one name."""
    return re.sub("[^a-z0-9]", "", key.lower())


def pick(item: dict[str, Any], names: Sequence[str], fits: Callable[[Any], bool]) -> Any:
    """The first value under one of the names that fits, or None."""
    by_name = {plain(key): value for key, value in item.items()}
    values = (by_name[name] for name in names if name in by_name)
    return next((value for value in values if fits(value)), None)


def _items(body: Any, depth: int = 0) -> list[Any] | None:
    if depth > DEEPEST:
        return None
    if isinstance(body, list):
        # A list with one entry a picture is that picture's entry.
        inner = _items(body[0], depth + 1) if len(body) == 1 else None
        return inner if inner is not None else _list_of_detections(body)
    if not isinstance(body, dict):
        return None
    if (table := _from_columns(body)) is not None:
        return table
    by_name = {plain(key): value for key, value in body.items()}
    inside = (_items(by_name.get(name), depth + 1) for name in (*LISTS, *WRAPPERS))
    return next((items for items in inside if items is not None), None)


def _list_of_detections(items: list[Any]) -> list[Any] | None:
    return items if all(isinstance(item, dict) or _is_row(item) for item in items) else None


def _is_row(item: Any) -> bool:
    return isinstance(item, list) and len(item) >= 4 and all(map(is_number, item))


def _from_columns(body: dict[str, Any]) -> list[Any] | None:
    """`{boxes: […], scores: […], labels: […]}` as one entry a detection."""
    columns = {}
    for name, spellings in COLUMNS.items():
        column = pick(body, spellings, lambda value: isinstance(value, list))
        if column is not None:
            columns[name] = column
    if not {"box", "score"} <= columns.keys():
        return None
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise Unreadable("lists_disagree", ", ".join(f"{n} {name}" for name, n in lengths.items()))
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _found(item: Any, promised: str, further: str) -> Found:
    if isinstance(item, list):
        values = dict(zip(("score", "class"), item[4:6], strict=False))
        item = {"box": item[:4], **values}
    box, formats = _box(item, promised)
    class_id = pick(item, CLASSES, lambda value: is_number(value) and value == value // 1)
    name = pick(item, NAMES, lambda value: isinstance(value, str) and bool(value.strip()))
    words = re.findall("[a-z]+", f"{name or ''} {further}".lower())
    return Found(
        box=box,
        formats=formats,
        score=pick(item, SCORES, lambda _: True),
        class_id=None if class_id is None else int(class_id),
        class_name=name,
        mask=pick(item, MASKS, lambda value: value is not None),
        labels=frozenset(words),
    )


def _box(item: dict[str, Any], promised: str) -> tuple[Numbers | None, tuple[str, ...]]:
    box = pick(item, BOXES, lambda value: isinstance(value, list | dict))
    if isinstance(box, list):
        whole = len(box) == 4 and all(map(is_number, box))
        return (_four(box) if whole else None), (promised,)
    for names, formats in (
        *((names, ("xyxy",)) for names in CORNERS),
        *((names, ("xywh", "cxcywh")) for names in SIZES),
    ):
        values = [pick(box or item, (name,), is_number) for name in names]
        if None not in values:
            return _four(values), formats
    return None, (promised,)


def _four(values: Sequence[Any]) -> Numbers:
    x, y, right, bottom = map(float, values)
    return x, y, right, bottom


def _classified(body: Any) -> dict[int, str]:
    """What framewire's `classifications` say, by the detection they speak of."""
    items = body.get("classifications") if isinstance(body, dict) else None
    if not isinstance(items, list):
        return {}
    return {
        item["detection_index"]: str(item.get("class_name"))
        for item in items
        if isinstance(item, dict) and isinstance(item.get("detection_index"), int)
    }


def _shown(body: Any) -> str:
    if isinstance(body, dict):
        return f"the keys {', '.join(map(str, body))[:200] or 'none'}"
    return f"a {type(body).__name__}"
