"""Frames reach a detector as the library's own transform sends them, or on one of few canvases."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models import get_model

from pipeline.detect.frame_transform import FrameTransform, canvases_of, frame_transform
from tests.frames import noise

SSDLITE = "ssdlite320_mobilenet_v3_large"
FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"


@functools.cache
def library_transform(architecture: str) -> torch.nn.Module:
    model = get_model(architecture, weights=None, weights_backbone=None)
    transform: torch.nn.Module = model.eval().transform
    return transform


def ours_for(architecture: str, *, on_canvases: bool = False) -> FrameTransform:
    ours = frame_transform(library_transform(architecture))
    ours.eval()
    if on_canvases:
        ours.canvases = canvases_of(ours)
    return ours


def as_frame(height: int, width: int, seed: int = 0) -> Tensor:
    """(3, H, W) uint8."""
    return torch.from_numpy(noise(height, width, seed)).permute(2, 0, 1)


@pytest.mark.parametrize("architecture", [SSDLITE, FASTER, "ssd300_vgg16"])
def test_frames_reach_the_network_as_the_library_sends_them(architecture: str) -> None:
    frames = [as_frame(240, 320, 1), as_frame(333, 251, 2), as_frame(31, 700, 3)]
    ours, _ = ours_for(architecture)(frames)
    theirs, _ = library_transform(architecture)([picture / 255 for picture in frames])
    assert ours.image_sizes == theirs.image_sizes
    torch.testing.assert_close(ours.tensors, theirs.tensors, atol=1e-4, rtol=0)


def test_a_fixed_size_is_the_only_canvas_and_else_there_are_three() -> None:
    assert canvases_of(ours_for(SSDLITE)) == ((320, 320),)
    assert canvases_of(ours_for(FASTER)) == ((320, 640), (640, 320), (640, 640))
    retina = frame_transform(library_transform("retinanet_resnet50_fpn"))
    assert canvases_of(retina) == ((800, 1344), (1344, 800), (1344, 1344))


SIDES = st.integers(1, 400)


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3))
def test_every_batch_lies_on_one_of_the_canvases(sizes: list[tuple[int, int]]) -> None:
    ours = ours_for(FASTER, on_canvases=True)
    batch, _ = ours([as_frame(*size) for size in sizes])
    assert tuple(batch.tensors.shape[2:]) in ours.canvases


def test_on_a_canvas_a_picture_is_the_same_with_nothing_around_it() -> None:
    frames = [as_frame(240, 300, 1), as_frame(90, 320, 2)]
    plain, _ = ours_for(FASTER)(frames)
    padded, _ = ours_for(FASTER, on_canvases=True)(frames)
    assert padded.image_sizes == plain.image_sizes
    height, width = plain.tensors.shape[2:]
    assert torch.equal(padded.tensors[:, :, :height, :width], plain.tensors)
    assert padded.tensors[:, :, height:].abs().sum() == 0
    assert padded.tensors[:, :, :, width:].abs().sum() == 0
