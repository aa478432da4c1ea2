"""Which boxes are clamped, and which are refused by name."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contracts.boxes import BoxXYXY, box_fault, clamp_box, first_pixel_only

WIDTH, HEIGHT = 640, 480
halves = st.floats(min_value=0.01, max_value=5000)
sizes = st.integers(min_value=1, max_value=4000)


@pytest.mark.parametrize(
    "box",
    [
        (10.0, 20.0, 30.0, 40.0),
        (0.0, 0.0, 640.0, 480.0),
        (-49.0, 10.0, 51.0, 30.0),
        (10.0, -49.0, 30.0, 51.0),
        (589.0, 10.0, 689.0, 30.0),
        (10.0, 431.0, 30.0, 528.0),
        (0.0, 0.0, 1.0, 1.1),
    ],
)
def test_box_with_its_centre_in_the_frame_has_no_fault(box: BoxXYXY) -> None:
    assert box_fault(box, WIDTH, HEIGHT) is None


@pytest.mark.parametrize(
    "box",
    [
        (-50.0, 10.0, 50.0, 30.0),
        (10.0, -51.0, 30.0, 49.0),
        (590.0, 10.0, 690.0, 30.0),
        (10.0, 431.0, 30.0, 529.0),
        (700.0, 10.0, 720.0, 30.0),
    ],
)
def test_box_with_its_centre_outside_the_frame_is_refused(box: BoxXYXY) -> None:
    assert box_fault(box, WIDTH, HEIGHT) == "its centre lies outside the frame"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", range(4))
def test_box_that_is_not_finite_is_refused(value: float, position: int) -> None:
    box = [10.0, 20.0, 30.0, 40.0]
    box[position] = value
    assert box_fault((box[0], box[1], box[2], box[3]), WIDTH, HEIGHT) == "not finite"


@given(
    x=st.floats(min_value=50, max_value=600),
    y=st.floats(min_value=50, max_value=450),
    w=st.floats(min_value=1, max_value=49),
    h=st.floats(min_value=1, max_value=49),
)
def test_centre_and_size_read_as_corners_are_named(x: float, y: float, w: float, h: float) -> None:
    assert "(cx, cy, w, h)" in (box_fault((x, y, w, h), WIDTH, HEIGHT) or "")


@pytest.mark.parametrize("box", [(10.0, 20.0, 10.0, 40.0), (10.0, 20.0, 30.0, 20.0)])
def test_empty_box_is_refused_as_not_ordered(box: BoxXYXY) -> None:
    assert "not ordered" in (box_fault(box, WIDTH, HEIGHT) or "")


corners = st.floats(min_value=0, max_value=0.5)
sides = st.floats(min_value=0.01, max_value=0.5)
specks = st.tuples(corners, corners, sides, sides).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@given(st.lists(specks, min_size=1))
def test_boxes_in_normalised_units_are_all_in_the_first_pixel(boxes: list[BoxXYXY]) -> None:
    assert first_pixel_only(boxes, WIDTH, HEIGHT)
    assert not first_pixel_only([*boxes, (0.0, 0.0, 1.0, 1.1)], WIDTH, HEIGHT)


def test_no_boxes_are_not_in_the_first_pixel() -> None:
    assert not first_pixel_only([], WIDTH, HEIGHT)


def test_tiny_box_in_the_corner_has_no_fault() -> None:
    assert box_fault((-0.4, -0.3, 0.9, 0.8), WIDTH, HEIGHT) is None


def test_frame_of_one_pixel_has_a_box() -> None:
    assert box_fault((0.0, 0.0, 1.0, 1.0), 1, 1) is None
    assert not first_pixel_only([(0.0, 0.0, 1.0, 1.0)], 1, 1)


@given(sizes, sizes, halves, halves, st.data())
def test_clamped_box_is_ordered_lies_in_the_frame_and_has_no_fault(
    width: int, height: int, half_width: float, half_height: float, data: st.DataObject
) -> None:
    x, y = data.draw(st.floats(0, width)), data.draw(st.floats(0, height))
    box = x - half_width, y - half_height, x + half_width, y + half_height
    assume(box_fault(box, width, height) is None)
    x1, y1, x2, y2 = clamp_box(box, width, height)
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert box_fault((x1, y1, x2, y2), width, height) is None


@given(sizes, sizes, st.data())
def test_box_that_lies_in_the_frame_is_not_changed(
    width: int, height: int, data: st.DataObject
) -> None:
    xs = sorted(data.draw(st.lists(st.floats(0, width), min_size=2, max_size=2)))
    ys = sorted(data.draw(st.lists(st.floats(0, height), min_size=2, max_size=2)))
    box = xs[0], ys[0], xs[1], ys[1]
    assert clamp_box(box, width, height) == box
