"""Each way to compute a model here, loaded: the reference first, then every other runtime.

The reference is the plainest way in float32: torch itself for torchvision's models, ONNX Runtime
for a file. Where a runtime is named, it is the only other one; else all are that start in seconds.
"""

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from contracts.boxes import BoxXYXY
from contracts.errors import FramewireError, InferenceError
from contracts.frame import Frame
from contracts.messages import Detection, FrameResult, ModelIdentity
from contracts.settings import Settings
from pipeline.classify import Label
from pipeline.crop import CropBox, crop
from pipeline.device import choose_device
from pipeline.inference import infer
from pipeline.load import load_classifier, load_pipeline
from pipeline.runtime.choose import TAKES, Kind, available

CROPS = 8
"""Of each frame, for a classifier: the best objects, and parts of the frame where they are few."""

MINUTES_TO_START = ("compile", "tensorrt")

Boxes = Mapping[str, Sequence[BoxXYXY]]
"""By image id."""

log = logging.getLogger("framewire.verify")


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to compute one model. `compute` gives its time in milliseconds, and its result."""

    identity: ModelIdentity
    compute: Callable[[Frame], tuple[float, Sequence[Any]]]


def detector_ways(settings: Settings) -> Iterator[Way]:
    """Results are lists of `Detection`. Raises what loading the reference raises."""
    return _each(settings, settings.detector, _detector)


def classifier_ways(settings: Settings, boxes: Boxes) -> Iterator[Way]:
    """Results are lists of `Label`, one a box. Raises what loading the reference raises."""
    return _each(settings, settings.classifier, lambda way: _classifier(way, boxes))


def _each(settings: Settings, model: str, load: Callable[[Settings], Way]) -> Iterator[Way]:
    """In float32 and in the precision asked for."""
    kind: Kind = "onnx" if model.startswith("onnx:") else "torchvision"
    reference = TAKES[kind][0]
    yield load(_with(settings, reference, "float32"))
    named = settings.runtime if settings.runtime != "auto" else None
    runtimes = [named] if named else _ready_soon(kind, choose_device(settings.device))
    precisions = dict.fromkeys(("float32", settings.precision))
    for runtime, precision in itertools.product(runtimes, precisions):
        if (runtime, precision) == (reference, "float32"):
            continue
        try:
            way = load(_with(settings, runtime, precision))
        except FramewireError as error:
            if named:
                raise
            log.warning("%s in %s: %s", runtime, precision, error)
            continue
        # Where something else stepped in, as the log says, it would be that one's line again.
        if (way.identity.runtime, way.identity.precision) == (runtime, precision):
            yield way


def _with(settings: Settings, runtime: str, precision: str) -> Settings:
    return settings.model_copy(update={"runtime": runtime, "precision": precision})


def _ready_soon(kind: Kind, device: torch.device) -> list[str]:
    return [name for name in available(kind, device) if name not in MINUTES_TO_START]


def _detector(settings: Settings) -> Way:
    alone = settings.model_copy(update={"classifier": "none", "filters": ()})
    pipeline = load_pipeline(alone)
    for source in settings.sources:
        # A tracker would take a frame that comes again for a jump in time.
        untracked = dataclasses.replace(pipeline.view_of(source), track=False)
        pipeline.views[source.id] = untracked

    def compute(frame: Frame) -> tuple[float, Sequence[Detection]]:
        [result] = infer(pipeline, [frame])
        if not isinstance(result, FrameResult):
            raise InferenceError(f"{settings.detector}: {result.code}: {result.message}")
        return result.stage_ms.detect_ms, result.detections

    return Way(pipeline.detector.identity, compute)


def _classifier(settings: Settings, boxes: Boxes) -> Way:
    device = choose_device(settings.device)
    classifier = load_classifier(settings, device)

    def compute(frame: Frame) -> tuple[float, Sequence[Label]]:
        cuts = [CropBox(0, box) for box in boxes[frame.image_id]]
        crops = crop([frame.image_hwc], cuts, classifier.transform, device)
        started_s = time.monotonic()
        labels = classifier.classify(crops)
        return 1e3 * (time.monotonic() - started_s), labels

    return Way(classifier.identity, compute)


def boxes_of(
    frames: Sequence[Frame], found: Sequence[Sequence[Detection]], min_crop_px: int
) -> dict[str, list[BoxXYXY]]:
    """`CROPS` boxes for each image id: objects large enough to be classified, then tiles."""
    boxes: dict[str, list[BoxXYXY]] = {}
    for frame, detections in zip(frames, found, strict=True):
        large = [
            (x1, y1, x2, y2)
            for x1, y1, x2, y2 in (detection.box for detection in detections)
            if min(x2 - x1, y2 - y1) >= min_crop_px
        ]
        boxes[frame.image_id] = [*large, *_tiles(frame)][:CROPS]
    return boxes


def _tiles(frame: Frame) -> Iterator[BoxXYXY]:
    """`CROPS` parts of the frame, in two rows."""
    width, height = frame.width / (CROPS // 2), frame.height / 2
    for row, column in itertools.product(range(2), range(CROPS // 2)):
        yield column * width, row * height, (column + 1) * width, (row + 1) * height
