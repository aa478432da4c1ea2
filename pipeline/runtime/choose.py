"""Which runtime computes a model, and the compiled network, said in one line at start-up."""

import dataclasses
import importlib
import importlib.util
import logging
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch

from contracts.errors import BadSetting, DeviceUnavailable, UnsupportedModel
from pipeline.runtime import Network, Precision, RuntimeName
from pipeline.runtime.batch import FixedBatch, takes_batches
from pipeline.runtime.onnx_file import DEFAULT_SIDE, OnnxFile, with_open_batch

Asked = Literal["auto", "openvino", "onnxruntime"]
PREFERRED: dict[str, tuple[RuntimeName, ...]] = {
    "cpu": ("openvino", "onnxruntime"),
    "cuda": ("onnxruntime",),
}
"""By kind of device, the fastest first (see the README's table)."""

log = logging.getLogger("framewire.pipeline")


@dataclasses.dataclass(frozen=True)
class Choice:
    """Runtimes to try, in this order, on this device, and why these."""

    names: tuple[RuntimeName, ...]
    device: torch.device
    why: str


def choose_runtime(asked: Asked, device: torch.device) -> Choice:
    """What is to compute a model. A runtime that is named is the only one tried.

    Raises BadSetting where it is not installed, DeviceUnavailable where it doesn't compute on that
    device. `auto` goes to the CPU, with a warning, where no runtime here computes on the device.
    """
    if asked != "auto":
        return Choice((asked,), _checked(asked, device), "asked for")
    names = _usable(device)
    if names:
        missing = [name for name in PREFERRED[device.type] if name not in names]
        why = f"auto: {', '.join(missing)} not here" if missing else f"auto: first on {device.type}"
        return Choice(names, device, why)
    if device.type == "cpu":
        raise BadSetting("an ONNX model needs a runtime: install openvino or onnxruntime")
    log.warning("device_fallback: no ONNX runtime here computes on %s, so the CPU does", device)
    return choose_runtime("auto", torch.device("cpu"))


def _checked(asked: RuntimeName, device: torch.device) -> torch.device:
    if not _installed(asked):
        raise BadSetting(f"runtime {asked}: not installed")
    kinds = _module(asked).devices()
    if device.type not in kinds:
        raise DeviceUnavailable(
            f"runtime {asked} on device {device}: as installed here it computes on "
            f"{', '.join(sorted(kinds))} only"
        )
    return device


def _usable(device: torch.device) -> tuple[RuntimeName, ...]:
    return tuple(
        name
        for name in PREFERRED.get(device.type, ())
        if _installed(name) and device.type in _module(name).devices()
    )


def _installed(name: RuntimeName) -> bool:
    return importlib.util.find_spec(name) is not None


def _module(name: RuntimeName) -> Any:
    """Our module for the runtime. Only the one in use is imported: each brings a large library."""
    return importlib.import_module(f"pipeline.runtime.{name}")


def _compiler(name: RuntimeName) -> Callable[[OnnxFile, torch.device, Precision], Network]:
    module = _module(name)
    compiler: Callable[[OnnxFile, torch.device, Precision], Network]
    compiler = module.OpenVinoNetwork if name == "openvino" else module.OnnxRuntimeNetwork
    return compiler


def load_network(
    file: OnnxFile, device: torch.device, runtime: Asked, precision: Precision
) -> Network:
    """The file compiled, taking batches of any size. Raises UnsupportedModel where none takes it."""
    if precision not in get_args(Precision):
        raise BadSetting(f"precision {precision}: expected {', '.join(get_args(Precision))}")
    choice = choose_runtime(runtime, device)
    for name, following in zip(choice.names, [*choice.names[1:], None], strict=True):
        try:
            network, batching = _with_batches(file, choice.device, name, precision)
        except UnsupportedModel as error:
            if following is None:
                raise
            log.warning("runtime_fallback: %s; trying %s", error, following)
            continue
        _say(file, network, choice, batching)
        if network.precision != precision:
            log.warning(
                "precision_fallback: %s: %s asked for, %s has %s",
                *(file.path.name, precision, name, network.precision),
            )
        return network
    raise AssertionError("unreachable: the last runtime's error is raised above")


def _with_batches(
    file: OnnxFile, device: torch.device, name: RuntimeName, precision: Precision
) -> tuple[Network, str]:
    """The compiled network, and how it takes batches."""
    compiler = _compiler(name)
    exported = compiler(file, device, precision)
    if file.batch_size is None:
        return exported, "takes any batch"
    size = file.batch_size
    try:
        opened = compiler(with_open_batch(file), device, precision)
    except UnsupportedModel:
        return FixedBatch(exported), f"batch of {size} can't be opened: runs {size} at a time"
    if takes_batches(opened, exported, DEFAULT_SIDE):
        return opened, f"batch of {size} opened, same results checked"
    return FixedBatch(exported), f"batch of {size} differs when opened: runs {size} at a time"


def _say(file: OnnxFile, network: Network, choice: Choice, batching: str) -> None:
    log.info(
        "%s: %s in %s on %s (%s); %s",
        *(file.path.name, network.runtime, network.precision, choice.device, choice.why),
        batching,
    )
