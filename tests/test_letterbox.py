"""Boxes come back to the pixels that they came from, whatever the frame's size and shape."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.detect.families import Fit, Picture
from pipeline.detect.families.detr import RfDetr, RtDetr
from pipeline.detect.families.yolov5 import YoloV5
from pipeline.detect.families.yolox import YoloX
from pipeline.detect.letterbox import (
    GREY,
    STRAY_PX,
    InputBuffer,
    Placement,
    place,
    to_frame,
    without_strays,
)

FITS: tuple[Fit, ...] = ("top_left", "centre", "stretch")
ASPECTS = (1 / 8, 1 / 5, 1 / 3, 1 / 2, 3 / 4, 4 / 3, 2, 3, 5, 8)
PICTURES = {family.layout: family.picture for family in (YoloX, YoloV5, RtDetr, RfDetr)}
RAMP_PX = 12
"""Edges rise over so many pixels, so that where they are shows in a smaller picture too."""


def soft_step(length: int, low: float, high: float) -> NDArray[np.float64]:
    """A pixel row, 1 from `low` to `high` and 0 elsewhere, with ramps centred on the edges."""
    centres = np.arange(length) + 0.5
    rising, falling = (centres - low) / RAMP_PX + 0.5, (high - centres) / RAMP_PX + 0.5
    return np.minimum(np.clip(rising, 0, 1), np.clip(falling, 0, 1))


def edges(profile: NDArray[np.float64]) -> tuple[float, float]:
    """Where the step in a pixel row begins and ends: by its centre of mass and its area."""
    centre = float((profile * (np.arange(len(profile)) + 0.5)).sum() / profile.sum())
    half = float(profile.sum() / profile.max()) / 2
    return centre - half, centre + half


def rectangle_in(channel: NDArray[np.float32], place_of: Placement) -> torch.Tensor:
    """(1, 4), pixels of the input: where the bright rectangle is in the picture's part."""
    _, _, top, left, height, width = place_of
    part = channel[top : top + height, left : left + width].astype(np.float64)
    (x1, x2), (y1, y2) = edges(part.sum(axis=0)), edges(part.sum(axis=1))
    return torch.tensor([[left + x1, top + y1, left + x2, top + y2]])


@pytest.mark.parametrize("layout", PICTURES)
@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("long_side", [797, 331])
def test_a_painted_rectangle_is_found_where_it_was_painted(
    layout: str, aspect: float, long_side: int
) -> None:
    picture = PICTURES[layout]
    width = long_side if aspect > 1 else round(long_side * aspect)
    height = long_side if aspect < 1 else round(long_side / aspect)
    x1, x2, y1, y2 = 0.3 * width, 0.7 * width, 0.3 * height, 0.7 * height
    light = np.outer(soft_step(height, y1, y2), soft_step(width, x1, x2))
    frame = np.repeat((255 * light).round().astype(np.uint8)[..., None], 3, axis=2)
    batch, [placement] = InputBuffer(picture, (416, 416)).fill([frame])
    channel = batch[0, 0] * picture.std[0] + picture.mean[0]
    found = to_frame(rectangle_in(channel, placement), placement)[0]
    assert (found - torch.tensor([x1, y1, x2, y2])).abs().max() < 0.5


@pytest.mark.parametrize("layout", PICTURES)
def test_a_frame_one_pixel_high_comes_back_within_half_a_pixel(layout: str) -> None:
    frame = np.repeat((255 * soft_step(301, 90, 210)).astype(np.uint8)[None, :, None], 3, axis=2)
    picture = PICTURES[layout]
    batch, [placement] = InputBuffer(picture, (416, 416)).fill([frame])
    channel = batch[0, 0] * picture.std[0] + picture.mean[0]
    _, _, top, left, height, width = placement
    x1, x2 = edges(channel[top, left : left + width].astype(np.float64))
    box = torch.tensor([[left + x1, top, left + x2, top + height]])
    expected = torch.tensor([90.0, 0.0, 210.0, 1.0])
    assert (to_frame(box, placement)[0] - expected).abs().max() < 0.5


