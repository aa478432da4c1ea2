"""What the detector is taught: which anchors answer for which part, and the loss that follows.

This is the loss of torchvision's SSD (softmax with hard negative mining, smooth L1 on encoded
boxes) with two differences. A part whose best anchors overlap it poorly, as small parts do with
SSDLite's large anchors, still gets `_LEAST_ANCHORS` of them. And the anchors of an ignored part are
neither positive nor negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

_LEAST_ANCHORS = 8
_MATCH_IOU = 0.5
_NEGATIVES_PER_POSITIVE = 3
_LEAST_NEGATIVES = 12
_BOX_BETA = 0.4
_CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))


def match(anchors_xyxy: Tensor, boxes_xyxy: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Per anchor (a,) int64: its class (0 background, -1 ignored), and its part's index."""
    if len(boxes_xyxy) == 0:
        nothing = torch.zeros(len(anchors_xyxy), dtype=torch.int64)
        return nothing, nothing
    iou = box_iou(boxes_xyxy, anchors_xyxy)
    enough = iou.topk(_LEAST_ANCHORS, dim=1).values[:, -1:].clamp(max=_MATCH_IOU)
    quality, part = torch.where(iou >= enough, iou, torch.zeros(())).max(dim=0)
    return torch.where(quality > 0, labels[part], 0), part


def detector_loss(
    logits: Tensor,
    regression: Tensor,
    anchors_xyxy: Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
) -> Tensor:
    """The mean loss per positive anchor.

    `logits` (b, a, classes) and `regression` (b, a, 4) float32 from the head, `anchors_xyxy` (a, 4)
    in the resized frame's pixels, and for each of the b frames its boxes (n, 4) and labels (n,).
    """
    matches = [match(anchors_xyxy, b, c) for b, c in zip(boxes, labels, strict=True)]
    classes = torch.stack([anchor_classes for anchor_classes, _ in matches])
    positive = classes > 0
    box_loss = torch.zeros(())
    for row, (mine, (_, part)) in enumerate(zip(positive, matches, strict=True)):
        if mine.any():
            target = _CODER.encode_single(boxes[row][part[mine]], anchors_xyxy[mine])
            found = regression[row][mine]
            box_loss = box_loss + functional.smooth_l1_loss(
                found, target, reduction="sum", beta=_BOX_BETA
            )
    per_anchor = functional.cross_entropy(
        logits.flatten(0, 1), classes.clamp(min=0).flatten(), reduction="none"
    )
    per_anchor = per_anchor.view_as(classes)
    used = positive | _hard_negatives(per_anchor.detach(), classes)
    return (box_loss + per_anchor[used].sum()) / positive.sum().clamp(min=1)


def _hard_negatives(loss: Tensor, classes: Tensor) -> Tensor:
    """The background anchors that look most like a part, three a positive; (b, a) bool."""
    wanted = (_NEGATIVES_PER_POSITIVE * (classes > 0).sum(dim=1, keepdim=True)).clamp(
        min=_LEAST_NEGATIVES
    )
    background = classes == 0
    rank = torch.where(background, loss, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
    return background & (rank < wanted)
