"""torchvision's classifiers, by name."""

import json
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from contracts.errors import UnsupportedModel
from contracts.messages import ModelIdentity
from pipeline.catalog import ModelSpec
from pipeline.classify import Label
from pipeline.crop import CropTransform
from pipeline.runtime import Precision
from pipeline.runtime.torch_modules import OpenVinoModule, openvino_takes
from pipeline.weights_file import Weights, categories_of, load_into

log = logging.getLogger("framewire.pipeline")

# What these builders set when they are given published weights, beside the weights.
BUILDER_ARGUMENTS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


class TorchvisionClassifier:
    """A torchvision classification model with its weights, on a device, in float32."""

    def __init__(
        self,
        spec: ModelSpec,
        device: torch.device,
        runtime: str = "torch",
        precision: Precision = "float32",
    ) -> None:
        weights = spec.read_weights()
        self.class_names = categories_of(weights, spec.published.meta["categories"])
        self.transform = _transform_of(weights, spec)
        model = get_model(
            spec.architecture,
            weights=None,
            num_classes=len(self.class_names),
            **BUILDER_ARGUMENTS.get(spec.architecture, {}),
        )
        load_into(model, weights, spec.architecture)
        self.model: nn.Module = model.eval().to(device)
        side = self.transform.crop_size
        computes = "torch"
        if openvino_takes(runtime, precision, device):
            key = f"{spec.architecture} {weights.sha256}"
            example = torch.zeros(2, 3, side, side)
            try:
                self.model = OpenVinoModule(self.model, example, precision, key)
                computes = "openvino"
            except UnsupportedModel as error:
                log.warning("runtime_fallback: %s; torch computes it", error)
        self.identity = ModelIdentity(
            name=spec.name,
            weights_sha256=weights.sha256,
            runtime=computes,
            precision=precision if computes == "openvino" else "float32",
            input_size=(side, side),
        )

    @torch.inference_mode()
    def logits(self, crops: Tensor) -> Tensor:
        """(K, number of classes) float32, on the device."""
        result: Tensor = self.model(crops)
        return result

    def classify(self, crops: Tensor) -> list[Label]:
        """The likeliest class of each crop; `crops` is (K, 3, S, S) float32 on the device."""
        scores, class_ids = self.logits(crops).softmax(dim=1).max(dim=1)
        pairs = zip(class_ids.tolist(), scores.tolist(), strict=True)
        return [Label(class_id, score) for class_id, score in pairs]


def _transform_of(weights: Weights, spec: ModelSpec) -> CropTransform:
    """The file's own transform where it says one, else that of the published weights."""
    if "transform" in weights.metadata:
        return CropTransform(**json.loads(weights.metadata["transform"]))
    preset = spec.published.transforms()
    return CropTransform(
        resize_size=preset.resize_size[0],
        crop_size=preset.crop_size[0],
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
