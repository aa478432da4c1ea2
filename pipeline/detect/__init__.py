"""The detector: from frames to boxes, scores and class ids."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from contracts.frame import Frame
from contracts.messages import MaskRle, ModelIdentity

SMALLEST_BOX_PX = 1e-2
"""A box with a side thinner than this, in pixels of the frame, is left out: nothing can be cut
from it. torchvision's R-CNNs draw the same line; its SSD, RetinaNet and FCOS draw none."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Which of a frame's detections are kept."""

    min_score: float = 0.5
    max_detections: int = 100
    nms_iou: float | None = None
    """Of boxes of a class that overlap by more the best is kept; None: as its authors do it."""


class RawDetections(NamedTuple):
    """What a detector says of one frame, on the CPU, not yet checked. N is the number of boxes."""

    boxes_xyxy: Tensor
    """(N, 4) float32, absolute pixels of the original frame."""

    scores: Tensor
    """(N,) float32, highest first."""

    class_ids: Tensor
    """(N,) int64, positions in the detector's `class_names`."""

    masks: Sequence[MaskRle] | None = None
    """N masks over the whole frame, or None where none were asked for."""


class Detector(Protocol):
    """Loaded, on its device, used by the inference thread only."""

    @property
    def identity(self) -> ModelIdentity:
        """Which weights speak."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """By class id."""
        ...

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """One entry a frame, in their order. The frames may differ in size."""
        ...
