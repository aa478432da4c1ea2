"""The work of a module for one shape of inputs, recorded on CUDA once and then replayed.

A replay starts hundreds of kernels with one call; without it the processor starts each, and for
small pictures that takes longer than computing them. It reads and writes where the recording did,
so inputs are copied to there and outputs from there (pytorch.org/docs, "CUDA semantics", "CUDA
Graphs"). Any thread may replay.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3
"""Runs before the recording, so that libraries have chosen their kernels; as torch's own do it."""


class Recording:
    """What a function of tensors does for inputs of these shapes."""

    def __init__(self, work: Callable[[list[Tensor]], Any], examples: list[Tensor]) -> None:
        """Recorded. `work` gives a tensor or a dictionary of tensors."""
        self._inputs = [tensor.clone() for tensor in examples]
        self._device = examples[0].device
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            here = torch.cuda.current_stream()
            aside: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    work(self._inputs)
            here.wait_stream(aside)
            with torch.cuda.graph(self._graph):
                self._output = work(self._inputs)

    def replay(self, inputs: list[Tensor]) -> Any:
        """The output for these inputs, which the next replay doesn't write over."""
        for ours, given in zip(self._inputs, inputs, strict=True):
            ours.copy_(given)
        with torch.cuda.device(self._device):
            self._graph.replay()
        if isinstance(self._output, dict):
            return type(self._output)((key, value.clone()) for key, value in self._output.items())
        return self._output.clone()