@given(
    frame_hw=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    input_hw=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    fit=st.sampled_from(FITS),
    corners=st.tuples(*[st.floats(0, 1, width=32)] * 4),
)
def test_to_frame_takes_a_box_back_to_where_it_came_from(
    frame_hw: tuple[int, int],
    input_hw: tuple[int, int],
    fit: Fit,
    corners: tuple[float, float, float, float],
) -> None:
    placement = place(frame_hw, (32 * input_hw[0], 32 * input_hw[1]), fit)
    size = torch.tensor([frame_hw[1], frame_hw[0]] * 2)
    box = torch.tensor([corners]) * size
    _, _, top, left, height, width = placement
    scale = torch.tensor([width / frame_hw[1], height / frame_hw[0]] * 2)
    on_input = box * scale + torch.tensor([left, top] * 2)
    assert (to_frame(on_input, placement) - box).abs().max() < 0.05
    low = torch.tensor([left, top] * 2)
    high = torch.tensor([left + width, top + height] * 2)
    assert ((on_input >= low - 1e-2) & (on_input <= high + 1e-2)).all()


@given(
    frame_hw=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    fit=st.sampled_from(("top_left", "centre")),
)
def test_proportions_are_kept_and_the_picture_fills_the_input_to_a_pixel(
    frame_hw: tuple[int, int], fit: Fit
) -> None:
    placed = place(frame_hw, (320, 416), fit)
    assert placed.height >= 320 - 1 or placed.width >= 416 - 1
    scale = min(320 / frame_hw[0], 416 / frame_hw[1])
    assert abs(placed.height - max(frame_hw[0] * scale, 1)) < 1
    assert abs(placed.width - max(frame_hw[1] * scale, 1)) < 1
    assert 0 <= placed.top <= 320 - placed.height
    assert 0 <= placed.left <= 416 - placed.width


def test_channels_range_and_padding_are_the_familys_own() -> None:
    red = np.zeros((48, 96, 3), np.uint8)
    red[..., 0] = 255
    yolox, _ = InputBuffer(YoloX.picture, (96, 96)).fill([red])
    assert yolox[0, :, 0, 0].tolist() == [0, 0, 255]
    assert yolox[0, :, -1, 0].tolist() == [GREY] * 3
    yolov5, _ = InputBuffer(YoloV5.picture, (96, 96)).fill([red])
    assert yolov5[0, :, 48, 48] == pytest.approx([1, 0, 0])
    assert yolov5[0, :, 0, 0] == pytest.approx([GREY / 255] * 3)
    rfdetr, _ = InputBuffer(RfDetr.picture, (96, 96)).fill([red])
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert rfdetr[0, :, 95, 95] == pytest.approx(expected, rel=1e-5)


def test_frames_of_different_sizes_share_a_batch_and_leave_nothing_behind() -> None:
    buffer = InputBuffer(Picture("centre", "rgb", (0, 0, 0), (1, 1, 1)), (64, 64))
    white, tall = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 16, 3), np.uint8)
    buffer.fill([white, white, white])
    batch, placements = buffer.fill([tall, white])
    assert batch.shape == (2, 3, 64, 64)
    assert [placement.left for placement in placements] == [24, 0]
    assert (batch[0, :, :, :24] == GREY).all()
    assert (batch[0, :, :, 24:40] == 0).all()
    assert (batch[1] == 255).all()


def test_a_box_on_the_grey_is_cut_to_what_shows_and_one_far_out_is_left_to_be_refused() -> None:
    placement = place((50, 100), (100, 100), "centre")
    boxes = torch.tensor(
        [
            [10.0, 30.0, 30.0, 60.0],  # on the picture, which is from y = 25 to 75
            [10.0, 5.0, 30.0, 35.0],  # its centre on the grey above, a part of it shows
            [10.0, 5.0, 30.0, 15.0],  # on the grey alone
            [10.0, 500.0, 30.0, 500.0 + 2 * STRAY_PX],  # nowhere near the input
            [float("nan")] * 4,
        ]
    )
    found, shows = without_strays(boxes, placement)
    assert shows.tolist() == [True, True, False, True, True]
    assert found[1].tolist() == [10, 25, 30, 35]
    assert torch.equal(found[[0, 3]], boxes[[0, 3]])
    assert found[4].isnan().all()
