"""YOLOv10 and YOLO26, and exports with suppression inside: finished rows; RGB 0 to 1, centred.

Source: the layout of the published ONNX exports, (B, 300, 6): rows x1, y1, x2, y2 in pixels of the
input, score, class id, the best first; rows that were not needed are zero.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.detect.families import STRIDES, Candidates, Picture, Seen, cells

MOST_ROWS = 1000


class NmsFree:
    """One output (B, N, 6) with far fewer rows than the input has cells."""

    layout = "nms_free"
    picture = Picture("centre", "rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    nms_iou = None
    class_count = None

    @classmethod
    def of(cls, seen: Seen) -> Self | None:
        """For these outputs, or None where they are of another form.

        A YOLOX or YOLOv5 of one class has six columns too, but a row for every cell or anchor.
        """
        shape = seen.first.shape
        if len(seen.outputs) != 1 or len(shape) != 3 or shape[2] != 6 or shape[1] > MOST_ROWS:
            return None
        grids = [cells(seen.input_hw, strides) for strides in STRIDES]
        if shape[1] in [*grids, *(3 * grid for grid in grids)]:
            return None
        return cls()

    def decode(self, outputs: list[NDArray[Any]]) -> Candidates:
        """The rows as they are."""
        rows = outputs[0]
        # A class id of NaN can't be a whole number; its score or box is what is refused.
        return Candidates(rows[..., :4], rows[..., 4], np.nan_to_num(rows[..., 5]).astype(int))
