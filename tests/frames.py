"""Frames, and models that stand in at the pipeline's two protocols."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.frame import Frame, LatentFrame, utc_now
from contracts.messages import ModelIdentity
from pipeline.classify import Label
from pipeline.crop import CropTransform
from pipeline.detect import RawDetections

Box = tuple[float, float, float, float]


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: smooth blotches, so that resampling has something to get wrong."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    fine = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return np.ascontiguousarray(fine)


def frame(
    index: int = 0,
    source_id: str = "cam",
    image_hwc: NDArray[np.uint8] | None = None,
    size: tuple[int, int] = (48, 64),
) -> Frame:
    """A frame of `size` (height, width), grey unless an image is given."""
    return Frame(
        source_id=source_id,
        frame_index=index,
        image_id=f"{source_id}/{index}",
        image_hwc=np.full((*size, 3), 128, np.uint8) if image_hwc is None else image_hwc,
        pts_s=index / 10,
        captured_at=utc_now(),
        captured_ns=time.monotonic_ns(),
        decode_ms=1.5,
    )


def latent(
    index: int = 0,
    source_id: str = "cam",
    pixels: Callable[[], Any] = lambda: np.full((48, 64, 3), 128, np.uint8),
) -> LatentFrame:
    """A frame whose pixels are yet to be made."""
    return LatentFrame(**frame(index, source_id).stamp(), n_bytes=48 * 64 * 3, pixels=pixels)


def raw(*boxes: Box, score: float = 0.9, class_id: int = 1) -> RawDetections:
    """What a detector says."""
    return RawDetections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.full((len(boxes),), score),
        torch.full((len(boxes),), class_id),
    )


class FixedDetector:
    """Finds the same boxes in every frame; a box list by frame index overrides that."""

    class_names: tuple[str, ...] = ("background", "thing")
    identity = ModelIdentity(name="fixed-detector", weights_sha256="0" * 64)

    def __init__(self, *boxes: Box, by_index: dict[int, RawDetections] | None = None) -> None:
        self.boxes = boxes
        self.by_index = by_index or {}
        self.batches: list[list[int]] = []

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """Also remembers which frames came together."""
        self.batches.append([item.frame_index for item in frames])
        return [self.by_index.get(item.frame_index, raw(*self.boxes)) for item in frames]


class FaultyDetector(FixedDetector):
    """Calls `fault` with the frames of each call before it finds anything: there it may raise."""

    def __init__(self, *boxes: Box, fault: Callable[[list[int]], None]) -> None:
        super().__init__(*boxes)
        self.fault = fault

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """Also remembers which frames came together."""
        found = super().detect(frames)
        self.fault(self.batches[-1])
        return found


class BrightnessClassifier:
    """Says `bright` or `dark` by the crop's mean, so that a crop of the wrong pixels shows."""

    class_names = ("dark", "bright")
    identity = ModelIdentity(name="brightness", weights_sha256="1" * 64)
    transform = CropTransform(16, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def classify(self, crops: torch.Tensor) -> list[Label]:
        """Crops are in [0, 1]."""
        self.batch_sizes.append(len(crops))
        return [Label(int(mean > 0.5), 0.75) for mean in crops.mean(dim=(1, 2, 3)).tolist()]
