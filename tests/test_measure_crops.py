"""Crops of real objects are named as with the library's own transform of the same pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pycocotools.coco import COCO

from contracts.settings import Settings
from pipeline.crop import CropBox, CropTransform, crop
from pipeline.load import load_classifier
from scripts.evaluate_coco import quietly
from scripts.export_lite0 import export
from scripts.measure_crops import Difference, as_the_library, boxes_of, main, measure
from tests.conftest import SHARED
from tests.frames import noise

COCO_MINI = SHARED / "data" / "coco-mini"
CPU = torch.device("cpu")


def annotated(*annotations: tuple[tuple[float, ...], int]) -> COCO:
    """Boxes (x, y, width, height) of image 1, and whether each is a crowd."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": at, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": crowd}
            for at, (box, crowd) in enumerate(annotations, start=1)
        ],
    }
    quietly(truth.createIndex)
    return truth


def seen_by(classifier: str) -> dict[str, Difference]:
    settings = Settings.model_validate({"sources": ["0"], "classifier": classifier})
    truth = quietly(lambda: COCO(COCO_MINI / "instances_val2017.json"))
    return measure(load_classifier(settings, CPU), COCO_MINI / "val2017", truth)


@pytest.mark.shared
def test_the_bundled_classifier_names_real_objects_as_with_the_librarys_transform() -> None:
    ours = seen_by("bundled:parts")["ours, tensors"]
    assert ours.crops > 300
    assert ours.same_class >= 0.99 * ours.crops
    assert ours.close >= 0.99 * ours.crops


@pytest.mark.shared
def test_so_does_an_imagenet_classifier_from_a_file(tmp_path: Path) -> None:
    export(tmp_path / "lite0.onnx")
    seen = seen_by(f"onnx:{tmp_path / 'lite0.onnx'}")
    ours, theirs = seen["ours, tensors"], seen["tensors, pictures"]
    assert ours.crops > 300
    assert ours.same_class >= 0.99 * ours.crops
    assert ours.close >= 0.99 * ours.crops
    # The library's own two ways are farther apart.
    assert theirs.close < ours.close


def test_objects_large_enough_are_taken_inside_the_picture_and_crowds_are_not() -> None:
    truth = annotated(
        ((10.0, 10.0, 40.0, 40.0), 0),
        ((10.0, 10.0, 31.0, 90.0), 0),
        ((0.0, 0.0, 90.0, 90.0), 1),
        ((60.0, 60.0, 60.0, 60.0), 0),
    )
    image = np.zeros((100, 110, 3), np.uint8)
    assert list(boxes_of(truth, 1, image)) == [(10, 10, 50, 50), (60, 60, 110, 100)]


def test_scores_are_counted_as_close_by_their_largest_difference() -> None:
    first = torch.tensor([[10.0, 0.0], [1.0, 10.0], [0.0, 10.0]])
    second = torch.tensor([[10.1, 0.0], [10.0, 1.0], [0.0, 10.3]])
    difference = Difference()
    difference.note(first, second)
    assert (difference.crops, difference.same_class, difference.close) == (3, 2, 1)
    assert difference.worst == pytest.approx(0.9)


def test_the_librarys_tensors_are_what_the_pipeline_cuts() -> None:
    transform = CropTransform(40, 32, (0.5,) * 3, (0.25,) * 3)
    boxes = [(3.0, 4.0, 80.0, 90.0), (0.0, 0.0, 33.0, 60.0)]
    tensors, pictures = as_the_library(noise(100, 110), boxes, transform)
    ours = crop([noise(100, 110)], [CropBox(0, box) for box in boxes], transform, CPU)
    assert tensors.shape == pictures.shape == ours.shape
    assert (ours - tensors).abs().max() < 1.01 / 255 / 0.25


@pytest.mark.shared
def test_the_command_prints_a_line_for_each_pair_of_ways() -> None:
    folder, annotations = COCO_MINI / "val2017", COCO_MINI / "instances_val2017.json"
    arguments = ["--images", str(folder), "--annotations", str(annotations), "--markdown"]
    ended = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert ended.exit_code == 0
    rows = [line for line in ended.output.splitlines() if line.startswith("| ours")]
    assert len(rows) == 2
