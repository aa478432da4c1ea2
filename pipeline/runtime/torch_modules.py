"""Parts of a torch model computed by OpenVINO in place, several times faster on a CPU.

The model stays the library's own: a part of it is converted, compiled, and put back where it was,
with the same inputs and outputs. What is not converted (resizing, anchors, NMS, cutting regions)
goes on in torch. A converted part is kept in the user's cache, as converting takes seconds.
"""

import hashlib
import importlib.util
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

from contracts.errors import BadSetting, UnsupportedModel
from pipeline.runtime import Precision

log = logging.getLogger("framewire.pipeline")


def openvino_takes(asked: str, precision: Precision, device: torch.device) -> bool:
    """True where OpenVINO is to compute a torch model, False where torch is. Raises BadSetting.

    `auto` is OpenVINO on a CPU where it is installed.
    """
    if asked == "onnxruntime":
        raise BadSetting("runtime onnxruntime: computes ONNX files, not torchvision's models")
    if asked == "openvino" and device.type != "cpu":
        raise BadSetting(f"runtime openvino: computes on the CPU, not on {device}")
    installed = importlib.util.find_spec("openvino") is not None
    if asked == "openvino" and not installed:
        raise BadSetting("runtime openvino: not installed")
    takes = asked != "torch" and device.type == "cpu" and installed
    if not takes and precision != "float32":
        raise BadSetting(f"precision {precision}: torch computes in float32 here")
    return takes


class OpenVinoModule(nn.Module):
    """Takes the place of a module: a tensor or a list of them in, the same structure out. CPU."""

    def __init__(self, module: nn.Module, example: Any, precision: Precision, key: str) -> None:
        """`example` is an input to trace the module with; batch, height and width stay open.

        `key` names the module and its weights in the cache. Raises UnsupportedModel where OpenVINO
        can't convert the module.
        """
        super().__init__()
        self._original = module
        with torch.no_grad():
            self._rebuild = _rebuilder(module(example))
            self._compiled = _compile(_Flat(module).eval(), example, precision, key)

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

    cached = _cache_folder() / f"{_digest(key, torch.__version__, openvino.__version__)}"
    core = openvino.Core()
    try:
        if not cached.exists():
            _convert(module, example, cached)
        model = core.read_model(cached / "model.xml")
        return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[precision]})
    except (RuntimeError, GeneralFailure, NotImplementedFailure, OpConversionFailure) as error:
        raise UnsupportedModel(f"openvino can't take {key} in {precision}: {error}") from error


def _convert(module: nn.Module, example: Any, folder: Path) -> None:
    """The converted module is in the folder, whole: it gets its name when it is."""
    import openvino

    given = tuple(example) if isinstance(example, list) else (example,)
    shapes = [(-1, tensor.shape[1], -1, -1) for tensor in given]
    with warnings.catch_warnings():
        # The converter traces, which torch has begun to discourage.
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(module, example_input=given, input=shapes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    openvino.save_model(converted, partial / "model.xml", compress_to_fp16=False)
    try:
        partial.rename(folder)
    except OSError:  # Another process was quicker; its folder holds the same.
        shutil.rmtree(partial)


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "framewire" / "openvino"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
