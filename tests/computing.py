"""How tests say what is to compute a model."""

import torch

from pipeline.runtime import AskedRuntime, Compute, Precision

CPU = torch.device("cpu")


def by(runtime: AskedRuntime, precision: Precision = "float32", max_batch: int = 8) -> Compute:
    """On the CPU."""
    return Compute(CPU, runtime, precision, max_batch)
