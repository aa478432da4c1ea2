"""Frames of any size onto the network's input, and boxes from there back to each frame's pixels.

A frame is scaled to fit and the rest is grey, or it is stretched. Both axes have a scale of their
own: the picture is a whole number of pixels wide and high, so the two differ a little even where
the proportions are kept. Boxes go back by the scales that the pixels really came by.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.detect.families import Fit, Picture

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

GREY = 114
"""What all YOLO families fill the rest with."""

STRAY_PX = 32
"""How far a head may place a centre outside its input: one cell of its coarsest grid."""


class Placement(NamedTuple):
    """Where a frame lies on the network's input, in whole pixels of the input."""

    frame_hw: tuple[int, int]
    input_hw: tuple[int, int]
    top: int
    left: int
    height: int
    width: int


def place(frame_hw: tuple[int, int], input_hw: tuple[int, int], fit: Fit) -> Placement:
    """The frame's place. Rounded as the families do it (see their sources); never below a pixel."""
    if fit == "stretch":
        return Placement(frame_hw, input_hw, 0, 0, *input_hw)
    scale = min(input_hw[0] / frame_hw[0], input_hw[1] / frame_hw[1])
    to_whole = int if fit == "top_left" else round
    height, width = (max(to_whole(side * scale), 1) for side in frame_hw)
    if fit == "top_left":
        return Placement(frame_hw, input_hw, 0, 0, height, width)
    # A half pixel to spare goes below and to the right.
    top, left = (input_hw[0] - height) // 2, (input_hw[1] - width) // 2
    return Placement(frame_hw, input_hw, top, left, height, width)


def to_frame(boxes_xyxy: Tensor, placement: Placement) -> Tensor:
    """(N, 4) from pixels of the input to pixels of the frame."""
    frame_height, frame_width = placement.frame_hw
    scale = [placement.width / frame_width, placement.height / frame_height]
    offset = torch.tensor([placement.left, placement.top] * 2)
    return (boxes_xyxy - offset) / torch.tensor(scale * 2)


def without_strays(boxes_xyxy: Tensor, placement: Placement) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) in pixels of the input, and (N,) bool, False for those of the grey alone.

    A head now and then puts a centre onto the grey beside the picture, or a little beyond the
    input. Such a box is cut to the picture, and nothing is left of it or the part that shows.
    A box farther out, or not finite, is no such thing: it stays as it is, to be refused.
    """
    top_left = torch.tensor([placement.left, placement.top], dtype=torch.float32)
    size = torch.tensor([placement.width, placement.height], dtype=torch.float32)
    input_size = torch.tensor(placement.input_hw[::-1], dtype=torch.float32)
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    inside = ((centre > top_left) & (centre < top_left + size)).all(dim=1)
    near = ((centre >= -STRAY_PX) & (centre <= input_size + STRAY_PX)).all(dim=1)
    stray = near & ~inside
    cut = boxes_xyxy.clamp(torch.cat([top_left] * 2), torch.cat([top_left + size] * 2))
    boxes = torch.where(stray[:, None], cut, boxes_xyxy)
    return boxes, ~stray | (cut[:, :2] < cut[:, 2:]).all(dim=1)


class InputBuffer:
    """The network's input, made from frames in one go. Used by the inference thread only."""

    def __init__(self, picture: Picture, input_hw: tuple[int, int]) -> None:
        self._picture = picture
        self._input_hw = input_hw
        self._bytes = np.empty((0, *input_hw, 3), np.uint8)
        self._floats = np.empty((0, 3, *input_hw), np.float32)
        self._mean = np.array(picture.mean, np.float32)[:, None, None]
        self._factor = 1 / np.array(picture.std, np.float32)[:, None, None]

    def fill(self, images_hwc: Sequence["ImageHWC"]) -> tuple[NDArray[np.float32], list[Placement]]:
        """(B, 3, H, W) float32, written over by the next call, and each image's place."""
        count = len(images_hwc)
        if count > len(self._bytes):
            self._bytes = np.empty((count, *self._input_hw, 3), np.uint8)
            self._floats = np.empty((count, 3, *self._input_hw), np.float32)
        placements = [
            place((image.shape[0], image.shape[1]), self._input_hw, self._picture.fit)
            for image in images_hwc
        ]
        for image, canvas, placement in zip(images_hwc, self._bytes, placements, strict=False):
            _draw(image, canvas, placement, self._picture.antialias)
        return self._normalise(count), placements

    def _normalise(self, count: int) -> NDArray[np.float32]:
        channels = self._bytes[:count].transpose(0, 3, 1, 2)
        floats = self._floats[:count]
        np.copyto(floats, channels if self._picture.channels == "rgb" else channels[:, ::-1])
        if any(self._picture.mean):
            floats -= self._mean
        if self._picture.std != (1.0, 1.0, 1.0):
            floats *= self._factor
        return floats


def _draw(
    image: "ImageHWC", canvas: NDArray[np.uint8], placement: Placement, antialias: bool
) -> None:
    """The canvas shows the image in its place, and grey around it."""
    _, _, top, left, height, width = placement
    if (height, width) != placement.input_hw:
        canvas.fill(GREY)
    canvas[top : top + height, left : left + width] = (
        _antialiased(image, height, width)
        if antialias
        else cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    )


def _antialiased(image: "ImageHWC", height: int, width: int) -> NDArray[np.uint8]:
    """Bilinear as Pillow does it, where each output pixel is made of all that it covers."""
    channels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        channels, (height, width), mode="bilinear", antialias=True
    )
    pixels: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    return pixels
