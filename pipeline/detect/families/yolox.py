"""YOLOX: boxes as offsets in a grid, objectness times class, BGR 0 to 255, letterboxed top left.

Source: Megvii-BaseDetection/YOLOX (Apache-2.0), `preproc` in yolox/data/data_augment.py,
`demo_postprocess` in yolox/utils/demo_utils.py and demo/ONNXRuntime/onnx_inference.py.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.detect.families import Candidates, Picture, Seen, best_class, cells, corners

STRIDES = (8, 16, 32)


class YoloX:
    """One output (B, N, 5 + C), N one for each cell: dx, dy, log w, log h, objectness, classes.

    A file exported with `--decode_in_inference` has the boxes in pixels already. That shows in what
    it gives: centres that spread over the input, where offsets stay around zero.
    """

    layout = "yolox"
    picture = Picture("top_left", "bgr", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    nms_iou = 0.65

    def __init__(self, input_hw: tuple[int, int], class_count: int, decoded: bool) -> None:
        self.class_count = class_count
        self._decoded = decoded
        self._cells, self._strides = _grid(input_hw)

    @classmethod
    def of(cls, seen: Seen) -> Self | None:
        """For these outputs, or None where they are of another form."""
        shape = seen.first.shape
        if len(seen.outputs) != 1 or len(shape) != 3 or shape[2] < 6:
            return None
        if shape[1] != cells(seen.input_hw, STRIDES):
            return None
        across = seen.first[0, :, 0]
        decoded = bool(across.max() - across.min() > seen.input_hw[1] / 2)
        return cls(seen.input_hw, shape[2] - 5, decoded)

    def decode(self, outputs: list[NDArray[Any]]) -> Candidates:
        """The likeliest class of each cell."""
        raw = outputs[0]
        boxes = raw[..., :4]
        if not self._decoded:
            centre = (boxes[..., :2] + self._cells) * self._strides
            size = np.exp(boxes[..., 2:]) * self._strides
            boxes = np.concatenate([centre, size], axis=-1)
        best, class_ids = best_class(raw[..., 5:], -1)
        return Candidates(corners(boxes), raw[..., 4] * best, class_ids)


def _grid(input_hw: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, 2) column and row of each cell in its own grid, and (N, 1) pixels a cell."""
    positions, strides = [], []
    for stride in STRIDES:
        rows, columns = (np.arange(-(-side // stride), dtype=np.float32) for side in input_hw)
        x, y = np.meshgrid(columns, rows)
        positions.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((len(positions[-1]), 1), stride, np.float32))
    return np.concatenate(positions), np.concatenate(strides)
