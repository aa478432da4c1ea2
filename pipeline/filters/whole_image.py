"""A filter that has a classifier look at whole frames, such as one for nudity or violence."""

from collections.abc import Sequence

import torch

from contracts.errors import ContractViolation
from contracts.filters import WholeImageSettings
from contracts.messages import ModelIdentity
from pipeline.budget import MAX_CROPS_AT_ONCE
from pipeline.classify import Classifier, Label
from pipeline.crop import CropBox, crop
from pipeline.filters import Sight, Verdict


class WholeImage:
    """Frames whose likeliest class is one that is not to be shown."""

    by_label = False

    def __init__(
        self, settings: WholeImageSettings, classifier: Classifier, device: torch.device
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._classifier = classifier
        self._device = device

    @property
    def identity(self) -> ModelIdentity:
        """Which weights speak."""
        return self._classifier.identity

    def judge(self, sights: Sequence[Sight]) -> list[Verdict]:
        """Blocks or flags. Raises what the classifier raises."""
        return [
            Verdict(whole=self._settings.action) if self._is_meant(label) else Verdict()
            for start in range(0, len(sights), MAX_CROPS_AT_ONCE)
            for label in self._classify(sights[start : start + MAX_CROPS_AT_ONCE])
        ]

    def _classify(self, sights: Sequence[Sight]) -> Sequence[Label]:
        frames = [sight.frame for sight in sights]
        boxes = [
            CropBox(position, (0.0, 0.0, float(frame.width), float(frame.height)))
            for position, frame in enumerate(frames)
        ]
        images = [frame.image_hwc for frame in frames]
        return self._classifier.classify(
            crop(images, boxes, self._classifier.transform, self._device)
        )

    def _is_meant(self, label: Label) -> bool:
        if not 0 <= label.score <= 1:
            raise ContractViolation(f"{self.identity.name}: a score of {label.score}")
        name = self._classifier.class_names[label.class_id]
        return name in self._settings.classes and label.score >= self._settings.min_score
