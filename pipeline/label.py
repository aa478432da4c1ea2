"""Labels for a batch: which detections are classified, and which carry a label along."""

import dataclasses
from collections.abc import Iterator, Sequence

import torch

from contracts.errors import InferenceError
from contracts.frame import Frame
from contracts.messages import Detection, FrameFailure
from pipeline.budget import Budget
from pipeline.carry import Carried, CarriedLabel
from pipeline.classify import Classifier, Label
from pipeline.contain import Crops, InferenceHealth, contain
from pipeline.crop import CropBox, crop
from pipeline.stopwatch import Stopwatch


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidate:
    """A detection that is large enough to be classified."""

    position: int
    """Of its frame in the batch."""
    index: int
    """Among its frame's detections."""
    detection: Detection


def label_batch(
    frames: Sequence[Frame],
    found: Sequence[list[Detection] | FrameFailure],
    classifier: Classifier,
    carried: Carried[Label],
    device: torch.device,
    min_crop_px: int,
    budget: Budget,
    watch: Stopwatch,
    health: InferenceHealth,
) -> list[dict[int, CarriedLabel[Label]]]:
    """For each frame the labels by detection index; detections too small to crop have none.

    Crops of all frames are made and classified together. A label that could not be made is an
    error; one that there was no time for stays None. Either is due again in the next batch.
    """
    labels: list[dict[int, CarriedLabel[Label]]] = [{} for _ in frames]
    due: list[tuple[_Candidate, CarriedLabel[Label]]] = []
    carried.begin_batch(frames)
    for candidate in _large_enough(found, min_crop_px):
        label, is_due = carried.label_for(frames[candidate.position], candidate.detection)
        labels[candidate.position][candidate.index] = label
        due += [(candidate, label)] if is_due else []
    # Each frame's surest objects first: where time is short, those are labelled.
    due.sort(key=lambda one: one[0].index)
    images = [frame.image_hwc for frame in frames]

    def read(part: Sequence[tuple[_Candidate, CarriedLabel[Label]]]) -> Sequence[Label | None]:
        # What is tried again may find that its time is over.
        if budget.is_over:
            return [None] * len(part)
        boxes = [CropBox(candidate.position, candidate.detection.box) for candidate, _ in part]
        with budget.time(len(part)):
            with watch.stage("crop"):
                crops = crop(images, boxes, classifier.transform, device)
            with watch.stage("classify"):
                return classifier.classify(crops)

    budget.begin()
    start = 0
    while start < len(due) and (size := budget.next_part()):
        part = due[start : start + size]
        for (_, label), said in zip(part, contain(read, part, health), strict=True):
            label.label = said
        start += size
    health.saw_crops(_outcome([label for _, label in due]))
    return labels


def _outcome(labels: Sequence[CarriedLabel[Label]]) -> Crops:
    errors = [one.label for one in labels if isinstance(one.label, InferenceError)]
    made = sum(one.is_made for one in labels)
    late = len(labels) - made - len(errors)
    return Crops(made, len(errors), late, errors[-1] if errors else None)


def _large_enough(
    found: Sequence[list[Detection] | FrameFailure], min_crop_px: int
) -> Iterator[_Candidate]:
    for position, detections in enumerate(found):
        if isinstance(detections, FrameFailure):
            continue
        for index, detection in enumerate(detections):
            if is_large_enough(detection, min_crop_px):
                yield _Candidate(position, index, detection)


def is_large_enough(detection: Detection, min_crop_px: int) -> bool:
    """True where both sides of its box are so many pixels or more."""
    x1, y1, x2, y2 = detection.box
    return min(x2 - x1, y2 - y1) >= min_crop_px
