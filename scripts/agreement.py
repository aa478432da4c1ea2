"""How far two ways of computing the same model are apart, object by object.

The bounds are those within which a result means the same: boxes and masks that overlap by 0.99,
scores within 0.01 in float32 and 0.02 below it, the same classes.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torchvision.ops import box_iou

from contracts.messages import Detection, MaskRle
from pipeline.classify import Label

MIN_IOU = 0.99
MAX_SCORE_GAP = {"float32": 0.01, "bfloat16": 0.02, "float16": 0.02}
MATCH_IOU = 0.5
"""Two boxes of a class that overlap by more are taken for the same object."""


@dataclasses.dataclass
class Agreement:
    """How one way of computing compares with the reference, over all frames."""

    compared: int = 0
    """Objects of the reference; for a classifier, crops."""
    unpaired: int = 0
    """Objects that only one of the two found, and crops with another label."""
    at_edge: int = 0
    """Of these, objects so close to `min_score` that the bounds allow them on either side."""
    worst_iou: float = 1.0
    """Of the boxes of a pair, and of their masks where they have some."""
    worst_score: float = 0.0

    def within(self, precision: str) -> bool:
        """True when every pair is within the bounds, and nothing is unpaired beyond the edge."""
        close = self.worst_iou >= MIN_IOU and self.worst_score <= MAX_SCORE_GAP[precision]
        return close and self.unpaired == self.at_edge


def compare_detections(
    reference: Sequence[Sequence[Detection]], found: Sequence[Sequence[Detection]], edge: float
) -> Agreement:
    """Frame by frame. Below the score `edge` an object may be missing in one of the two."""
    agreement = Agreement()
    for expected, got in zip(reference, found, strict=True):
        pairs = list(_pairs(expected, got))
        firsts, seconds = ({pair[at] for pair in pairs} for at in (0, 1))
        alone = [d for at, d in enumerate(expected) if at not in firsts]
        alone += [d for at, d in enumerate(got) if at not in seconds]
        agreement.compared += len(expected)
        agreement.unpaired += len(alone)
        agreement.at_edge += sum(d.score < edge for d in alone)
        for first, second, iou in pairs:
            a, b = expected[first], got[second]
            if a.mask_rle and b.mask_rle:
                iou = min(iou, _mask_iou(a.mask_rle, b.mask_rle))
            agreement.worst_iou = min(agreement.worst_iou, iou)
            agreement.worst_score = max(agreement.worst_score, abs(a.score - b.score))
    return agreement


def compare_labels(
    reference: Sequence[Sequence[Label]], found: Sequence[Sequence[Label]]
) -> Agreement:
    """Crop by crop, of the same crops."""
    agreement = Agreement()
    for expected, got in zip(reference, found, strict=True):
        for a, b in zip(expected, got, strict=True):
            agreement.compared += 1
            if a.class_id != b.class_id:
                agreement.unpaired += 1
            else:
                agreement.worst_score = max(agreement.worst_score, abs(a.score - b.score))
    return agreement


def _pairs(
    expected: Sequence[Detection], found: Sequence[Detection]
) -> Iterator[tuple[int, int, float]]:
    """(position, position, IoU) of the detections that mean the same object, closest first."""
    if not expected or not found:
        return
    overlap = _overlap(expected, found)
    while overlap.max() >= MATCH_IOU:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        yield int(row), int(column), float(overlap[row, column])
        overlap[row, :] = overlap[:, column] = 0.0


def _overlap(expected: Sequence[Detection], found: Sequence[Detection]) -> NDArray[np.float64]:
    """IoU by position and position; 0 where the classes differ."""
    first, second = (
        torch.tensor([d.box for d in each], dtype=torch.float64) for each in (expected, found)
    )
    overlap: NDArray[np.float64] = box_iou(first, second).numpy()
    overlap[[[a.class_id != b.class_id for b in found] for a in expected]] = 0.0
    return overlap


def _mask_iou(first: MaskRle, second: MaskRle) -> float:
    """Two masks without a pixel are the same."""
    a, b = ({"size": list(mask.size), "counts": mask.counts} for mask in (first, second))
    if first.counts == second.counts:
        return 1.0
    return float(coco_mask.iou([a], [b], [0])[0, 0])
