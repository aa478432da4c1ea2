"""Measures the bundled models on scenes never trained on: `python -m scripts.conveyor.evaluate`.

Frames go through the pipeline's own detector, crops and classifier. Boxes are measured with COCO's
average precision, where a part marked `ignore` is a crowd region, so that finding it or missing it
counts for nothing. Finishes are measured twice: on crops of the true boxes, and on crops of the
boxes found. The figures are written back into the files' metadata.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torchvision.ops import box_iou

from contracts.boxes import BoxXYXY
from contracts.frame import Frame, still_frame
from pipeline.catalog import find_model
from pipeline.classify import Classifier
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.crop import CropBox, crop
from pipeline.detect import Detector, Thresholds
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.runtime import Compute
from scripts.conveyor.checkpoints import CLASSIFIER_FILE, DETECTOR_FILE, write_back
from scripts.conveyor.examples import DETECTOR_CATEGORIES
from scripts.conveyor.scene import PartTruth
from scripts.conveyor.staging import HELD_OUT_SEEDS, random_still

SCORE_THRESHOLD = 0.5
MATCH_IOU = 0.5


@dataclass(slots=True)
class Tally:
    """What is counted over all stills; a part marked `ignore` is in none of the counts."""

    parts: int = 0
    found: int = 0
    reported: int = 0
    named_on_truth: int = 0
    named_on_found: int = 0
    coco_images: list[dict[str, Any]] = field(default_factory=list)
    coco_truths: list[dict[str, Any]] = field(default_factory=list)
    coco_found: list[dict[str, Any]] = field(default_factory=list)


def load_models(folder: Path) -> tuple[Detector, Classifier]:
    """The two files of the folder, as a run of the pipeline loads them."""
    compute = Compute(torch.device("cpu"))
    detector = find_model("detector", "bundled:parts", folder / DETECTOR_FILE)
    classifier = find_model("classifier", "bundled:parts", folder / CLASSIFIER_FILE)
    return (
        TorchvisionDetector(detector, compute, Thresholds(min_score=0.0)),
        TorchvisionClassifier(classifier, compute),
    )


def as_frame(image_hwc: NDArray[np.uint8], frame_index: int) -> Frame:
    """A still as the pipeline gets its frames."""
    return still_frame(
        np.ascontiguousarray(image_hwc), "stills", f"stills/{frame_index}", frame_index
    )


def measure(detector: Detector, classifier: Classifier, seeds: Iterable[int]) -> dict[str, Any]:
    """All figures over the stills of the given seeds."""
    tally = Tally()
    for seed in seeds:
        image_hwc, truths = random_still(seed)
        [(boxes, scores, labels, _)] = detector.detect([as_frame(image_hwc, seed)])
        _note_for_coco(tally, seed, truths, boxes, scores, labels)
        sure = scores >= SCORE_THRESHOLD
        _count(tally, classifier, image_hwc, truths, boxes[sure], labels[sure])
    return {**_average_precision(tally), **_rates(tally)}


def _note_for_coco(
    tally: Tally,
    seed: int,
    truths: Sequence[PartTruth],
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
) -> None:
    tally.coco_images.append({"id": seed})
    for truth in truths:
        x1, y1, x2, y2 = truth.box_xyxy
        entry = {
            "id": len(tally.coco_truths) + 1,
            "image_id": seed,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
        }
        entry["category_id"] = DETECTOR_CATEGORIES.index(truth.type)
        entry |= {"area": (x2 - x1) * (y2 - y1), "iscrowd": int(truth.ignore)}
        tally.coco_truths.append(entry)
    for (x1, y1, x2, y2), score, label in zip(
        boxes.tolist(), scores.tolist(), labels.tolist(), strict=True
    ):
        box = {"image_id": seed, "category_id": label, "score": score}
        tally.coco_found.append({**box, "bbox": [x1, y1, x2 - x1, y2 - y1]})


def _count(
    tally: Tally,
    classifier: Classifier,
    image_hwc: NDArray[np.uint8],
    truths: Sequence[PartTruth],
    boxes: Tensor,
    labels: Tensor,
) -> None:
    """Counts parts found with the right type, and parts whose finish is named rightly."""
    known = [t for t in truths if not t.ignore]
    pairs, spare = match(truths, boxes, labels)
    tally.parts += len(known)
    tally.found += len(pairs)
    tally.reported += len(boxes) - spare
    named = _named(classifier, image_hwc, [t.box_xyxy for t in known])
    tally.named_on_truth += sum(t.finish == name for t, name in zip(known, named, strict=True))
    named = _named(classifier, image_hwc, [tuple(boxes[at].tolist()) for at, _ in pairs])
    tally.named_on_found += sum(t.finish == n for (_, t), n in zip(pairs, named, strict=True))


def match(
    truths: Sequence[PartTruth], boxes: Tensor, labels: Tensor
) -> tuple[list[tuple[int, PartTruth]], int]:
    """Pairs of a found box, best first, and the part of its type it overlaps most.

    Also how many of the other boxes lie on ignored parts, and so are no false alarms.
    """
    pairs: list[tuple[int, PartTruth]] = []
    spare, taken = 0, set[int]()
    overlap = box_iou(boxes, torch.tensor([t.box_xyxy for t in truths]).reshape(-1, 4))
    for at, label in enumerate(labels.tolist()):
        kind = DETECTOR_CATEGORIES[label]
        candidates = [
            (float(overlap[at, i]), i)
            for i, truth in enumerate(truths)
            if truth.type == kind and i not in taken and overlap[at, i] >= MATCH_IOU
        ]
        if not candidates:
            continue
        best = max(candidates)[1]
        taken.add(best)
        if truths[best].ignore:
            spare += 1
        else:
            pairs.append((at, truths[best]))
    return pairs, spare


def _named(
    classifier: Classifier, image_hwc: NDArray[np.uint8], boxes: Sequence[BoxXYXY]
) -> list[str]:
    cuts = [CropBox(0, box) for box in boxes]
    crops = crop([image_hwc], cuts, classifier.transform, torch.device("cpu"))
    return [classifier.class_names[label.class_id] for label in classifier.classify(crops)]


def _average_precision(tally: Tally) -> dict[str, Any]:
    """COCO's mean average precision at IoU 0.5 and over 0.5 to 0.95, and each class's at both."""
    categories = [{"id": i, "name": n} for i, n in enumerate(DETECTOR_CATEGORIES) if i]
    truth = COCO()
    truth.dataset = {
        "images": tally.coco_images,
        "annotations": tally.coco_truths,
        "categories": categories,
    }
    # pycocotools prints as it goes.
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(tally.coco_found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU thresholds, recall levels, classes), for boxes of all sizes and 100 boxes a frame.
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    per_class = {
        category["name"]: {
            "ap_50": _rounded(precision[0, :, i].mean()),
            "ap_50_95": _rounded(precision[:, :, i].mean()),
        }
        for i, category in enumerate(categories)
    }
    return {
        "map_50": _rounded(precision[0].mean()),
        "map_50_95": _rounded(precision.mean()),
        "per_class": per_class,
    }


def _rates(tally: Tally) -> dict[str, Any]:
    return {
        "stills": len(tally.coco_images),
        "parts": tally.parts,
        "score_threshold": SCORE_THRESHOLD,
        "recall": _rounded(tally.found / max(tally.parts, 1)),
        "precision": _rounded(tally.found / max(tally.reported, 1)),
        "finish_accuracy_on_true_boxes": _rounded(tally.named_on_truth / max(tally.parts, 1)),
        "finish_accuracy_on_found_boxes": _rounded(tally.named_on_found / max(tally.found, 1)),
    }


def _rounded(value: float) -> float:
    return round(float(value), 4)


def _print(figures: dict[str, Any]) -> None:
    table = Table(
        "figure", "value", title=f"{figures['stills']} held-out stills", title_justify="left"
    )
    for name, value in figures.items():
        if name != "per_class":
            table.add_row(name, str(value))
    for name, values in figures["per_class"].items():
        table.add_row(f"{name}: AP@0.5, AP@[.5:.95]", f"{values['ap_50']}, {values['ap_50_95']}")
    Console().print(table)


@click.command()
@click.option("--weights", type=Path, default=Path("pipeline/weights"), help="Folder of the files.")
@click.option("--stills", default=400, show_default=True, help="Held-out scenes to measure on.")
@click.option("--report", type=Path, help="JSON file for the figures.")
def main(weights: Path, stills: int, report: Path | None) -> None:
    """Measure the default models on held-out scenes and note the figures in their files."""
    figures = measure(*load_models(weights), track(HELD_OUT_SEEDS[:stills], "measuring"))
    _print(figures)
    for name in (DETECTOR_FILE, CLASSIFIER_FILE):
        write_back(weights / name, figures)
    if report:
        report.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
