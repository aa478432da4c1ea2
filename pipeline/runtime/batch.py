"""Batches of any size from a network for a few sizes, and the proof that one takes any size."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InferenceError, UnsupportedModel
from pipeline.runtime import Network, Precision, RuntimeName, Shape
from pipeline.runtime.buckets import Piece, pieces
from pipeline.runtime.onnx_file import DEFAULT_SIDE, OnnxFile, with_open_batch

SAME_SHARE = 0.99
"""Of an output's values that must agree: in-graph rankings may differ in their last ranks."""


def for_any_batch(
    file: OnnxFile, compile_graph: Callable[[OnnxFile], Network]
) -> tuple[Network, str]:
    """A network that takes any batch, and how it does that. Raises what `compile_graph` raises."""
    exported = compile_graph(file)
    size = file.batch_size
    if size is None:
        return exported, "takes any batch"
    with contextlib.suppress(UnsupportedModel):
        opened = compile_graph(with_open_batch(file))
        if takes_batches(opened, exported):
            return opened, f"batch of {size} opened, same results checked"
    return InSizes(exported, (size,)), f"batch of {size} can't be opened: takes {size} at a time"


class InSizes:
    """Any batch, in pieces of the sizes that the network is for, filled up where one is larger."""

    def __init__(self, network: Network, sizes: Sequence[int]) -> None:
        self._network = network
        self._sizes = sizes
        self.runtime: RuntimeName = network.runtime
        self.precision: Precision = network.precision
        self.input_shape: Shape = network.input_shape
        self.output_names = network.output_names

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        parts = [self._run(batch, piece) for piece in pieces(len(batch), self._sizes)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _run(self, batch: NDArray[np.float32], piece: Piece) -> list[NDArray[Any]]:
        part = batch[piece.start : piece.stop]
        missing = piece.size - len(part)
        full = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        return [output[: len(part)] for output in self._network.run(full)]


def takes_batches(opened: Network, exported: Network) -> bool:
    """True when the network gives for a pair of pictures what the file gives for each alone.

    `opened` is compiled from the graph with its batch dimension opened, `exported` from the graph
    as it is in the file.
    """
    height, width = (side or DEFAULT_SIDE for side in opened.input_shape[2:])
    pair = np.random.default_rng(0).random((2, 3, height, width), np.float32)
    try:
        together = opened.run(pair)
    except InferenceError:
        return False
    alone = InSizes(exported, (exported.input_shape[0] or 1,)).run(pair)
    return all(_same(ours, theirs) for ours, theirs in zip(together, alone, strict=True))


def _same(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Each item's values, sorted along its first axis, as a ranking may swap neighbours."""
    if ours.shape != theirs.shape:
        return False
    if ours.ndim > 1:
        ours, theirs = np.sort(ours, axis=1), np.sort(theirs, axis=1)
    scale = float(np.nanmax(np.abs(theirs), initial=1e-6))
    close = np.isclose(ours, theirs, rtol=1e-2, atol=1e-3 * scale, equal_nan=True)
    return float(close.mean()) >= SAME_SHARE
