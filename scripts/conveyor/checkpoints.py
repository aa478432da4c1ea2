"""The two models without weights, made ready for a CPU, and the files of their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from scripts.conveyor.examples import CLASSIFIER_CATEGORIES, CROP_SIDE_PX, DETECTOR_CATEGORIES

DETECTOR_FILE, CLASSIFIER_FILE = "parts_detector.safetensors", "parts_classifier.safetensors"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def new_detector() -> nn.Module:
    """The detector's architecture with random weights; called as torchvision's detectors are."""
    model: nn.Module = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=len(DETECTOR_CATEGORIES)
    )
    return model


def new_classifier() -> nn.Module:
    """The classifier's architecture with random weights; (n, 3, 128, 128) to (n, 4) logits."""
    model: nn.Module = mobilenet_v3_small(weights=None, num_classes=len(CLASSIFIER_CATEGORIES))
    return model


def metadata_of(model: nn.Module) -> dict[str, str]:
    """What a reader of the weights file needs to know to use it; safetensors wants strings."""
    detects = hasattr(model, "backbone")
    preset = {
        "resize_size": CROP_SIDE_PX,
        "crop_size": CROP_SIDE_PX,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    return {
        "architecture": "ssdlite320_mobilenet_v3_large" if detects else "mobilenet_v3_small",
        "categories": json.dumps(DETECTOR_CATEGORIES if detects else CLASSIFIER_CATEGORIES),
        **({} if detects else {"transform": json.dumps(preset)}),
        "licence": "Apache-2.0",
        "trained_by": "python -m scripts.conveyor.train --out pipeline/weights",
        "measured": "{}",
    }


def prepare_for_cpu(model: nn.Module) -> nn.Module:
    """Lays the weights out channels last, and keeps some convolutions in float32 under autocast.

    The bfloat16 backward of a depthwise convolution with a stride or a 5 x 5 kernel is four times
    slower than the float32 one.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or module.groups == 1:
            continue
        if module.stride[0] > 1 or module.kernel_size[0] > 3:
            _keep_float32(module)
    return model.to(memory_format=torch.channels_last)


def _keep_float32(module: nn.Conv2d) -> None:
    plain = module.forward

    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return plain(x.float())

    module.forward = forward  # type: ignore[method-assign,assignment]


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Replaces the file in one step; floating tensors are stored in half precision."""
    halved = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(halved, partial, metadata)
    # safetensors makes files that only their owner may read.
    partial.chmod(0o644)
    partial.replace(path)


def load_weights(path: Path, model: nn.Module) -> nn.Module:
    """The model with the file's weights, in float32, ready for inference."""
    state, _ = _read(path)
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return model.eval()


def write_back(path: Path, figures: dict[str, Any]) -> None:
    """Puts the figures into the file's metadata; the tensors stay as they are."""
    state, metadata = _read(path)
    save_weights(path, state, metadata | {"measured": json.dumps(figures)})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return state, dict(file.metadata())
