"""How good a detector is on a folder of COCO: `python -m scripts.evaluate_coco --help`.

Everything but the scoring is what a run uses: the images are read as a run reads them, and the
detector is the one that a run loads, with thresholds that leave the ranking whole.
"""

import contextlib
import io
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table

from contracts.errors import FramewireError
from contracts.frame import Frame, still_frame
from pipeline.detect import Detector, RawDetections, Thresholds
from pipeline.detect.onnx import OnnxDetector
from pipeline.runtime import AskedRuntime, Compute, Precision
from pipeline.runtime.choose import TAKES
from stream.images import read_image

MIN_SCORE = 0.001
NMS_IOU = 0.65
MAX_DETECTIONS = 300
MAX_PIXELS = 64_000_000
EXISTING = click.Path(exists=True, path_type=Path)
FIGURES = ("map_50_95", "map_50", "map_75", "map_small", "map_medium", "map_large")
"""The first six of COCO's summary, in its order."""


def load(
    file: Path,
    layout: str = "auto",
    runtime: AskedRuntime = "auto",
    precision: Precision = "float32",
) -> OnnxDetector:
    """The detector, with the thresholds that COCO results are published with."""
    compute = Compute(torch.device("cpu"), runtime, precision)
    thresholds = Thresholds(MIN_SCORE, MAX_DETECTIONS, NMS_IOU)
    return OnnxDetector(file, f"onnx:{file.name}", compute, thresholds, layout)


def evaluate(detector: Detector, images: Path, annotations: Path, batch: int) -> dict[str, float]:
    """COCO's figures in percent, and what a frame took in milliseconds of detecting."""
    truth = quietly(lambda: COCO(annotations))
    categories = {entry["name"]: entry["id"] for entry in truth.dataset["categories"]}
    found: list[dict[str, Any]] = []
    spent_s = 0.0
    for ids in _parts(sorted(truth.imgs), batch):
        frames = [_frame(number, images / truth.imgs[number]["file_name"]) for number in ids]
        started_s = time.monotonic()
        results = detector.detect(frames)
        spent_s += time.monotonic() - started_s
        for number, result in zip(ids, results, strict=True):
            found += _entries(number, result, detector.class_names, categories)
    figures = _figures(truth, found)
    return figures | {"images": len(truth.imgs), "ms_per_frame": 1e3 * spent_s / len(truth.imgs)}


def _parts(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _frame(number: int, path: Path) -> Frame:
    return still_frame(read_image(path, MAX_PIXELS), "coco", path.name, number)


def _entries(
    number: int, result: RawDetections, names: Sequence[str], categories: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """As COCO's result files have them. Classes that the annotations don't know are left out."""
    columns = (result.boxes_xyxy.tolist(), result.scores.tolist(), result.class_ids.tolist())
    for (x1, y1, x2, y2), score, class_id in zip(*columns, strict=True):
        category = categories.get(names[class_id])
        if category is not None:
            box = {"image_id": number, "category_id": category, "score": score}
            yield {**box, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def _figures(truth: COCO, found: list[dict[str, Any]]) -> dict[str, float]:
    if not found:
        return dict.fromkeys(FIGURES, 0.0)

    def score() -> Any:
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats

    percents = [100 * float(value) for value in quietly(score)]
    return dict(zip(FIGURES, percents, strict=False))


def quietly(work: Any) -> Any:
    """pycocotools prints as it goes."""
    with contextlib.redirect_stdout(io.StringIO()):
        return work()


def _print(detector: Detector, figures: dict[str, float]) -> None:
    model = detector.identity
    title = f"{model.name} ({model.runtime}, {model.precision})"
    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)


@click.command()
@click.option("--detector", type=Path, required=True, help="An ONNX file.")
@click.option("--images", type=EXISTING, required=True, help="Folder of the images.")
@click.option("--annotations", type=EXISTING, required=True, help="COCO's instances_….json.")
@click.option("--layout", default="auto", show_default=True, help="Family of the detector.")
@click.option(
    "--runtime", type=click.Choice(["auto", *TAKES["onnx"]]), default="auto", show_default=True
)
@click.option(
    "--precision", type=click.Choice(get_args(Precision)), default="float32", show_default=True
)
@click.option("--batch", default=8, show_default=True, help="Images at a time.")
@click.option("--json", "json_file", type=Path, help="File to write the figures to as well.")
def main(
    detector: Path,
    images: Path,
    annotations: Path,
    layout: str,
    runtime: AskedRuntime,
    precision: Precision,
    batch: int,
    json_file: Path | None,
) -> None:
    """Measure a detector's average precision on a folder of images with COCO annotations."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        loaded = load(detector, layout, runtime, precision)
        figures = evaluate(loaded, images, annotations, batch)
    except FramewireError as error:
        raise click.ClickException(f"{error.code}: {error}") from error
    _print(loaded, figures)
    if json_file:
        report = json.dumps(loaded.identity.model_dump() | figures, indent=2)
        json_file.write_text(report + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
