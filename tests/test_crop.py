"""The crop path gives what the classifier's own reference transform gives."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from pipeline import crop as crop_module
from pipeline.crop import CropBox, CropTransform, crop, pixel_bounds
from tests.frames import noise

CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY_LEVEL = 1 / 255 / 0.224
"""Normalised, of the channel with the smallest deviation."""


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Where a value lies halfway between two grey levels, one may round up and the other down."""
    assert (ours - theirs).abs().max() < GREY_LEVEL + 1e-4


def reference(image: np.ndarray, box: CropBox, transform: CropTransform) -> torch.Tensor:
    """torchvision's transform on the same pixels."""
    preset = ImageClassification(
        crop_size=transform.crop_size,
        resize_size=transform.resize_size,
        mean=transform.mean,
        std=transform.std,
        interpolation=InterpolationMode(transform.interpolation),
    )
    x1, y1, x2, y2 = pixel_bounds(box.box_xyxy)
    result: torch.Tensor = preset(torch.from_numpy(image[y1:y2, x1:x2]).permute(2, 0, 1))
    return result


boxes_in_image = st.tuples(
    st.floats(0, 300), st.floats(0, 200), st.floats(2, 200), st.floats(2, 200)
).map(lambda b: (b[0], b[1], min(b[0] + b[2], 400.0), min(b[1] + b[3], 300.0)))


@settings(max_examples=40, deadline=None)
@given(st.lists(boxes_in_image, min_size=1, max_size=4), st.sampled_from(["bilinear", "bicubic"]))
def test_crops_equal_the_reference_transform_on_the_same_pixels(boxes, interpolation):  # type: ignore[no-untyped-def]
    image = noise(300, 400)
    transform = CropTransform(72, 64, *IMAGENET, interpolation)
    crops = crop([image], [CropBox(0, box) for box in boxes], transform, CPU)
    for ours, box in zip(crops, boxes, strict=True):
        assert_same(ours, reference(image, CropBox(0, box), transform))


@pytest.mark.parametrize(("width", "height"), [(33, 32), (32, 33), (300, 20), (20, 300), (5, 5)])
def test_long_narrow_and_tiny_crops_equal_the_reference(width: int, height: int) -> None:
    image = noise(310, 310)
    transform = CropTransform(236, 224, *IMAGENET)
    box = CropBox(0, (3.0, 4.0, 3.0 + width, 4.0 + height))
    [ours] = crop([image], [box], transform, CPU)
    assert_same(ours, reference(image, box, transform))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_whole_grey_levels_as_in_the_reference(interpolation: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (310, 310, 3), dtype=np.uint8)
    transform = CropTransform(236, 224, (0.0,) * 3, (1.0,) * 3, interpolation)  # type: ignore[arg-type]
    box = CropBox(0, (3.0, 4.0, 104.0, 167.0))
    [ours] = crop([image], [box], transform, CPU)
    assert (ours * 255 - (ours * 255).round()).abs().max() < 1e-4
    assert ((ours - reference(image, box, transform)).abs() > 0.5 / 255).float().mean() < 0.01


def test_crops_of_frames_of_different_sizes_go_together_and_keep_their_order() -> None:
    images = [np.full((40, 50, 3), 10, np.uint8), np.full((200, 90, 3), 200, np.uint8)]
    transform = CropTransform(16, 16, (0.0,) * 3, (1.0,) * 3)
    boxes = [CropBox(i, (0.0, 0.0, 40.0, 40.0)) for i in (1, 0, 1, 1, 0)]
    crops = crop(images, boxes, transform, CPU)
    assert crops.shape == (5, 3, 16, 16)
    assert [round(float(c.mean()) * 255) for c in crops] == [200, 10, 200, 200, 10]


def test_groups_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(300, 400)
    transform = CropTransform(72, 64, *IMAGENET)
    boxes = [CropBox(0, (x, y, x + 90.0, y + 60.0)) for x, y in itertools.product((0, 99), (3, 77))]
    together = crop([image], boxes, transform, CPU)
    monkeypatch.setattr(crop_module, "WINDOW_BYTES_AT_ONCE", 1)
    one_by_one = crop([image], boxes, transform, CPU)
    assert_same(one_by_one, together)


def test_no_boxes_give_no_crops() -> None:
    transform = CropTransform(72, 64, *IMAGENET)
    assert crop([noise(50, 50)], [], transform, CPU).shape == (0, 3, 64, 64)


def test_a_crop_takes_every_pixel_that_the_box_touches() -> None:
    assert pixel_bounds((1.2, 0.0, 3.0, 4.001)) == (1, 0, 3, 5)


@pytest.mark.cuda
def test_crops_on_cuda_equal_those_on_the_cpu() -> None:
    image, transform = noise(300, 400), CropTransform(72, 64, *IMAGENET)
    boxes = [CropBox(0, (10.5, 20.0, 200.0, 150.0)), CropBox(0, (0.0, 0.0, 400.0, 300.0))]
    on_cuda = crop([image], boxes, transform, torch.device("cuda"))
    assert_same(on_cuda.cpu(), crop([image], boxes, transform, CPU))
