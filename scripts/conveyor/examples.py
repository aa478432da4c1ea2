"""Renders scenes into what the two models learn from, and keeps it in memory as uint8.

The detector's frames are resized once, here, the way torchvision's SSD resizes them at inference
(bilinear, no antialias, 640 x 480 to 320 x 320); the classifier's crops the way torchvision's
`ImageClassification` preset does (shorter side to 128, antialiased, then the middle 128 x 128).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import functional as vision

from scripts.conveyor.parts import FINISHES, PART_TYPES
from scripts.conveyor.scene import HEIGHT_PX, WIDTH_PX, PartTruth
from scripts.conveyor.staging import random_still

DETECTOR_SIDE_PX = 320
CROP_SIDE_PX = 128
DETECTOR_CATEGORIES = ("__background__", *PART_TYPES)
CLASSIFIER_CATEGORIES = FINISHES
IGNORED = -1


@dataclass(frozen=True, slots=True)
class Example:
    """What one still teaches.

    For the detector `image_chw` (3, 320, 320) uint8, `boxes_xyxy` (n, 4) float32 in its pixels, and
    `labels` (n,) int64 where an ignored part is -1. For the classifier `crops` (m, 3, 128, 128)
    uint8 of the parts that are not ignored, and their `finishes` (m,) int64.
    """

    image_chw: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    crops: Tensor
    finishes: Tensor


def crop_of(image_chw: Tensor, box_xyxy: Sequence[float]) -> Tensor:
    """One box of a (3, h, w) uint8 frame as the classifier sees it, (3, 128, 128) uint8."""
    height, width = image_chw.shape[1:]
    x1, y1 = max(0, int(box_xyxy[0])), max(0, int(box_xyxy[1]))
    x2, y2 = min(width, round(box_xyxy[2])), min(height, round(box_xyxy[3]))
    # A sliver keeps at least one pixel each way.
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    patch = image_chw[:, y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    resized = vision.resize(patch, [CROP_SIDE_PX], antialias=True)
    middle: Tensor = vision.center_crop(resized, [CROP_SIDE_PX, CROP_SIDE_PX])
    return middle


def example_of(seed: int) -> Example:
    """Renders one seed's still and turns it into an example."""
    image_hwc, truths = random_still(seed)
    frame_chw = torch.from_numpy(image_hwc).permute(2, 0, 1)
    side = (DETECTOR_SIDE_PX, DETECTOR_SIDE_PX)
    small = functional.interpolate(
        frame_chw[None].float(), side, mode="bilinear", align_corners=False
    )[0]
    scale = torch.tensor((DETECTOR_SIDE_PX / WIDTH_PX, DETECTOR_SIDE_PX / HEIGHT_PX)).repeat(2)
    boxes = torch.tensor([t.box_xyxy for t in truths]).reshape(-1, 4) * scale
    labels = [IGNORED if t.ignore else DETECTOR_CATEGORIES.index(t.type) for t in truths]
    kept = [t for t in truths if not t.ignore]
    crops = _jittered_crops(frame_chw, kept, np.random.default_rng(seed))
    finishes = torch.tensor(
        [CLASSIFIER_CATEGORIES.index(t.finish) for t in kept], dtype=torch.int64
    )
    return Example(
        small.round().to(torch.uint8),
        boxes,
        torch.tensor(labels, dtype=torch.int64),
        crops,
        finishes,
    )


def _jittered_crops(
    frame_chw: Tensor, truths: Iterable[PartTruth], rng: np.random.Generator
) -> Tensor:
    """Crops whose edges are off by up to a tenth of the box, as a detector's are."""
    crops = []
    for truth in truths:
        x1, y1, x2, y2 = truth.box_xyxy
        reach = np.array((x2 - x1, y2 - y1, x2 - x1, y2 - y1))
        crops.append(
            crop_of(
                frame_chw, (np.array(truth.box_xyxy) + rng.uniform(-0.1, 0.1, 4) * reach).tolist()
            )
        )
    return (
        torch.stack(crops)
        if crops
        else torch.zeros((0, 3, CROP_SIDE_PX, CROP_SIDE_PX), dtype=torch.uint8)
    )


def _to_arrays(seed: int) -> tuple[NDArray[np.generic], ...]:
    example = example_of(seed)
    fields = (
        example.image_chw,
        example.boxes_xyxy,
        example.labels,
        example.crops,
        example.finishes,
    )
    return tuple(field.numpy() for field in fields)


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def render_examples(seeds: Sequence[int], processes: int) -> Iterator[Example]:
    """The seeds' examples in their order; with 0 processes they are rendered in this one."""
    if processes == 0:
        yield from map(example_of, seeds)
        return
    # Spawned, because a fork would copy the thread pools of torch in an unknown state.
    with multiprocessing.get_context("spawn").Pool(processes, _one_thread) as pool:
        for arrays in pool.imap(_to_arrays, seeds, chunksize=8):
            yield Example(*(torch.from_numpy(array) for array in arrays))
