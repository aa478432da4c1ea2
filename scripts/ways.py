"""Each way to compute a model here, loaded: the reference first, then every other runtime.

The reference is the plainest way in float32: torch itself for torchvision's models, ONNX Runtime
for a file.
"""

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from contracts.boxes import BoxXYXY
from contracts.errors import BadSetting, FramewireError, InferenceError
from contracts.frame import Frame
from contracts.messages import Detection, FrameResult, ModelIdentity
from contracts.settings import Settings
from pipeline.classify import Label
from pipeline.crop import CropBox, crop
from pipeline.device import choose_device
from pipeline.inference import infer
from pipeline.load import load_classifier, load_pipeline

CROPS = 8
"""Of each frame, for a classifier: the best objects, and parts of the frame where they are few."""

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
    """In float32 and in the precision asked for; what can't be had here is said or left out."""
    field = Settings.model_fields["runtime"].annotation
    reference = "onnxruntime" if model.startswith("onnx:") else "torch"
    others = [name for name in get_args(field) if name not in ("auto", reference)]
    yield load(settings.model_copy(update={"runtime": reference, "precision": "float32"}))
    precisions = dict.fromkeys(("float32", settings.precision))
    for runtime, precision in itertools.product([reference, *others], precisions):
        if (runtime, precision) == (reference, "float32"):
            continue
        try:
            way = load(settings.model_copy(update={"runtime": runtime, "precision": precision}))
        except BadSetting as error:
            # These two don't go together at all, as torch and a file.
            log.info("%s in %s: %s", runtime, precision, error)
            continue
        except FramewireError as error:
            log.warning("%s in %s: %s", runtime, precision, error)
            continue
        # Where the device has no such precision, it would be another one's row again.
        if way.identity.precision == precision:
            yield way


def _detector(settings: Settings) -> Way:
    alone = settings.model_copy(update={"classifier": "none"})
    pipeline = dataclasses.replace(load_pipeline(alone), tracks=None)

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
