"""A module of a torch model computed by OpenVINO in its place, several times faster on a CPU.

A converted module is kept in the user's cache, as converting takes seconds.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contracts.errors import UnsupportedModel
from pipeline.runtime import Precision
from pipeline.runtime.cache import cache_folder
from pipeline.runtime.failure import first_line, said_by

log = logging.getLogger("framewire.pipeline")


class OpenVinoModule(nn.Module):
    """Takes the place of a module: a tensor or a list of them in, the same structure out. CPU."""

    def __init__(self, module: nn.Module, example: Any, precision: Precision, key: str) -> None:
        """`example` is an input to trace the module with; batch, height and width stay open.

        `key` names the module and its weights in the cache. Raises UnsupportedModel where OpenVINO
        can't convert the module.
        """
        super().__init__()
        # Ours, before openvino itself: it sees to it that the library calls nobody.
        from pipeline.runtime.openvino import NAMES

        self._original = module
        with torch.no_grad():
            self._rebuild = _rebuilder(module(example))
            self._compiled = _compile(_Flat(module).eval(), example, precision, key)
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision: Precision = NAMES[hint]
        """What it really computes in, which is not always what was asked for."""

    def forward(self, given: Any) -> Any:
        """What the module would have given."""
        inputs = list(given) if isinstance(given, list | tuple) else [given]
        if len(inputs[0]) == 0:
            return self._original(given)  # OpenVINO takes no empty batch.
        outputs = self._compiled([tensor.contiguous().numpy() for tensor in inputs])
        return self._rebuild([torch.from_numpy(outputs[i].copy()) for i in range(len(outputs))])


class _Flat(nn.Module):
    """The module with a plain tuple of tensors as its output, as tracing wants it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Any) -> Any:
        """A dictionary gives its values, in order."""
        output = self.module(list(given) if len(given) > 1 else given[0])
        return tuple(output.values()) if isinstance(output, dict) else output


def _rebuilder(example: Any) -> Callable[[list[Tensor]], Any]:
    """From a flat list of tensors back to what the module gives: a tensor or a dictionary."""
    if isinstance(example, dict):
        keys = list(example)
        return lambda tensors: OrderedDict(zip(keys, tensors, strict=True))
    return lambda tensors: tensors[0]


def _compile(module: nn.Module, example: Any, precision: Precision, key: str) -> Any:
    # Ours first: it sees to it that the library calls nobody.
    from pipeline.runtime.openvino import HINTS  # isort: skip
    import openvino
    from openvino.frontend import GeneralFailure, NotImplementedFailure, OpConversionFailure

    cached = cache_folder("openvino") / f"{_digest(key, torch.__version__, openvino.__version__)}"
    settings = {"INFERENCE_PRECISION_HINT": HINTS[precision]}
    core = openvino.Core()
    try:
        model = _read_cached(core, cached)
        if model is None:
            model = _convert(module, example)
            _keep(model, cached)
        return core.compile_model(model, "CPU", settings)
    except (RuntimeError, GeneralFailure, NotImplementedFailure, OpConversionFailure) as error:
        raise UnsupportedModel(
            f"openvino can't take {key} in {precision}: {said_by(error)}"
        ) from error


def _read_cached(core: Any, folder: Path) -> Any:
    """The model in the folder, or None where there is none. One that can't be read is removed."""
    if not os.access(folder, os.F_OK):
        return None
    try:
        return core.read_model(folder / "model.xml")
    except RuntimeError as error:
        log.warning("cache_unreadable: %s: converted anew (%s)", folder, first_line(error))
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _convert(module: nn.Module, example: Any) -> Any:
    """The module as OpenVINO has it, in memory."""
    import openvino

    given = tuple(example) if isinstance(example, list) else (example,)
    shapes = [(-1, tensor.shape[1], -1, -1) for tensor in given]
    root = logging.getLogger()
    level = root.level
    try:
        with warnings.catch_warnings():
            # The converter traces, which torch has begun to discourage.
            warnings.simplefilter("ignore")
            return openvino.convert_model(module, example_input=given, input=shapes)
    finally:
        # Where it fails, the converter leaves every logger of the process at ERROR.
        root.setLevel(level)


def _keep(converted: Any, folder: Path) -> None:
    """The model is in the folder, whole, or a warning says why the next start converts it again."""
    import openvino

    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent))
        openvino.save_model(converted, partial / "model.xml", compress_to_fp16=False)
        partial.rename(folder)
    except (OSError, RuntimeError) as error:
        # Where the folder is there by now, another process was quicker: it holds the same.
        if not os.access(folder, os.F_OK):
            log.warning("cache_unwritable: %s: %s", folder.parent, first_line(error))
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
