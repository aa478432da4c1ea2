"""OpenVINO, on the CPU.

Left alone it computes in bfloat16 on processors that have instructions for it
(docs.openvino.ai, "Precision Control"), and scores move by hundredths. So the precision is always
stated here, and what the library made of it is asked back: it is a hint.

A batch goes through as requests of one picture, several at once, a core each: that is faster here
than a graph with an open batch, by a quarter, and needs no change to the graph. A picture that
comes alone has all cores to itself.
"""

import sys
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import UnsupportedModel
from pipeline.runtime import Compute, Network, Precision, RuntimeName, Shape
from pipeline.runtime.batch import InSizes
from pipeline.runtime.failure import failure, said_by
from pipeline.runtime.onnx_file import OnnxFile

# Where this package can be imported, importing openvino reports that over the network (unless
# `opt_in_out --opt_out` was run) and writes into the home folder. Where not, the library does
# without. A camera's computer does not call anyone unasked.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
NAMES: dict[str, Precision] = {hint: name for name, hint in HINTS.items()}


def devices() -> set[str]:
    """The kinds of device that we let the library compute on."""
    return {"cpu"}


def compile_file(file: OnnxFile, compute: Compute) -> tuple[Network, str]:
    """A network for any batch, and how it does that. Raises UnsupportedModel."""
    network = OpenVinoNetwork(file, compute.precision)
    size = file.batch_size or 1
    if size > 1:
        return InSizes(network, (size,)), f"takes {size} at a time"
    return network, f"batches run as single pictures, {network.parallel} at once"


class OpenVinoNetwork:
    """A graph compiled by OpenVINO for the CPU, in the file's batch size, or one picture."""

    runtime: RuntimeName = "openvino"

    def __init__(self, file: OnnxFile, precision: Precision) -> None:
        """Raises UnsupportedModel where the library can't take the graph."""
        size = file.batch_size or 1
        settings = {"INFERENCE_PRECISION_HINT": HINTS[precision]}
        core = openvino.Core()
        try:
            model = core.read_model(file.graph)
            model.reshape([size, *(-1 if side is None else side for side in file.input_shape[1:])])
            alone, together = (
                core.compile_model(model, "CPU", {**settings, "PERFORMANCE_HINT": hint})
                for hint in ("LATENCY", "THROUGHPUT")
            )
        except RuntimeError as error:
            raise UnsupportedModel(f"model {file.path}: openvino: {said_by(error)}") from error
        self.precision: Precision = NAMES[
            alone.get_property("INFERENCE_PRECISION_HINT").to_string()
        ]
        self.input_shape: Shape = (size if size > 1 else None, *file.input_shape[1:])
        self.output_names = file.output_names
        self.parallel: int = together.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._size = size
        self._path = file.path
        self._dtype = np.float16 if file.half else np.float32
        self._alone = alone.create_infer_request()
        self._together = [together.create_infer_request() for _ in range(self.parallel)]

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        given = np.ascontiguousarray(batch, dtype=self._dtype)
        requests = [self._alone] if len(given) == self._size else self._together
        try:
            parts = _run_in_turn(requests, given, self._size)
        except (RuntimeError, MemoryError) as error:
            raise failure(f"model {self._path}: openvino", error) from error
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _run_in_turn(requests: list[Any], batch: NDArray[Any], size: int) -> list[list[NDArray[Any]]]:
    """Each part's outputs, in order. A request takes the next part when its last one is done."""
    idle, running = deque(requests), deque[Any]()
    results: list[list[NDArray[Any]]] = []
    try:
        for start in range(0, len(batch), size):
            if not idle:
                results.append(_finish(running[0]))
                idle.append(running.popleft())
            request = idle.popleft()
            request.start_async([batch[start : start + size]], share_inputs=True)
            running.append(request)
        return results + [_finish(request) for request in running]
    except (RuntimeError, MemoryError):
        # They read the batch, which is its owner's again as soon as this returns.
        for request in running:
            request.cancel()
        raise


def _finish(request: Any) -> list[NDArray[Any]]:
    """The request's outputs when they are there, copied: it is used again."""
    request.wait()
    return [_as_float32(tensor.data) for tensor in request.output_tensors]


def _as_float32(output: NDArray[Any]) -> NDArray[Any]:
    return output.astype(np.float32 if output.dtype == np.float16 else output.dtype)
