"""Which runtime computes a model: what there is, what is tried first, and one step back from it."""

import dataclasses
import importlib
import importlib.util
import logging
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch

from contracts.errors import (
    BadSetting,
    DeviceUnavailable,
    InferenceError,
    OutOfMemory,
    UnsupportedModel,
)
from pipeline.runtime import Compute, Precision, RuntimeName

Kind = Literal["torchvision", "onnx"]
Made = TypeVar("Made")

TAKES: dict[Kind, tuple[RuntimeName, ...]] = {
    "torchvision": ("torch", "compile", "openvino"),
    "onnx": ("onnxruntime", "openvino", "tensorrt"),
}
"""What computes models of a kind. The first is the plainest: what another one can't take goes back
to it, and `verify` compares with it."""

FASTEST: dict[str, RuntimeName] = {"cpu": "openvino"}
"""What `auto` tries first, by kind of device. On CUDA it is the plainest: `compile` and `tensorrt`
are faster once they run but need minutes to start, so they are taken when they are named."""

LIBRARY = {"compile": "torch", "tensorrt": "onnxruntime"}
"""What has to be installed, where it is not called as the runtime is."""

log = logging.getLogger("framewire.pipeline")


@dataclasses.dataclass(frozen=True)
class Choice:
    """Runtimes to try, in this order, on this device, and why these."""

    names: tuple[RuntimeName, ...]
    device: torch.device
    why: str


def available(kind: Kind, device: torch.device) -> tuple[RuntimeName, ...]:
    """The runtimes here that compute models of this kind on this device, the plainest first."""
    return tuple(name for name in TAKES[kind] if device.type in _devices(name))


def choose(kind: Kind, compute: Compute) -> Choice:
    """What is to compute a model, and what does where that can't take it.

    `auto` goes to the CPU, with a warning, where no runtime here computes on the device. Raises
    BadSetting where the runtime that was named is not installed or not for this kind of model,
    DeviceUnavailable where it doesn't compute on that device.
    """
    asked, device = compute.runtime, compute.device
    usable = available(kind, device)
    if asked != "auto":
        _check(kind, asked, device)
        return Choice(tuple(dict.fromkeys((asked, *usable[:1]))), device, "asked for")
    if usable:
        first = FASTEST.get(device.type, usable[0])
        names = tuple(dict.fromkeys(name for name in (first, usable[0]) if name in usable))
        why = f"auto: first on {device.type}" if first in usable else f"auto: no {first} here"
        return Choice(names, device, why)
    if device.type == "cpu":
        raise BadSetting("an ONNX model needs a runtime: install openvino or onnxruntime")
    log.warning("device_fallback: no ONNX runtime here computes on %s, so the CPU does", device)
    return choose(kind, dataclasses.replace(compute, device=torch.device("cpu")))


def _check(kind: Kind, asked: RuntimeName, device: torch.device) -> None:
    if asked not in TAKES[kind]:
        models = "an ONNX file" if kind == "onnx" else "torchvision's models"
        raise BadSetting(
            f"runtime {asked}: can't compute {models}; expected auto, {', '.join(TAKES[kind])}"
        )
    kinds = _devices(asked)
    if not _installed(asked):
        raise BadSetting(f"runtime {asked}: not installed")
    if device.type not in kinds:
        here = f"computes on {', '.join(sorted(kinds))} only" if kinds else "was built without it"
        library = LIBRARY.get(asked, asked)
        raise DeviceUnavailable(
            f"runtime {asked} on device {device}: {library} as installed here {here}"
        )


def _installed(name: RuntimeName) -> bool:
    return importlib.util.find_spec(LIBRARY.get(name, name)) is not None


def _devices(name: RuntimeName) -> set[str]:
    """The kinds of device that the runtime, as it is installed here, computes on."""
    if LIBRARY.get(name, name) == "torch":
        return {"cpu", "cuda"}
    found: set[str] = module_of(name).devices() if _installed(name) else set()
    return found


def module_of(name: RuntimeName) -> Any:
    """Our module for a runtime of files. Each brings a large library, so only those in use come."""
    return importlib.import_module(f"pipeline.runtime.{name}")


def first_that_takes(choice: Choice, make: Callable[[RuntimeName], Made]) -> Made:
    """What the first runtime makes, or, with the warning `runtime_fallback`, the next one.

    Raises UnsupportedModel where none can. That memory runs out is not a model's fault: the next
    runtime would not have more of it.
    """
    for name, following in zip(choice.names, [*choice.names[1:], None], strict=True):
        try:
            return make(name)
        except OutOfMemory:
            raise
        except (UnsupportedModel, InferenceError) as error:
            if following is None:
                raise UnsupportedModel(str(error)) from error
            log.warning("runtime_fallback: %s; %s computes it", error, following)
    raise AssertionError("unreachable: the last runtime's error is raised above")


def say(model: str, choice: Choice, runtime: RuntimeName, has: Precision, asked: Precision) -> None:
    """The log tells what computes the model and why, and warns of another precision than asked."""
    why = choice.why if runtime == choice.names[0] else f"{choice.names[0]} can't take it"
    log.info("%s: %s in %s on %s (%s)", model, runtime, has, choice.device, why)
    if has != asked:
        log.warning("precision_fallback: %s: %s asked for, %s has %s", model, asked, runtime, has)
