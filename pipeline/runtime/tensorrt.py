"""TensorRT on CUDA, through ONNX Runtime's provider; what it has no kernel for, CUDA computes.

An engine is built for a range of batch sizes, which takes minutes; it is kept in the user's cache
and read from there at the next start. In float32 TensorRT itself decides whether to use TF32.
"""

import logging
from typing import Any

import onnxruntime

from pipeline.runtime import Compute, Network
from pipeline.runtime.batch import for_any_batch
from pipeline.runtime.cache import cache_folder
from pipeline.runtime.onnx_file import OnnxFile
from pipeline.runtime.onnxruntime import OnnxRuntimeNetwork, Providers, cuda_provider, in_sizes

PROVIDER = "TensorrtExecutionProvider"

log = logging.getLogger("framewire.pipeline")


def devices() -> set[str]:
    """The kinds of device that this build of the library computes on."""
    return {"cuda"} if PROVIDER in onnxruntime.get_available_providers() else set()


def compile_file(file: OnnxFile, compute: Compute) -> tuple[Network, str]:
    """A network for any batch, and how it does that. Raises UnsupportedModel."""
    precision = "float16" if file.half else compute.precision
    network, batching = for_any_batch(
        file,
        lambda graph: OnnxRuntimeNetwork(graph, providers(graph, compute), "tensorrt", precision),
    )
    return in_sizes(network, compute), batching


def providers(file: OnnxFile, compute: Compute) -> Providers:
    """TensorRT, and after it what computes the nodes that it can't."""
    options: dict[str, Any] = {
        "device_id": compute.device.index or 0,
        "trt_fp16_enable": compute.precision == "float16",
        "trt_bf16_enable": compute.precision == "bfloat16",
        **_kept_engines(),
        **_batch_range(file, compute.max_batch),
    }
    return [(PROVIDER, options), *cuda_provider(compute)]


def _kept_engines() -> dict[str, Any]:
    folder = cache_folder("tensorrt")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("cache_unwritable: %s: %s", folder, error.strerror)
        return {}
    return {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }


def _batch_range(file: OnnxFile, most: int) -> dict[str, str]:
    """One engine for all batches. Without it each larger batch has a new engine built, mid-run."""
    if file.batch_size is not None:
        return {}
    sides = "x".join(str(side) for side in file.input_shape[1:])
    return {
        f"trt_profile_{name}_shapes": f"{file.input_name}:{size}x{sides}"
        for name, size in (("min", 1), ("opt", most), ("max", most))
    }
