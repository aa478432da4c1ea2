"""YOLOv5, and v7, which kept its form: three anchors a cell, RGB 0 to 1, letterboxed in the centre.

Source: the layout of the published ONNX exports, (B, 25200, 85) for 640×640, with the boxes in
pixels (cx, cy, w, h), then objectness and classes as probabilities.
"""

from typing import Any, Self

from numpy.typing import NDArray

from pipeline.detect.families import STRIDES, Candidates, Picture, Seen, best_class, cells, corners

ANCHORS = 3


class YoloV5:
    """First output (B, N, 5 + C), N three for each cell; older exports add the raw maps (5-D)."""

    layout = "yolov5"
    picture = Picture("centre", "rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    nms_iou = 0.45

    def __init__(self, class_count: int) -> None:
        self.class_count = class_count

    @classmethod
    def of(cls, seen: Seen) -> Self | None:
        """For these outputs, or None where they are of another form."""
        first, *others = seen.outputs.values()
        if first.ndim != 3 or first.shape[2] < 6 or any(other.ndim != 5 for other in others):
            return None
        if first.shape[1] not in [ANCHORS * cells(seen.input_hw, strides) for strides in STRIDES]:
            return None
        return cls(first.shape[2] - 5)

    def decode(self, outputs: list[NDArray[Any]]) -> Candidates:
        """The likeliest class of each anchor."""
        raw = outputs[0]
        best, class_ids = best_class(raw[..., 5:], -1)
        return Candidates(corners(raw[..., :4]), raw[..., 4] * best, class_ids)
