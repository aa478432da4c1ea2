"""Which runtime computes a model, and the compiled network, said in one line at start-up."""

import dataclasses
import importlib
import importlib.util
import logging
from typing import Any, Literal, get_args

import numpy as np
import torch

from contracts.errors import BadSetting, DeviceUnavailable, InferenceError, UnsupportedModel
from pipeline.runtime import Network, Precision, RuntimeName
from pipeline.runtime.onnx_file import DEFAULT_SIDE, OnnxFile

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

    Raises BadSetting where it is not one or not installed, DeviceUnavailable where it doesn't
    compute on that device. `auto` goes to the CPU, with a warning, where no runtime here computes
    on the device.
    """
    if asked not in get_args(Asked):
        raise BadSetting(
            f"runtime {asked}: can't compute an ONNX file; expected {', '.join(get_args(Asked))}"
        )
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


def load_network(
    file: OnnxFile, device: torch.device, runtime: Asked, precision: Precision
) -> Network:
    """The file compiled and warm, for any batch. Raises UnsupportedModel where nothing takes it."""
    if precision not in get_args(Precision):
        raise BadSetting(f"precision {precision}: expected {', '.join(get_args(Precision))}")
    choice = choose_runtime(runtime, device)
    network: Network
    for name, following in zip(choice.names, [*choice.names[1:], None], strict=True):
        try:
            network, batching = _module(name).compile_file(file, choice.device, precision)
            _warm_up(network)
        except (UnsupportedModel, InferenceError) as error:
            if following is None:
                raise UnsupportedModel(str(error)) from error
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


def _warm_up(network: Network) -> None:
    """One picture has gone through. Some graphs compile and can't be run."""
    height, width = (side or DEFAULT_SIDE for side in network.input_shape[2:])
    network.run(np.full((1, 3, height, width), 0.5, np.float32))


def _say(file: OnnxFile, network: Network, choice: Choice, batching: str) -> None:
    log.info(
        "%s: %s in %s on %s (%s); %s",
        *(file.path.name, network.runtime, network.precision, choice.device, choice.why),
        batching,
    )
