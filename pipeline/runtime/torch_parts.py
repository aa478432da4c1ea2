"""The costly parts of a torch model, each computed by a runtime in the part's own place.

The model stays the library's own: what takes the place of a part has the same inputs and outputs.
What is no such part (resizing, anchors, NMS, cutting regions) goes on in torch as it is.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from pipeline.runtime import Compute, Precision, RuntimeName
from pipeline.runtime.choose import choose, first_that_takes, say
from pipeline.runtime.torch_module import Part, TorchModule


class Computed(NamedTuple):
    """What takes the place of each part, by name, and what computes it all."""

    modules: dict[str, nn.Module]
    runtime: RuntimeName
    precision: Precision


def compute_parts(key: str, parts: Mapping[str, Part], compute: Compute) -> Computed:
    """The parts, warm. Raises UnsupportedModel where no runtime can, and what `choose` raises.

    `key` is the architecture's name and, after a space, what tells its weights from others.
    """
    choice = choose("torchvision", compute)
    computed = first_that_takes(choice, lambda name: _computed(name, key, parts, compute))
    say(key.split()[0], choice, computed.runtime, computed.precision, compute.precision)
    return computed


def _computed(name: RuntimeName, key: str, parts: Mapping[str, Part], compute: Compute) -> Computed:
    if name == "openvino":
        return _by_openvino(key, parts, compute.precision)
    if name == "torch" and compute.device.type == "cpu" and compute.precision == "float32":
        return Computed({title: part.module for title, part in parts.items()}, name, "float32")
    architecture = key.split()[0]
    modules = {
        title: TorchModule(
            f"{architecture} {title}".strip(), part, compute, compiled=name == "compile"
        )
        for title, part in parts.items()
    }
    return Computed({**modules}, name, compute.precision)


def _by_openvino(key: str, parts: Mapping[str, Part], precision: Precision) -> Computed:
    from pipeline.runtime.openvino_module import OpenVinoModule

    modules = {
        name: OpenVinoModule(part.module, part.examples[0], precision, f"{key} {name}".strip())
        for name, part in parts.items()
    }
    # The same for all, as they are compiled for one device.
    has = next(iter(modules.values())).precision
    return Computed({**modules}, "openvino", has)
