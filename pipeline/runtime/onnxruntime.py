"""ONNX Runtime, on the CPU or through its CUDA provider."""

from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from contracts.errors import DeviceUnavailable, UnsupportedModel
from pipeline.runtime import Network, Precision, RuntimeName, Shape
from pipeline.runtime.batch import for_any_batch
from pipeline.runtime.failure import failure
from pipeline.runtime.onnx_file import OnnxFile

# The library's errors have no common class of their own.
REFUSALS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
    state.EPFail,
)


def devices() -> set[str]:
    """The kinds of device that this build of the library computes on."""
    found = {"CUDAExecutionProvider": "cuda", "CPUExecutionProvider": "cpu"}
    return {found[name] for name in onnxruntime.get_available_providers() if name in found}


def compile_file(file: OnnxFile, device: torch.device, precision: Precision) -> tuple[Network, str]:
    """A network for any batch, and how it does that. Raises UnsupportedModel."""
    return for_any_batch(file, lambda graph: OnnxRuntimeNetwork(graph, device, precision))


class OnnxRuntimeNetwork:
    """A graph compiled by ONNX Runtime, in the file's own precision."""

    runtime: RuntimeName = "onnxruntime"

    def __init__(self, file: OnnxFile, device: torch.device, precision: Precision) -> None:
        """Raises UnsupportedModel where the library can't take the graph or the precision."""
        self.precision: Precision = "float16" if file.half else "float32"
        if precision not in ("float32", self.precision):
            raise UnsupportedModel(
                f"model {file.path}: onnxruntime computes a file in the precision that it was "
                f"exported in, {self.precision}; {precision} was asked for"
            )
        options = onnxruntime.SessionOptions()
        # What goes wrong is raised as well; the library's own lines would only double it.
        options.log_severity_level = 4
        # Threads that spin until the next run take the cores from decoding and from torch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                file.graph, options, providers=_providers(device)
            )
        except REFUSALS as error:
            raise UnsupportedModel(f"model {file.path}: onnxruntime: {error}") from error
        _check_provider(self._session, device)
        self.input_shape: Shape = file.input_shape
        self.output_names = file.output_names
        self._file = file
        self._dtype = np.float16 if file.half else np.float32

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        given = {self._file.input_name: batch.astype(self._dtype, copy=False)}
        try:
            outputs = self._session.run(None, given)
        except (*REFUSALS, MemoryError) as error:
            raise failure(f"model {self._file.path}: onnxruntime", error) from error
        return [_as_float32(output) for output in outputs]


def _providers(device: torch.device) -> list[Any]:
    if device.type != "cuda":
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _check_provider(session: onnxruntime.InferenceSession, device: torch.device) -> None:
    """The library goes to the CPU without a word where its CUDA provider can't be loaded."""
    if device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise DeviceUnavailable(
            f"device {device}: onnxruntime's CUDA provider can't be loaded; "
            "it needs the CUDA and cuDNN libraries that it was built for"
        )


def _as_float32(output: NDArray[Any]) -> NDArray[Any]:
    return output.astype(np.float32) if output.dtype == np.float16 else output
