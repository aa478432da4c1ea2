"""torchvision's classifiers, by name."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from contracts.errors import WeightsUnreadable
from contracts.messages import ModelIdentity
from pipeline.catalog import ModelSpec
from pipeline.classify import Label
from pipeline.crop import CropTransform, stated_transform
from pipeline.runtime import Compute
from pipeline.runtime.failure import failures_named, made_ready
from pipeline.runtime.torch_module import Part
from pipeline.runtime.torch_parts import compute_parts
from pipeline.weights_file import Weights, categories_of, load_into, stated

# What these builders set when they are given published weights, beside the weights.
BUILDER_ARGUMENTS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


class TorchvisionClassifier:
    """A torchvision classification model with its weights, on a device; float32 in and out."""

    def __init__(self, spec: ModelSpec, compute: Compute) -> None:
        """Raises ModelError or BadSetting."""
        weights = spec.read_weights()
        self.class_names = categories_of(weights, spec.published.meta["categories"])
        self.transform = _transform_of(weights, spec)
        side = self.transform.crop_size
        model = _build(spec, weights, len(self.class_names))
        with made_ready(spec.name):
            crop = torch.zeros(1, 3, side, side, device=compute.device)
            parts = {"": Part(model.to(compute.device), [crop])}
            computed = compute_parts(f"{spec.architecture} {weights.sha256}", parts, compute)
        self.model = computed.modules[""]
        self.identity = ModelIdentity(
            name=spec.name,
            weights_sha256=weights.sha256,
            runtime=computed.runtime,
            precision=computed.precision,
            input_size=(side, side),
        )

    @torch.inference_mode()
    def logits(self, crops: Tensor) -> Tensor:
        """(K, number of classes) float32, on the device."""
        result: Tensor = self.model(crops)
        return result

    def classify(self, crops: Tensor) -> list[Label]:
        """The likeliest class of each crop; `crops` is (K, 3, S, S) float32 on the device."""
        with failures_named(self.identity.name):
            scores, class_ids = self.logits(crops).softmax(dim=1).max(dim=1)
        pairs = zip(class_ids.tolist(), scores.tolist(), strict=True)
        return [Label(class_id, score) for class_id, score in pairs]


def _build(spec: ModelSpec, weights: Weights, class_count: int) -> nn.Module:
    """The library's model with the weights. Raises WeightsMismatch."""
    model: nn.Module = get_model(
        spec.architecture,
        weights=None,
        num_classes=class_count,
        **BUILDER_ARGUMENTS.get(spec.architecture, {}),
    )
    load_into(model, weights, spec.architecture)
    return model.eval()


def _transform_of(weights: Weights, spec: ModelSpec) -> CropTransform:
    """The file's own transform where it says one, else that of the published weights.

    Raises WeightsUnreadable where the file's own is none.
    """
    if "transform" in weights.metadata:
        try:
            return stated_transform(stated(weights, "transform", dict))
        except (TypeError, ValueError) as error:
            text = f"weights {weights.path}: its metadata `transform` is none: {error}"
            raise WeightsUnreadable(text) from error
    preset = spec.published.transforms()
    return CropTransform(
        resize_size=preset.resize_size[0],
        crop_size=preset.crop_size[0],
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
