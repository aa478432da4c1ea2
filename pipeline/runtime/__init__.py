"""One seam to what computes a network: a file is read once and compiled for a device.

`choose.load_network` is the way in for an ONNX file; `openvino.py` and `onnxruntime.py` compute it.
"""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

RuntimeName = Literal["openvino", "onnxruntime"]
Precision = Literal["float32", "bfloat16", "float16"]
Shape = tuple[int | None, ...]
"""Sizes by dimension; None where the graph leaves one open."""


class Network(Protocol):
    """Compiled for one device, used by the inference thread only."""

    @property
    def runtime(self) -> RuntimeName:
        """What computes."""
        ...

    @property
    def precision(self) -> Precision:
        """What it really computes in, which is not always what was asked for."""
        ...

    @property
    def input_shape(self) -> Shape:
        """(B, 3, H, W)."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """In the order of `run`'s results."""
        ...

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[Any]]:
        """The outputs for a batch (B, 3, H, W), which they don't share memory with.

        Floating-point outputs are float32, whatever was computed in. Raises InferenceError.
        """
        ...
