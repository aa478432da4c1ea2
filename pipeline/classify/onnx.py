"""Any classifier in an ONNX file: one picture in, one row of scores out."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import UnsupportedModel
from contracts.messages import ModelIdentity
from pipeline.classify import Label
from pipeline.crop import CropTransform, stated_transform
from pipeline.runtime import Compute, Network
from pipeline.runtime.failure import failures_named, made_ready
from pipeline.runtime.labels import labels_of
from pipeline.runtime.network import load_network
from pipeline.runtime.onnx_file import OnnxFile, read_onnx, with_size

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_SIDE = 224
CROP_SHARE = 0.875
"""Of the resized picture's side that the crop keeps: 224 of 256, as ImageNet is evaluated."""


class OnnxClassifier:
    """A classification network from an ONNX file, compiled for a device."""

    def __init__(self, file: Path, name: str, compute: Compute) -> None:
        """Raises ModelError or BadSetting."""
        read = read_onnx(file)
        self.transform = _transform_of(read)
        side = self.transform.crop_size
        with made_ready(name):
            self.network: Network = load_network(with_size(read, side, side), compute)
            scores = _try_out(read, self.network, side)
        self.identity = ModelIdentity(
            name=name,
            weights_sha256=read.sha256,
            runtime=self.network.runtime,
            precision=self.network.precision,
            input_size=(side, side),
        )
        self.class_names = labels_of(read, scores.shape[1], {})
        self._gives_probabilities = _are_probabilities(scores)

    def classify(self, crops: Tensor) -> list[Label]:
        """The likeliest class of each crop; `crops` is (K, 3, S, S) float32."""
        with failures_named(self.identity.name):
            scores, class_ids = self.probabilities(crops).max(dim=1)
        pairs = zip(class_ids.tolist(), scores.tolist(), strict=True)
        return [Label(class_id, score) for class_id, score in pairs]

    @torch.inference_mode()
    def probabilities(self, crops: Tensor) -> Tensor:
        """(K, number of classes) float32 on the CPU, each row's sum is 1."""
        [output, *_] = self.network.run(crops.cpu().numpy())
        scores = torch.from_numpy(output)
        return scores.clamp(0, 1) if self._gives_probabilities else scores.softmax(dim=1)


def _try_out(file: OnnxFile, network: Network, side: int) -> NDArray[Any]:
    """What the network gives for two pictures of noise."""
    noise = np.random.default_rng(0).standard_normal((2, 3, side, side), np.float32)
    outputs = network.run(noise)
    if outputs[0].ndim != 2:
        names = zip(network.output_names, outputs, strict=True)
        shapes = ", ".join(f"{name} {output.shape}" for name, output in names)
        raise UnsupportedModel(
            f"model {file.path}: expected a row of scores for each crop (B, C), it gives {shapes}"
        )
    scores: NDArray[Any] = outputs[0]
    return scores


def _are_probabilities(scores: NDArray[Any]) -> bool:
    """True when the network's last step is a softmax: nothing below 0, each row's sum is 1."""
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-2))


def _transform_of(file: OnnxFile) -> CropTransform:
    """How the crops must be made. Raises UnsupportedModel where the file's metadata garbles it."""
    side = _side(file)
    try:
        transform = _stated_transform(file.metadata, side)
    except (ValueError, SyntaxError, TypeError) as error:
        raise UnsupportedModel(
            f"model {file.path}: its metadata on preparing crops can't be read: {error}"
        ) from error
    if file.input_shape[2] is not None and transform.crop_size != side:
        raise UnsupportedModel(
            f"model {file.path}: takes {side} pixels, its metadata says {transform.crop_size}"
        )
    return transform


def _stated_transform(metadata: Mapping[str, str], side: int) -> CropTransform:
    """By the file's metadata, as far as it says, else as for ImageNet.

    `transform` is JSON of a whole `CropTransform`, as our own weights files have it. YOLO tools
    (`task` is `classify`) neither normalise nor cut a margin off. `mean` and `std` are lists, of
    values 0 to 1.
    """
    if "transform" in metadata:
        return stated_transform(json.loads(metadata["transform"]))
    if metadata.get("task") == "classify":
        return CropTransform(side, side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    mean = tuple(map(float, ast.literal_eval(metadata.get("mean", str(IMAGENET_MEAN)))))
    std = tuple(map(float, ast.literal_eval(metadata.get("std", str(IMAGENET_STD)))))
    return CropTransform(round(side / CROP_SHARE), side, mean, std)


def _side(file: OnnxFile) -> int:
    height, width = file.input_shape[2:]
    if height != width:
        raise UnsupportedModel(
            f"model {file.path}: expected square crops, it takes {height}×{width} pixels"
        )
    return height or DEFAULT_SIDE
