"""What the families of detectors have in common: one small file each says how they differ.

A family says how its network wants a frame and what the raw outputs mean. Everything else, from the
letterbox to non-maximum suppression, is the same for all and lies in `pipeline/detect/onnx.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Fit = Literal["top_left", "centre", "stretch"]
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
"""The grids that YOLO heads look at: the usual three, with a coarser one (P6), a finer one (P2)."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """How a network wants a frame. `mean` and `std` are of values 0 to 255, by channel."""

    fit: Fit
    channels: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    antialias: bool = False


class Candidates(NamedTuple):
    """What a batch of outputs says, nothing left out yet: B frames, N boxes each.

    In numpy, as all of it is one cheap pass over much: torch would start its threads for each step
    and wait for them, which takes longer than the step where the cores are busy.
    """

    boxes_xyxy: NDArray[np.float32]
    """(B, N, 4) float32, pixels of the network's input."""

    scores: NDArray[np.float32]
    """(B, N) float32."""

    class_ids: NDArray[np.int64]
    """(B, N) int64."""


class Seen(NamedTuple):
    """What is known of a network whose family is asked for: what it gave for one grey picture."""

    outputs: Mapping[str, NDArray[Any]]
    input_hw: tuple[int, int]
    metadata: Mapping[str, str]

    @property
    def first(self) -> NDArray[Any]:
        """The first output."""
        return next(iter(self.outputs.values()))

    def __str__(self) -> str:
        """For a message: the input's size, and each output's name and shape."""
        shapes = ", ".join(f"{name} {value.shape}" for name, value in self.outputs.items())
        return f"input {self.input_hw[0]}×{self.input_hw[1]}, outputs {shapes}"


class Family(Protocol):
    """One way to feed a network and to read what it gives."""

    @property
    def layout(self) -> str:
        """The name that the configuration knows it by."""
        ...

    @property
    def picture(self) -> Picture:
        """How the network wants a frame."""
        ...

    @property
    def class_count(self) -> int | None:
        """None where the outputs don't tell it."""
        ...

    @property
    def nms_iou(self) -> float | None:
        """Where its authors suppress overlapping boxes; None: they don't."""
        ...

    def decode(self, outputs: list[NDArray[Any]]) -> Candidates:
        """What the outputs mean. NaN in them is NaN in the candidates."""
        ...


def cells(input_hw: tuple[int, int], strides: tuple[int, ...]) -> int:
    """How many cells the grids of these strides have together."""
    height, width = input_hw
    return sum(-(-height // stride) * -(-width // stride) for stride in strides)


def corners(boxes_cxcywh: NDArray[np.float32]) -> NDArray[np.float32]:
    """(…, 4) centre and size as (x1, y1, x2, y2)."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:4] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def best_class(
    scores: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The highest score along the axis, and where it is. NaN counts as the highest."""
    class_ids = scores.argmax(axis)
    best = np.take_along_axis(scores, np.expand_dims(class_ids, axis), axis)
    return best.squeeze(axis), class_ids
