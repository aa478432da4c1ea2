"""A file becomes a network: compiled by a runtime for a device, tried out, warm."""

import dataclasses
import logging

import numpy as np

from pipeline.runtime import Compute, Network, RuntimeName
from pipeline.runtime.buckets import batch_sizes
from pipeline.runtime.choose import choose, first_that_takes, module_of, say
from pipeline.runtime.onnx_file import DEFAULT_SIDE, OnnxFile

log = logging.getLogger("framewire.pipeline")


def load_network(file: OnnxFile, compute: Compute) -> Network:
    """The file compiled and warm, for any batch. Raises UnsupportedModel where nothing takes it.

    What `choose` raises comes as well, and OutOfMemory.
    """
    choice = choose("onnx", compute)
    there = dataclasses.replace(compute, device=choice.device)
    network = first_that_takes(choice, lambda name: _compile(file, there, name))
    say(file.path.name, choice, network.runtime, network.precision, compute.precision)
    return network


def _compile(file: OnnxFile, compute: Compute, name: RuntimeName) -> Network:
    network: Network
    network, batching = module_of(name).compile_file(file, compute)
    _warm_up(network, compute)
    log.info("%s: %s", file.path.name, batching)
    return network


def _warm_up(network: Network, compute: Compute) -> None:
    """A batch has gone through. Some graphs compile and can't be run.

    On CUDA one of each size has: the libraries look for the fastest kernels at a size's first run.
    """
    height, width = (side or DEFAULT_SIDE for side in network.input_shape[2:])
    on_cuda = compute.device.type == "cuda"
    for size in batch_sizes(compute.device, compute.max_batch) if on_cuda else (1,):
        network.run(np.full((size, 3, height, width), 0.5, np.float32))
