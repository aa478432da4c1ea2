"""What a review makes of answers: detections under many names, formats of boxes, masks."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from contracts.boxes import BoxXYXY
from scripts.review.answers import Answer, check_json
from scripts.review.client import Exchange, Request
from scripts.review.compare import check_colours, check_exif, check_format, difference
from scripts.review.course import check_account, check_each
from scripts.review.findings import Findings
from scripts.review.geometry import FORMATS, Seen, read_format
from scripts.review.masks import mask_of
from scripts.review.pictures import (
    SHAPES,
    TO_STORE,
    Picture,
    drawn,
    exif_turned,
    scaled,
    turned,
)
from scripts.review.read import Found, Numbers, Unreadable, detections_in
from scripts.review.refusals import check_error
from tests.broken_services import rle_of
from tests.service_mistakes import letterboxed, to_size, with_center, with_size

CORNERS = (10.0, 20.0, 30.0, 60.0)
SIZED = (10.0, 20.0, 20.0, 40.0)
CAT = {"score": 0.9, "label": "cat"}

ANSWERS: dict[str, tuple[Any, Numbers, str, int | None, str | None]] = {
    "Hugging Face": (
        [{**CAT, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), CORNERS, strict=True))}],
        *(CORNERS, "xyxy", None, "cat"),
    ),
    "Ultralytics": (
        {
            "images": [
                {
                    "shape": [480, 640],
                    "results": [
                        {
                            "class": 15,
                            "name": "cat",
                            "confidence": 0.9,
                            "box": dict(zip(("x1", "y1", "x2", "y2"), CORNERS, strict=True)),
                        }
                    ],
                }
            ]
        },
        *(CORNERS, "xyxy", 15, "cat"),
    ),
    "rows of YOLO": ([[*CORNERS, 0.9, 15.0]], CORNERS, "xyxy", 15, None),
    "torchvision": (
        {"boxes": [[*CORNERS]], "scores": [0.9], "labels": [17]},
        *(CORNERS, "xyxy", 17, None),
    ),
    "COCO": (
        {"annotations": [{"bbox": [*SIZED], "category_id": 17, "score": 0.9}]},
        *(SIZED, "xyxy", 17, None),
    ),
    "Azure": (
        {
            "objects": [
                {
                    "rectangle": dict(zip("xywh", SIZED, strict=True)),
                    "object": "cat",
                    "confidence": 0.9,
                }
            ]
        },
        *(SIZED, "xywh", None, "cat"),
    ),
    "Custom Vision": (
        {
            "predictions": [
                {
                    "probability": 0.9,
                    "tagName": "cat",
                    "boundingBox": dict(
                        zip(("left", "top", "width", "height"), SIZED, strict=True)
                    ),
                }
            ]
        },
        *(SIZED, "xywh", None, "cat"),
    ),
    "a result in a result": (
        {"data": {"result": [{"Class-Name": "cat", "xyxy": [*CORNERS], "conf": 0.9}]}},
        *(CORNERS, "xyxy", None, "cat"),
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_detections_are_found_under_the_names_that_services_give_them(name: str) -> None:
    body, box, box_format, class_id, class_name = ANSWERS[name]
    [found] = detections_in(body)
    assert (found.box, found.formats[0]) == (box, box_format)
    assert (found.score, found.class_id, found.class_name) == (0.9, class_id, class_name)


@pytest.mark.parametrize("body", [[], {"detections": []}, {"boxes": [], "scores": []}])
def test_nothing_found_is_a_result(body: Any) -> None:
    assert detections_in(body) == []


@pytest.mark.parametrize("body", [None, 3, "x", {}, {"detections": 3}, {"results": ["cat"]}, [1]])
def test_what_has_no_list_of_detections_is_told_so(body: Any) -> None:
    with pytest.raises(Unreadable) as unread:
        detections_in(body)
    assert unread.value.code == "shape_unknown"


KEYS = (
    *("detections", "classifications", "inference_ms", "boxes", "scores", "image", "result"),
    *("box", "x", "y", "w", "h", "score", "class_id", "class_name", "mask", "size", "counts"),
    *("width", "height", "models", "weights_sha256", "trace_id", "latency_ms", "code"),
    "detection_index",
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.sampled_from([10**400, 640, 480, "cat"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(st.floats(), min_size=4, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=40,
)


@given(st.lists(JSON, max_size=3), JSON)
def test_no_json_that_a_service_may_send_ends_the_review(items: Any, beside: Any) -> None:
    more = beside if isinstance(beside, dict) else {}
    body = {"inference_ms": 1, "classifications": [], **more, "detections": items}
    exchange = Exchange(Request("first.png"), 200, content=json.dumps(body).encode())
    findings = Findings()
    check_json(findings, exchange)
    check_error(findings, replace(exchange, status=400))
    try:
        found = detections_in(exchange.json)
    except Unreadable as unread:
        findings.report(unread.code, exchange, str(unread))
        return
    answer = Answer(Picture(exchange.request, (640, 480)), exchange, found)
    reading = check_format(findings, answer, [answer], SHAPES)
    check_exif(findings, answer, {6: answer}, reading)
    check_colours(findings, answer, answer, SHAPES, reading)
    check_each(findings, [answer, answer], reading)
    check_account(findings, [answer, answer])
    assert difference(answer, answer) is None


def as_seen(boxes: list[Any], width: int, height: int, move: Any = lambda box: box) -> Seen:
    found = [Found(box, ("xyxy",), class_id=index) for index, box in enumerate(boxes)]
    return Seen(found, (width, height), move)


WRITTEN = {
    "box_is_xywh": with_size,
    "box_is_cxcywh": with_center,
    "box_is_yxyx": lambda box, _width, _height: (box[1], box[0], box[3], box[2]),
    "box_is_normalised": lambda box, width, height: to_size(box, 1, width, height),
    "box_of_network_size": lambda box, width, height: letterboxed(box, 416, width, height),
}


def boxes_in(width: int, height: int) -> st.SearchStrategy[list[BoxXYXY]]:
    def box(x: float, y: float, w: float, h: float) -> BoxXYXY:
        return x * width * 0.6, y * height * 0.6, (x * 0.6 + w) * width, (y * 0.6 + h) * height

    part, side = st.floats(0.05, 1), st.floats(0.05, 0.4)
    return st.lists(st.builds(box, part, part, side, side), min_size=2, max_size=6)


def pictures_of(boxes: list[BoxXYXY], write: Any) -> tuple[Seen, list[Seen]]:
    """The first, twice as large, moved, and mirrored, each with its boxes so written."""
    width, height = 640, 480
    first = as_seen([write(box, width, height) for box in boxes], width, height)
    moves = [
        (1280, 960, scaled(2)),
        (768, 544, lambda b: (b[0] + 128, b[1] + 64, b[2] + 128, b[3] + 64)),
        (width, height, turned((width, height), 2)),
    ]
    others = [
        as_seen([write(move(box), wide, high) for box in boxes], wide, high, move)
        for wide, high, move in moves
    ]
    return first, others


@given(boxes_in(640, 480))
def test_corners_in_pixels_are_never_taken_for_something_else(boxes: list[BoxXYXY]) -> None:
    reading = read_format(*pictures_of(boxes, lambda box, _width, _height: box), [])
    assert reading.told
    assert not reading.mistaken


@pytest.mark.parametrize("code", WRITTEN)
@given(boxes=boxes_in(640, 480))
def test_other_formats_are_told_by_how_boxes_move(code: str, boxes: list[BoxXYXY]) -> None:
    reading = read_format(*pictures_of(boxes, WRITTEN[code]), [])
    # A few boxes by chance fit the promised format too.
    assume(reading.mistaken)
    assert FORMATS[reading.best].code == code


def test_boxes_that_follow_nothing_are_not_told() -> None:
    first, others = pictures_of([(10, 20, 200, 220), (300, 40, 500, 400)], lambda b, *_: b)
    still = [as_seen([(1, 2, 3, 4), (5, 6, 7, 8)], *other.size, other.move) for other in others]
    assert not read_format(first, still, []).told


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_a_stored_picture_is_turned_back_by_its_orientation(orientation: int) -> None:
    box = (30, 20, 90, 50)
    image = Image.new("L", (200, 120))
    image.paste(255, box)
    stored = image.transpose(TO_STORE[orientation])
    assert stored.getbbox() == turned(image.size, orientation)(box)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.info["exif"] = exif.tobytes()
    assert ImageOps.exif_transpose(stored).getbbox() == box


def test_every_stored_picture_is_upright_of_the_first_ones_size() -> None:
    assert {picture.size for picture in exif_turned(drawn()).values()} == {(640, 480)}


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1))
)
def test_compressed_runs_are_read_as_coco_writes_them(pixels: Any) -> None:
    height, width = pixels.shape
    assert np.array_equal(mask_of(rle_of(pixels), (width, height)), pixels)


COVERED = np.zeros((20, 30), bool)
COVERED[5:15, 10:20] = True


@pytest.mark.parametrize(
    "sent",
    [
        {"size": [20, 30], "counts": [205, *([10, 10] * 9), 10, 205]},
        COVERED.astype(int).tolist(),
        [[10, 5, 19, 5, 19, 14, 10, 14]],
        [[10, 5], [19, 5], [19, 14], [10, 14]],
        [{"x": 10, "y": 5}, {"x": 19, "y": 5}, {"x": 19, "y": 14}, {"x": 10, "y": 14}],
    ],
    ids=["runs", "rows", "polygons", "pairs", "points"],
)
def test_masks_are_read_in_the_shapes_in_which_they_come(sent: Any) -> None:
    assert np.array_equal(mask_of(sent, (30, 20)), COVERED)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"size": [30, 20], "counts": [600]}, "mask_size_wrong"),
        ({"size": [20, 30], "counts": [599]}, "mask_size_wrong"),
        ({"size": [10**9, 10**9], "counts": "0"}, "mask_size_wrong"),
        ({"size": [20, 30], "counts": [-1, 601]}, "mask_untold"),
        ({"size": [20, 30], "counts": None}, "mask_untold"),
        ([[1] * 30] * 19, "mask_size_wrong"),
        ([{"x": 1e300, "y": "a"}], "mask_untold"),
        ("iVBORw0KGgo=", "mask_untold"),
    ],
)
def test_masks_that_are_none_are_told_so_before_anything_is_made_of_them(
    sent: Any, code: str
) -> None:
    with pytest.raises(Unreadable) as unread:
        mask_of(sent, (30, 20))
    assert unread.value.code == code


@given(st.text(max_size=40))
def test_a_strangers_runs_do_no_harm(counts: str) -> None:
    with pytest.raises(Unreadable):
        mask_of({"size": [7, 1000], "counts": counts}, (1000, 7))
