"""Masks: from the detector's small squares to run lengths over the whole frame."""

import numpy as np
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from contracts.messages import MaskRle

BYTES_AT_ONCE = 64 * 2**20
"""A pasted mask is a whole frame of float32; no more of them than this are made at once."""

MASK_THRESHOLD = 0.5
"""A pixel belongs to the object above this, as in torchvision's own COCO evaluation."""


def encode_masks(masks: Tensor, boxes_xyxy: Tensor, height: int, width: int) -> list[MaskRle]:
    """One encoded mask a box. `masks` is (N, 1, M, M) in [0, 1], stretched over its box.

    `boxes_xyxy` is (N, 4) in pixels of the frame, which has height × width pixels. Pasting is
    torchvision's own, so that the pixels are those that its Mask R-CNN gives.
    """
    step = max(1, BYTES_AT_ONCE // (height * width * 4))
    encoded: list[MaskRle] = []
    for first in range(0, len(masks), step):
        part = slice(first, first + step)
        pasted = paste_masks_in_image(masks[part], boxes_xyxy[part], (height, width))
        bitmaps = (pasted[:, 0] > MASK_THRESHOLD).permute(1, 2, 0).numpy()
        encoded += [
            MaskRle(size=(height, width), counts=found["counts"].decode("ascii"))
            for found in coco_mask.encode(np.asfortranarray(bitmaps, np.uint8))
        ]
    return encoded
