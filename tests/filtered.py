"""A street of three objects, models that know it, and filters over it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pydantic import TypeAdapter

from contracts.boxes import BoxXYXY
from contracts.filters import FilterSettings, WholeImageSettings
from contracts.frame import Frame
from contracts.messages import FrameResult, MaskRle, parse_message
from pipeline.detect import RawDetections
from pipeline.filters import Filter
from pipeline.filters.objects import ObjectRule
from pipeline.filters.pixelate import CELLS
from pipeline.filters.sift import Answer
from pipeline.filters.whole_image import WholeImage
from pipeline.inference import Pipeline
from pipeline.look import look
from pipeline.text.read import TextHead
from pipeline.view import View
from tests.frames import BrightnessClassifier, FixedDetector, frame
from tests.test_text import SpotReader

CPU = torch.device("cpu")
PERSON: BoxXYXY = (10.0, 20.0, 110.0, 80.0)
CAR: BoxXYXY = (200.0, 30.0, 300.0, 90.0)
PLATE: BoxXYXY = (230.0, 60.0, 270.0, 80.0)
NAMES = ("background", "person", "car", "plate")
Found = tuple[BoxXYXY, int, float]
STREET: tuple[Found, ...] = ((PERSON, 1, 0.9), (CAR, 2, 0.8), (PLATE, 3, 0.7))
"""The person is bright, the car is dark, and the plate too low for the classifier."""


class StreetDetector(FixedDetector):
    """Finds these in every frame."""

    class_names = NAMES

    def __init__(self, *found: Found, masks: bool = False) -> None:
        super().__init__()
        self.found = found
        self.masks = masks

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """Surest first."""
        self.batches.append([one.frame_index for one in frames])
        found = sorted(self.found, key=lambda one: -one[2])
        boxes, ids, scores = zip(*found, strict=True) if found else ((), (), ())
        return [
            RawDetections(
                torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                torch.tensor(scores),
                torch.tensor(ids, dtype=torch.int64),
                [mask_of(one) for _ in boxes] if self.masks else None,
            )
            for one in frames
        ]


def mask_of(one: Frame) -> MaskRle:
    """Of all pixels."""
    whole = coco_mask.encode(np.ones((one.height, one.width), np.uint8, order="F"))
    return MaskRle(size=(one.height, one.width), counts=whole["counts"].decode("ascii"))


def street() -> NDArray[np.uint8]:
    """Noise, brighter where the person is; a white spot on person and plate, which is a text."""
    image = np.random.default_rng(0).integers(0, 100, (200, 400, 3), dtype=np.uint8)
    image[20:80, 10:110] += 140
    image[40:48, 30:50] = 255
    image[66:72, 240:260] = 255
    return image


def rule(kind: str, **given: Any) -> Filter:
    """A filter as the settings name it; a whole image is judged by its brightness."""
    adapter: TypeAdapter[FilterSettings] = TypeAdapter(FilterSettings)
    settings = adapter.validate_python({"kind": kind, **given})
    if isinstance(settings, WholeImageSettings):
        return WholeImage(settings, BrightnessClassifier(), CPU)
    return ObjectRule(settings, run_min_score=0.5)


def blocks_bright(action: str = "block", **given: Any) -> Filter:
    """Of bright pictures nothing leaves."""
    settings = {"classifier": "onnx:none", "classes": ["bright"], "action": action, **given}
    return rule("whole_image", name="nsfw", **settings)


def with_filters(
    *filters: Filter, found: Sequence[Found] = STREET, masks: bool = False, **changes: Any
) -> Pipeline:
    """Detects, classifies and filters."""
    detector = StreetDetector(*found, masks=masks)
    return Pipeline(detector, BrightnessClassifier(), CPU, 0.5, filters=filters, **changes)


def reading(*classes: str) -> TextHead:
    """Reads the bright spots on these; without classes in the whole frame."""
    return TextHead(SpotReader(), frozenset(classes))


def answer_to(
    pipeline: Pipeline, image: NDArray[np.uint8] | None = None, view: View | None = None
) -> Answer:
    """To one frame, which is a single picture's where a view is given."""
    one = frame(0, image_hwc=street() if image is None else image)
    [answer] = look(pipeline, [one], wishes={one: view} if view else {})
    return answer


def result_to(pipeline: Pipeline, view: View | None = None) -> FrameResult:
    """The result, which the contract takes."""
    message = answer_to(pipeline, view=view).message
    assert isinstance(message, FrameResult), message
    assert parse_message(message.model_dump_json()) == message
    return message


def pixels_of(answer: Answer) -> NDArray[np.uint8]:
    """Of the picture that leaves."""
    assert answer.frame is not None
    return answer.frame.image_hwc


def is_blurred(shown: NDArray[np.uint8], box: BoxXYXY) -> bool:
    """Where there was noise there are a few colours."""
    x1, y1, x2, y2 = map(int, box)
    return len(np.unique(shown[y1:y2, x1:x2].reshape(-1, 3), axis=0)) <= CELLS**2


def classes_of(result: FrameResult) -> list[str]:
    """Of its detections."""
    return [one.class_name for one in result.detections]


def labels_of(result: FrameResult) -> dict[str, str]:
    """Class to label; each is there once."""
    names = classes_of(result)
    return {names[one.detection_index]: one.class_name for one in result.classifications}
