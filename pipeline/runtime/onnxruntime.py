"""ONNX Runtime, on the CPU or through its CUDA provider."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from contracts.errors import DeviceUnavailable, UnsupportedModel
from pipeline.runtime import Compute, Network, Precision, RuntimeName, Shape
from pipeline.runtime.batch import InSizes, for_any_batch
from pipeline.runtime.buckets import batch_sizes
from pipeline.runtime.failure import failure
from pipeline.runtime.onnx_file import OnnxFile

Providers = list[tuple[str, dict[str, Any]]]
"""What computes, by name, with its options; the first that takes a node computes it."""

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
CPU_PROVIDER: Providers = [("CPUExecutionProvider", {})]


def devices() -> set[str]:
    """The kinds of device that this build of the library computes on."""
    found = {"CUDAExecutionProvider": "cuda", "CPUExecutionProvider": "cpu"}
    return {found[name] for name in onnxruntime.get_available_providers() if name in found}


def compile_file(file: OnnxFile, compute: Compute) -> tuple[Network, str]:
    """A network for any batch, and how it does that. Raises UnsupportedModel."""
    precision: Precision = "float16" if file.half else "float32"
    if compute.precision not in ("float32", precision):
        raise UnsupportedModel(
            f"model {file.path}: onnxruntime computes a file in the precision that it was "
            f"exported in, {precision}; {compute.precision} was asked for"
        )
    if compute.device.type == "cpu":
        return for_any_batch(
            file, lambda graph: OnnxRuntimeNetwork(graph, CPU_PROVIDER, "onnxruntime", precision)
        )
    providers = cuda_provider(compute)
    network, batching = for_any_batch(
        file, lambda graph: OnnxRuntimeNetwork(graph, providers, "onnxruntime", precision)
    )
    return in_sizes(network, compute), batching


def in_sizes(network: Network, compute: Compute) -> Network:
    """On CUDA, where each new size has the library look for kernels, only a few sizes come."""
    if network.input_shape[0] is not None:
        return network
    return InSizes(network, batch_sizes(compute.device, compute.max_batch))


def cuda_provider(compute: Compute) -> Providers:
    """CUDA, and the CPU for what CUDA has no kernel for.

    The library's default for float32 is TF32, with 10 bits of mantissa in place of 23.
    """
    options = {"device_id": compute.device.index or 0, "use_tf32": 0}
    return [("CUDAExecutionProvider", options), *CPU_PROVIDER]


class OnnxRuntimeNetwork:
    """A graph compiled by ONNX Runtime."""

    def __init__(
        self, file: OnnxFile, providers: Providers, runtime: RuntimeName, precision: Precision
    ) -> None:
        """Raises UnsupportedModel where the library can't take the graph."""
        options = onnxruntime.SessionOptions()
        # What goes wrong is raised as well; the library's own lines would only double it.
        options.log_severity_level = 4
        # Threads that spin until the next run take the cores from decoding and from torch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(file.graph, options, providers=providers)
        except REFUSALS as error:
            raise UnsupportedModel(f"model {file.path}: {runtime}: {error}") from error
        _check_provider(self._session, providers)
        self.runtime: RuntimeName = runtime
        self.precision: Precision = precision
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
            raise failure(f"model {self._file.path}: {self.runtime}", error) from error
        return [_as_float32(output) for output in outputs]


def _check_provider(session: onnxruntime.InferenceSession, providers: Providers) -> None:
    """The library goes on without a word where a provider's own libraries can't be loaded."""
    asked = providers[0][0]
    if asked not in session.get_providers():
        raise DeviceUnavailable(
            f"onnxruntime's {asked} can't be loaded; "
            "it needs the libraries of NVIDIA's that it was built for"
        )


def _as_float32(output: NDArray[Any]) -> NDArray[Any]:
    return output.astype(np.float32) if output.dtype == np.float16 else output
