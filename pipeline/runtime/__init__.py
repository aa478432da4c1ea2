"""One seam to what computes a model: `choose.py` says which runtime, the other files are one each.

A file goes through `network.load_network`, which compiles it whole: `onnxruntime.py`,
`tensorrt.py`, `openvino.py`. Of torchvision's models the costly parts are put in place by
`torch_parts.compute_parts`: `torch_module.py` (as they are, or compiled), `openvino_module.py`.
"""

import dataclasses
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.settings import AskedRuntime as AskedRuntime
from contracts.settings import Precision as Precision
from contracts.settings import RuntimeName as RuntimeName

Shape = tuple[int | None, ...]
"""Sizes by dimension; None where the graph leaves one open."""


@dataclasses.dataclass(frozen=True)
class Compute:
    """Where a model is to be computed, by what, how exactly, and how much of it at once."""

    device: torch.device
    runtime: AskedRuntime = "auto"
    precision: Precision = "float32"
    max_batch: int = 8
    """Pictures: what is compiled, recorded or warmed for a size is so for batches up to this."""


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
