"""Weights for torchvision's architectures where the published ones can't be had.

They find nothing that means anything. But they load and run as the published ones do, so that time
and agreement can be measured with them.
"""

import logging
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from contracts.errors import WeightsUnavailable
from contracts.frame import Frame
from contracts.messages import Detection
from contracts.settings import Settings
from pipeline.catalog import ModelSpec, Role, find_model
from pipeline.classify.torchvision import BUILDER_ARGUMENTS
from scripts.ways import detector_ways

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

SEED = 0
PEAK: dict[Role, float] = {"detector": 6.0, "classifier": 8.0}
"""How far the best score stands above the mean, before softmax or sigmoid: enough that some of the
91 or 1000 classes stand out, and not so much that they are certain."""

OBJECTS = 20
"""A detector's `min_score` is set so that a frame has about so many objects."""

log = logging.getLogger("framewire.measure")


def with_weights(
    role: Role, settings: Settings, frames: Sequence[Frame], folder: Path
) -> tuple[Settings, str]:
    """The settings with random weights where there are no others, and a note that says so.

    Such a detector has its `min_score` set anew.
    """
    name = settings.detector if role == "detector" else settings.classifier
    if name.startswith("onnx:"):
        return settings, ""
    spec = find_model(role, name)
    try:
        spec.read_weights()
    except WeightsUnavailable as error:
        log.info("%s", error)
    else:
        return settings, ""
    images = [frame.image_hwc for frame in frames[:: max(1, len(frames) // 2)]]
    path = random_weights(spec, role, images, folder)
    settings = settings.model_copy(update={f"{role}_weights": path})
    if role == "detector":
        settings = settings.model_copy(update={"min_score": _score_of_objects(settings, frames)})
    return settings, ", random weights"


def _score_of_objects(settings: Settings, frames: Sequence[Frame]) -> float:
    """What `OBJECTS` objects of a frame reach, in the median frame."""
    best = {"min_score": 0.0, "max_detections": OBJECTS, "masks": False}
    found = found_by_reference(settings.model_copy(update=best), frames)
    return statistics.median(min(item.score for item in detections) for detections in found)


def found_by_reference(settings: Settings, frames: Sequence[Frame]) -> list[Sequence[Detection]]:
    """What the detector finds, computed by the reference."""
    way = next(detector_ways(settings))
    return [way.compute(frame)[1] for frame in frames]


def random_weights(
    spec: ModelSpec, role: Role, images_hwc: Sequence["ImageHWC"], folder: Path
) -> Path:
    """A safetensors file, the same each time for the same images.

    A network that is only initialised gives nearly the same for every picture, all scores alike. So
    the norms take their statistics from these images, as in training, and the scores are spread.
    """
    path = folder / f"{spec.architecture}-{role}-random.safetensors"
    classes = len(spec.published.meta["categories"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = _build(spec.architecture, role, classes)
    # One picture alone may leave a norm with a single value, which has no deviation.
    twice = [*images_hwc] * (1 + (len(images_hwc) == 1))
    pictures = [torch.from_numpy(image).permute(2, 0, 1) for image in twice]
    given = _for_classifier(spec, pictures) if role == "classifier" else [p / 255 for p in pictures]
    with torch.no_grad():
        _settle_norms(model, given)
        _spread_scores(model, given, classes, PEAK[role])
    save_file(model.state_dict(), path)
    return path


def _build(architecture: str, role: Role, classes: int) -> nn.Module:
    arguments = BUILDER_ARGUMENTS.get(architecture, {})
    if role == "detector":
        arguments = {"weights_backbone": None}
    model: nn.Module = get_model(architecture, weights=None, num_classes=classes, **arguments)
    return model.eval()


def _for_classifier(spec: ModelSpec, pictures: Sequence[Tensor]) -> Tensor:
    """(B, 3, S, S) as the classifier wants them."""
    prepare = spec.published.transforms()
    return torch.stack([prepare(picture) for picture in pictures])


def _settle_norms(model: nn.Module, given: Any) -> None:
    """Their statistics are those of what was given."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = None  # The mean over all that is seen.
    model(given)
    model.eval()


def _spread_scores(model: nn.Module, given: Any, classes: int, peak: float) -> None:
    """The layers that give a score, or a mask, for each class give some that stand so far out."""
    highest: dict[nn.Module, float] = {}

    def note(layer: nn.Module, _given: object, scores: Tensor) -> None:
        # One layer may see features of several sizes.
        if scores.numel():
            highest[layer] = max(highest.get(layer, 0.0), float((scores - scores.mean()).max()))

    for name, module in model.named_modules():
        outputs = {nn.Linear: "out_features", nn.Conv2d: "out_channels"}.get(type(module))
        if outputs and getattr(module, outputs) % classes == 0 and "bbox" not in name:
            module.register_forward_hook(note)
    model(given)
    for layer, height in highest.items():
        cast("nn.Linear", layer).weight.mul_(peak / height)


def keep_caches_apart(folder: str) -> None:
    """What is converted here goes into this folder. Published weights stay where they always are.

    Random weights, converted, are of no use to anybody afterwards.
    """
    os.environ["TORCH_HOME"] = str(Path(torch.hub.get_dir()).parent)
    os.environ["XDG_CACHE_HOME"] = folder
