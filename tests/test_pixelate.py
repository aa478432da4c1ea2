"""What is blurred can't be had back: a few means are left of a box, and nothing else is touched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.filters.pixelate import CELLS, pixelate


def noise(height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def colours(image: NDArray[np.uint8]) -> int:
    return len(np.unique(image.reshape(-1, 3), axis=0))


def test_pixels_that_change_places_within_a_cell_leave_the_same_picture() -> None:
    cells = noise(32, 32).reshape(4, 8, 4, 8, 3).transpose(0, 2, 1, 3, 4).reshape(16, 64, 3)
    shuffled = np.random.default_rng(2).permuted(cells, axis=1)
    one, other = (
        np.ascontiguousarray(
            each.reshape(4, 4, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(32, 32, 3)
        )
        for each in (cells, shuffled)
    )
    assert not np.array_equal(one, other)
    for image in (one, other):
        pixelate(image, (0.0, 0.0, 32.0, 32.0))
    assert np.array_equal(one, other)
    assert colours(one) <= CELLS**2


sides = st.floats(0.01, 60)


@given(st.floats(0, 80), st.floats(0, 50), sides, sides)
def test_every_pixel_that_the_box_touches_is_in_a_cell_and_no_other_changes(
    x: float, y: float, width: float, height: float
) -> None:
    box = (x, y, min(x + width, 90.0), min(y + height, 60.0))
    image, before = noise(), noise()
    pixelate(image, box)
    x1, y1, x2, y2 = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
    assert colours(image[y1:y2, x1:x2]) <= CELLS**2
    image[y1:y2, x1:x2] = before[y1:y2, x1:x2]
    assert np.array_equal(image, before)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 7), (270, 480)])
def test_any_size_keeps_its_mean_and_not_more_than_its_cells(size: tuple[int, int]) -> None:
    height, width = size
    image = noise(height, width)
    mean = image.mean(axis=(0, 1))
    pixelate(image, (0.0, 0.0, float(width), float(height)))
    assert colours(image) <= CELLS**2
    assert np.allclose(image.mean(axis=(0, 1)), mean, atol=8)
