"""Which quadrilaterals are clamped, and which are refused by name."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.quads import Quad, area_of, bounds_of, clamp_quad, quad_fault, scale_and_move

WIDTH, HEIGHT = 640, 480
SQUARE: Quad = ((10.0, 20.0), (50.0, 20.0), (50.0, 60.0), (10.0, 60.0))
DIAMOND: Quad = ((100.0, 80.0), (120.0, 100.0), (100.0, 120.0), (80.0, 100.0))
values = st.floats(min_value=-2000, max_value=2000)
quads = st.tuples(*[st.tuples(values, values)] * 4)


@pytest.mark.parametrize("quad", [SQUARE, DIAMOND, scale_and_move(SQUARE, (1, 1), (-25.0, -35.0))])
def test_quad_whose_middle_lies_in_the_frame_has_no_fault(quad: Quad) -> None:
    assert quad_fault(quad, WIDTH, HEIGHT) is None


def test_quad_whose_middle_lies_outside_is_refused() -> None:
    outside = scale_and_move(SQUARE, (1, 1), (-30.0, 0.0))
    assert quad_fault(outside, WIDTH, HEIGHT) == "its centre lies outside the frame"


@pytest.mark.parametrize(
    "quad",
    [
        SQUARE[::-1],
        (SQUARE[0], SQUARE[3], SQUARE[2], SQUARE[1]),
        (SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]),
        ((5.0, 5.0), (9.0, 5.0), (7.0, 5.0), (6.0, 5.0)),
    ],
)
def test_corners_out_of_order_or_on_one_line_are_refused(quad: Quad) -> None:
    assert quad_fault(quad, WIDTH, HEIGHT) == "its corners don't go clockwise around an area"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("corner", range(4))
def test_quad_that_is_not_finite_is_refused(value: float, corner: int) -> None:
    corners = list(SQUARE)
    corners[corner] = (corners[corner][0], value)
    first, second, third, fourth = corners
    assert quad_fault((first, second, third, fourth), WIDTH, HEIGHT) == "not finite"


@given(quads)
def test_clamped_corners_lie_in_the_frame_and_those_that_did_stay(quad: Quad) -> None:
    for (x, y), (to_x, to_y) in zip(quad, clamp_quad(quad, WIDTH, HEIGHT), strict=True):
        assert 0 <= to_x <= WIDTH
        assert 0 <= to_y <= HEIGHT
        assert to_x == x or not 0 <= x <= WIDTH
        assert to_y == y or not 0 <= y <= HEIGHT


@given(quads, st.tuples(values, values))
def test_moving_and_mirroring_change_bounds_and_area_as_they_should(
    quad: Quad, move_xy: tuple[float, float]
) -> None:
    moved = scale_and_move(quad, (1, 1), move_xy)
    assert area_of(moved) == pytest.approx(area_of(quad), abs=1e-3)
    mirrored = scale_and_move(quad, (-1, 1), (0, 0))
    assert area_of(mirrored) == pytest.approx(-area_of(quad), abs=1e-3)
    x1, y1, x2, y2 = bounds_of(quad)
    expected = (x1 + move_xy[0], y1 + move_xy[1], x2 + move_xy[0], y2 + move_xy[1])
    assert bounds_of(moved) == pytest.approx(expected)
