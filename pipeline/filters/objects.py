"""Filters that go by what was detected: block, redact, blur. They differ in what they withhold."""

from collections.abc import Sequence

from contracts.filters import BlockSettings, BlurSettings, RedactSettings
from contracts.messages import Detection
from pipeline.filters import Part, Sight, Verdict

ALL_BUT_PIXELS: frozenset[Part] = frozenset({"detection", "class", "label", "text", "mask"})


class ObjectRule:
    """Detections of some classes, with some labels. One whose label nobody knows matches every
    rule that goes by labels: it might have any.
    """

    identity = None

    def __init__(
        self, settings: BlockSettings | RedactSettings | BlurSettings, run_min_score: float
    ) -> None:
        self.name = settings.name
        self.by_label = bool(settings.labels)
        self._settings = settings
        self._run_min_score = run_min_score
        self._parts = _parts(settings)

    def judge(self, sights: Sequence[Sight]) -> list[Verdict]:
        """The detections that match, in each frame."""
        return [
            Verdict(self._matching(sight), self._parts, unseen_too="pixels" in self._parts)
            for sight in sights
        ]

    def _matching(self, sight: Sight) -> frozenset[int]:
        labels = {one.detection_index: one.class_name for one in sight.result.classifications}
        return frozenset(
            position
            for position, detection in enumerate(sight.detections)
            if self._is_meant(detection, labels.get(position))
            and detection.score >= self._floor(position, sight)
        )

    def _is_meant(self, detection: Detection, label: str | None) -> bool:
        classes, labels = self._settings.classes, self._settings.labels
        return (not classes or detection.class_name in classes) and (
            not labels or label is None or label in labels
        )

    def _floor(self, position: int, sight: Sight) -> float:
        if self._settings.min_score is not None:
            return self._settings.min_score
        return 0.0 if position < len(sight.result.detections) else self._run_min_score


def _parts(settings: BlockSettings | RedactSettings | BlurSettings) -> frozenset[Part]:
    match settings:
        case BlockSettings():
            return ALL_BUT_PIXELS
        case RedactSettings():
            return frozenset(settings.hide)
        case BlurSettings():
            return frozenset({"pixels", "text"})
