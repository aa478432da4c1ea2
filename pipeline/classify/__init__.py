"""The classifier: from crops to one label each."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from contracts.messages import ModelIdentity
from pipeline.crop import CropTransform


class Label(NamedTuple):
    """The likeliest class of one crop, and its probability."""

    class_id: int
    score: float


class Classifier(Protocol):
    """Loaded, on its device, used by the inference thread only."""

    @property
    def identity(self) -> ModelIdentity:
        """Which weights speak."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """By class id."""
        ...

    @property
    def transform(self) -> CropTransform:
        """How the crops must be made."""
        ...

    def classify(self, crops: Tensor) -> list[Label]:
        """One label a crop; `crops` is (K, 3, S, S) float32 on the device, made by `transform`."""
        ...
