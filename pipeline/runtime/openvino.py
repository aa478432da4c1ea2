"""OpenVINO, on the CPU.

Left alone it computes in bfloat16 on processors that have instructions for it
(docs.openvino.ai, "Precision Control"), and scores move by hundredths. So the precision is always
stated here, and what the library made of it is asked back: it is a hint.
"""

from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray

from contracts.errors import InferenceError, UnsupportedModel
from pipeline.runtime import Precision, RuntimeName, Shape
from pipeline.runtime.onnx_file import OnnxFile

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
NAMES: dict[str, Precision] = {hint: name for name, hint in HINTS.items()}


def devices() -> set[str]:
    """The kinds of device that we let the library compute on."""
    return {"cpu"}


class OpenVinoNetwork:
    """A graph compiled by OpenVINO for the CPU."""

    runtime: RuntimeName = "openvino"

    def __init__(self, file: OnnxFile, device: torch.device, precision: Precision) -> None:
        """Raises UnsupportedModel where the library can't take the graph or the device."""
        if device.type != "cpu":
            raise UnsupportedModel(f"model {file.path}: openvino computes on cpu, not on {device}")
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        try:
            compiled = core.compile_model(core.read_model(file.graph), "CPU", settings)
        except RuntimeError as error:
            raise UnsupportedModel(f"model {file.path}: openvino: {error}") from error
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision: Precision = NAMES[hint]
        self.input_shape: Shape = file.input_shape
        self.output_names = file.output_names
        self._request = compiled.create_infer_request()
        self._path = file.path
        self._dtype = np.float16 if file.half else np.float32

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        given = [np.ascontiguousarray(batch, dtype=self._dtype)]
        try:
            outputs = self._request.infer(given, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            raise InferenceError(f"model {self._path}: openvino: {error}") from error
        return [_as_float32(outputs[number]) for number in range(len(self.output_names))]


def _as_float32(output: NDArray[Any]) -> NDArray[Any]:
    return output.astype(np.float32) if output.dtype == np.float16 else output
