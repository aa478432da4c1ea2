"""`framewire verify`: do the runtimes here agree, on the same frames, and what does each cost?

The reference is the plainest way to compute the model in float32: torch itself for torchvision's,
ONNX Runtime for a file. The bounds are those within which a result means the same: boxes that
overlap by 0.99, scores within 0.01 in float32 and 0.02 below it, the same classes.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torchvision.ops import box_iou

from contracts.errors import BadSetting, FramewireError, InferenceError
from contracts.frame import Frame, still_frame
from contracts.messages import Detection, FrameResult
from contracts.settings import Settings
from pipeline.inference import Pipeline, infer
from pipeline.load import load_pipeline
from stream.reader import Picture
from stream.source import open_reader

MIN_IOU = 0.99
MAX_SCORE_DIFFERENCE = {"float32": 0.01, "bfloat16": 0.02, "float16": 0.02}
MATCH_IOU = 0.5
"""Two boxes of a class that overlap by more are taken for the same object."""


@dataclasses.dataclass
class Agreement:
    """How one way of computing compares with the reference, over all frames."""

    objects: int = 0
    unpaired: int = 0
    """Objects that only one of the two found. One next to `min_score` may fall on either side."""
    worst_iou: float = 1.0
    worst_score: float = 0.0
    labels: int = 0
    other_labels: int = 0

    def within(self, precision: str) -> bool:
        """True when every pair is within the bounds, and no object has another class or label."""
        close = self.worst_iou >= MIN_IOU and self.worst_score <= MAX_SCORE_DIFFERENCE[precision]
        return close and self.unpaired == 0 and self.other_labels == 0


def verify(settings: Settings, n_frames: int, console: Console) -> int:
    """The table is printed; 1 where a way of computing is outside its bounds, else 0."""
    frames = read_frames(settings, n_frames)
    columns: list[list[str]] = []
    reference: list[FrameResult] | None = None
    outside = False
    for way in ways(settings):
        try:
            pipeline = load_pipeline(way)
        except FramewireError as error:
            if reference is None:
                raise
            console.print(f"{way.runtime} {way.precision}: {error}", soft_wrap=True)
            continue
        results = run(pipeline, frames, f"{way.runtime} {way.precision}")
        reference = reference or results
        agreement = compare(reference, results)
        is_within = agreement.within(way.precision)
        outside |= not is_within
        verdict = "agrees" if is_within else "[red]does not agree[/]"
        columns.append([*_column(pipeline, results, agreement), verdict])
    title = f"{len(frames)} frames of {settings.sources[0].uri}"
    console.print(_table(title, columns))
    return 1 if outside else 0


def _table(title: str, columns: Sequence[Sequence[str]]) -> Table:
    """A column for each way of computing, the reference first."""
    table = Table(title=title, title_justify="left")
    table.add_column("computed by")
    for column in columns:
        table.add_column(column[0], justify="right")
    names = (
        "detect (ms)",
        "classify (ms)",
        "objects",
        "unpaired objects",
        "smallest IoU",
        "largest score gap",
        "same labels",
        "",
    )
    for row, name in enumerate(names, start=1):
        table.add_row(name, *(column[row] for column in columns))
    return table


def ways(settings: Settings) -> Iterator[Settings]:
    """The reference first, then what else may compute these models, in float32 and as asked."""
    is_file = settings.detector.startswith("onnx:")
    if settings.classifier != "none" and settings.classifier.startswith("onnx:") != is_file:
        raise BadSetting("verify: detector and classifier must both be ONNX files, or neither")
    runtimes = ("onnxruntime", "openvino") if is_file else ("torch", "openvino")
    yield settings.model_copy(update={"runtime": runtimes[0], "precision": "float32"})
    for precision in dict.fromkeys(("float32", settings.precision)):
        yield settings.model_copy(update={"runtime": runtimes[1], "precision": precision})


def read_frames(settings: Settings, n_frames: int) -> list[Frame]:
    """The first frames of the first source that can be decoded. Raises InferenceError on none."""
    reader = open_reader(settings.sources[0].uri, int(settings.max_frame_megapixels * 1e6))
    try:
        readings = (reading for reading in reader.pictures() if isinstance(reading, Picture))
        frames = [
            still_frame(picture.image_hwc, "verify", f"verify/{index}", index)
            for index, picture in enumerate(itertools.islice(readings, n_frames))
        ]
    finally:
        reader.close()
    if not frames:
        raise BadSetting(f"{settings.sources[0].uri}: has no frame to verify with")
    return frames


def run(pipeline: Pipeline, frames: Sequence[Frame], title: str) -> list[FrameResult]:
    """Frame by frame, after one that warms up. A frame that fails ends it: InferenceError."""
    infer(pipeline, frames[:1])
    results: list[FrameResult] = []
    for frame in track(frames, title, console=Console(stderr=True), transient=True):
        [result] = infer(pipeline, [frame])
        if not isinstance(result, FrameResult):
            raise InferenceError(f"{title}: {result.code}: {result.message}")
        results.append(result)
    return results


def compare(reference: Sequence[FrameResult], results: Sequence[FrameResult]) -> Agreement:
    """Objects are paired class by class where they overlap most."""
    agreement = Agreement()
    for expected, result in zip(reference, results, strict=True):
        pairs = list(_pairs(expected.detections, result.detections))
        found = len(expected.detections) + len(result.detections)
        agreement.objects += len(expected.detections)
        agreement.unpaired += found - 2 * len(pairs)
        names = [
            {item.detection_index: item.class_name for item in each.classifications}
            for each in (expected, result)
        ]
        for first, second, iou in pairs:
            score = abs(expected.detections[first].score - result.detections[second].score)
            agreement.worst_iou = min(agreement.worst_iou, iou)
            agreement.worst_score = max(agreement.worst_score, score)
            agreement.labels += first in names[0]
            agreement.other_labels += names[0].get(first) != names[1].get(second)
    return agreement


def _pairs(
    expected: Sequence[Detection], found: Sequence[Detection]
) -> Iterator[tuple[int, int, float]]:
    """(position, position, IoU) of the detections that mean the same object."""
    if not expected or not found:
        return
    first, second = (torch.tensor([d.box for d in each]) for each in (expected, found))
    overlap = box_iou(first, second).numpy()
    other_class = np.array([[a.class_id != b.class_id for b in found] for a in expected])
    overlap[other_class] = 0.0
    while overlap.max() >= MATCH_IOU:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        yield int(row), int(column), float(overlap[row, column])
        overlap[row, :] = overlap[:, column] = 0.0


def _column(pipeline: Pipeline, results: Sequence[FrameResult], agreement: Agreement) -> list[str]:
    identity = pipeline.detector.identity
    return [
        f"{identity.runtime} {identity.precision}",
        f"{statistics.median(r.stage_ms.detect_ms for r in results):.1f}",
        f"{statistics.median(r.stage_ms.classify_ms for r in results):.1f}",
        str(agreement.objects),
        str(agreement.unpaired),
        f"{agreement.worst_iou:.4f}",
        f"{agreement.worst_score:.4f}",
        f"{agreement.labels - agreement.other_labels}/{agreement.labels}",
    ]
