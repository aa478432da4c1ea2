"""YOLOv8, v9, 11, 12: no anchors, no objectness, transposed; RGB 0 to 1, letterboxed in the centre.

Source: the layout of the published ONNX exports, (B, 84, 8400) for 640×640: rows cx, cy, w, h in
pixels, then the classes as probabilities.
"""

from typing import Any, Self

from numpy.typing import NDArray

from pipeline.detect.families import STRIDES, Candidates, Picture, Seen, best_class, cells, corners


class YoloV8:
    """One output (B, 4 + C, N), N one for each cell."""

    layout = "yolov8"
    picture = Picture("centre", "rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    nms_iou = 0.7

    def __init__(self, class_count: int) -> None:
        self.class_count = class_count

    @classmethod
    def of(cls, seen: Seen) -> Self | None:
        """For these outputs, or None where they are of another form."""
        shape = seen.first.shape
        if len(seen.outputs) != 1 or len(shape) != 3 or shape[1] < 5:
            return None
        if shape[2] not in [cells(seen.input_hw, strides) for strides in STRIDES]:
            return None
        return cls(shape[1] - 4)

    def decode(self, outputs: list[NDArray[Any]]) -> Candidates:
        """The likeliest class of each cell."""
        raw = outputs[0]
        scores, class_ids = best_class(raw[:, 4:], 1)
        return Candidates(corners(raw[:, :4].transpose(0, 2, 1)), scores, class_ids)
