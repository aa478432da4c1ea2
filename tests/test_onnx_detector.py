"""Each family's outputs become the boxes that they mean; what can't be understood is refused."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contracts.errors import (
    BadSetting,
    ContractViolation,
    UnsupportedModel,
)
from contracts.frame import Frame
from pipeline.admit import admit
from pipeline.detect import Thresholds
from pipeline.detect.onnx import OnnxDetector
from pipeline.runtime import AskedRuntime
from scripts.evaluate_coco import evaluate, load
from stream.file import FileReader
from stream.reader import Picture
from tests.computing import by
from tests.conftest import SHARED
from tests.frames import frame, noise
from tests.onnx_models import (
    CELLS,
    FAMILIES,
    INPUT_HW,
    Truth,
    constant,
    convolution,
    nms_free,
    rtdetr,
    with_sizes,
    yolov5,
    yolov8,
    yolox,
)

YOLOX_NANO = SHARED / "models" / "yolox_nano.onnx"
NAMES = {"names": "{0: 'cat', 1: 'dog', 2: \"bird's nest\"}"}
FRAME_HW = (32, 64)
"""Half as wide as the input, and lower: the scale is 2, and 16 rows are spare on either side."""

# The best is last, so that the order of the results is the detector's doing.
TRUTHS: tuple[Truth, ...] = (
    ((64.0, 50.0, 90.0, 60.0), 0.6, 2),
    ((10.0, 20.0, 50.0, 60.0), 0.9, 1),
)


def detector(
    file: Path,
    min_score: float = 0.5,
    max_detections: int = 100,
    nms_iou: float | None = None,
    layout: str = "auto",
    runtime: AskedRuntime = "auto",
) -> OnnxDetector:
    thresholds = Thresholds(min_score, max_detections, nms_iou)
    return OnnxDetector(file, "onnx:test", by(runtime), thresholds, layout)


def on_frame(layout: str, box: tuple[float, float, float, float]) -> list[float]:
    """By hand: what the box on the input is on a frame of FRAME_HW."""
    top = 16 if layout in ("yolov5", "yolov8", "nms_free") else 0
    across, down = (2.0, 3.0) if "detr" in layout else (2.0, 2.0)
    x1, y1, x2, y2 = box
    return [x1 / across, (y1 - top) / down, x2 / across, (y2 - top) / down]


def found_by(model: OnnxDetector, *frames: Frame) -> list[list[tuple[float, int]]]:
    """(score, class id) of each detection."""
    return [
        [
            (round(score, 4), class_id)
            for score, class_id in zip(
                result.scores.tolist(), result.class_ids.tolist(), strict=True
            )
        ]
        for result in model.detect(frames)
    ]


@pytest.mark.parametrize("layout", FAMILIES)
def test_each_family_is_recognised_and_gives_the_known_boxes(layout: str, tmp_path: Path) -> None:
    file = constant(tmp_path / "model.onnx", FAMILIES[layout](TRUTHS), NAMES)
    model = detector(file)
    assert model.family.layout == layout
    assert model.class_names == ("cat", "dog", "bird's nest")
    here = frame(size=FRAME_HW)
    [result] = model.detect([here])
    expected = [on_frame(layout, box) for box, _, _ in reversed(TRUTHS)]
    torch.testing.assert_close(result.boxes_xyxy, torch.tensor(expected), atol=1e-3, rtol=0)
    torch.testing.assert_close(result.scores, torch.tensor([0.9, 0.6]), atol=1e-5, rtol=0)
    assert result.class_ids.tolist() == [1, 2]
    names = [detection.class_name for detection in admit(here, result, model)]
    assert names == ["dog", "bird's nest"]


@pytest.mark.parametrize("layout", FAMILIES)
def test_score_overlap_and_number_are_limited_for_every_family_alike(
    layout: str, tmp_path: Path
) -> None:
    truths: tuple[Truth, ...] = (
        ((10, 20, 50, 60), 0.9, 1),
        ((11, 21, 51, 61), 0.8, 1),
        ((10, 20, 50, 60), 0.7, 0),
        ((70, 40, 90, 60), 0.3, 2),
    )
    file = constant(tmp_path / "model.onnx", FAMILIES[layout](truths), NAMES)
    here = frame(size=FRAME_HW)
    assert found_by(detector(file, 0.25, nms_iou=0.5), here) == [[(0.9, 1), (0.7, 0), (0.3, 2)]]
    assert found_by(detector(file, 0.25, nms_iou=1.0), here) == [
        [(0.9, 1), (0.8, 1), (0.7, 0), (0.3, 2)]
    ]
    assert found_by(detector(file, 0.5, nms_iou=0.5), here) == [[(0.9, 1), (0.7, 0)]]
    assert found_by(detector(file, 0.25, 2, nms_iou=0.5), here) == [[(0.9, 1), (0.7, 0)]]
    assert found_by(detector(file, 0.95, nms_iou=0.5), here) == [[]]


@pytest.mark.parametrize(("layout", "count"), [("yolox", 1), ("nms_free", 2), ("rfdetr", 2)])
def test_where_no_overlap_is_stated_the_familys_own_habit_holds(
    layout: str, count: int, tmp_path: Path
) -> None:
    truths: tuple[Truth, ...] = (((10, 20, 50, 60), 0.9, 1), ((11, 21, 51, 61), 0.8, 1))
    file = constant(tmp_path / "model.onnx", FAMILIES[layout](truths), NAMES)
    [found] = found_by(detector(file), frame(size=FRAME_HW))
    assert len(found) == count


def test_a_query_of_the_detr_family_may_be_two_detections(tmp_path: Path) -> None:
    outputs = rtdetr((((10, 20, 50, 60), 0.9, 1),))
    outputs["logits"][0, 0, 2] = 1.0
    file = constant(tmp_path / "model.onnx", outputs, NAMES)
    assert found_by(detector(file), frame(size=FRAME_HW)) == [[(0.9, 1), (0.7311, 2)]]


def test_a_yolox_file_with_boxes_in_pixels_is_told_by_its_values(tmp_path: Path) -> None:
    rows = yolox(())["output"]
    for cell in range(CELLS):
        rows[0, cell, :4] = 8.0 * (cell % 16) + 4, 8.0 * (cell // 16) + 4, 20, 20
    rows[0, 20, 4:6] = 1
    [result] = detector(constant(tmp_path / "model.onnx", {"output": rows}, NAMES)).detect(
        [frame(size=FRAME_HW)]
    )
    assert result.boxes_xyxy.tolist() == [[13, 1, 23, 11]]


def test_rtdetrs_own_export_is_told_the_size_of_its_input(tmp_path: Path) -> None:
    boxes = np.array([[[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.5, 0.5]]], np.float32)
    scores = np.array([[0.9, 0.8]], np.float32)
    model = detector(with_sizes(tmp_path / "model.onnx", boxes, scores))
    small, large = model.detect([frame(size=FRAME_HW), frame(size=(200, 100))])
    assert small.boxes_xyxy.tolist() == [[16, 16, 48, 32], [0, 0, 32, 16]]
    assert large.boxes_xyxy.tolist() == [[25, 100, 75, 200], [0, 0, 50, 100]]


def test_a_head_of_one_class_is_not_taken_for_finished_rows(tmp_path: Path) -> None:
    one = {"names": "['thing']"}
    truths: tuple[Truth, ...] = (((10, 20, 50, 60), 0.9, 0),)
    for layout, family in (("yolox", yolox), ("yolov5", yolov5), ("yolov8", yolov8)):
        model = detector(constant(tmp_path / f"{layout}.onnx", family(truths, 1), one))
        assert model.family.layout == layout


def test_a_stated_layout_wins_over_the_looks(tmp_path: Path) -> None:
    file = constant(tmp_path / "model.onnx", rtdetr(TRUTHS), NAMES)
    assert detector(file).family.layout == "rtdetr"
    assert detector(file, layout="rfdetr").family.layout == "rfdetr"
    with pytest.raises(UnsupportedModel, match=r"not of layout yolox: .*logits \(1, 30, 3\)"):
        detector(file, layout="yolox")
    with pytest.raises(BadSetting, match="expected auto, yolox, yolov5"):
        detector(file, layout="yolo")


def test_an_unknown_layout_is_refused_with_what_was_seen(tmp_path: Path) -> None:
    file = constant(tmp_path / "model.onnx", {"heat": np.zeros((1, 5, 7), np.float32)}, NAMES)
    with pytest.raises(UnsupportedModel, match=r"input 96×128, outputs heat \(1, 5, 7\)"):
        detector(file)


def test_a_model_for_another_task_is_refused(tmp_path: Path) -> None:
    metadata = NAMES | {"task": "pose"}
    with pytest.raises(UnsupportedModel, match="task 'pose'"):
        detector(constant(tmp_path / "model.onnx", yolov8(TRUTHS), metadata))


@pytest.mark.parametrize("layout", FAMILIES)
def test_nan_is_a_broken_contract_and_not_an_empty_frame(layout: str, tmp_path: Path) -> None:
    outputs = FAMILIES[layout](TRUTHS)
    model = detector(constant(tmp_path / "model.onnx", outputs, NAMES, nan_when_plain=True))
    plain, mixed = frame(0, size=INPUT_HW), frame(1, image_hwc=noise(*INPUT_HW))
    broken, whole = model.detect([plain, mixed])
    assert len(admit(mixed, whole, model)) == 2
    with pytest.raises(ContractViolation, match="onnx:test"):
        admit(plain, broken, model)


def test_a_thin_box_is_left_out_and_a_box_turned_over_is_refused(tmp_path: Path) -> None:
    thin: tuple[Truth, ...] = (((10, 20, 10, 60), 0.9, 1), ((70, 40, 90, 60), 0.8, 2))
    model = detector(constant(tmp_path / "thin.onnx", nms_free(thin), NAMES))
    assert found_by(model, frame(size=FRAME_HW)) == [[(0.8, 2)]]
    turned: tuple[Truth, ...] = (((50, 20, 10, 60), 0.9, 1),)
    model = detector(constant(tmp_path / "turned.onnx", nms_free(turned), NAMES))
    here = frame(size=FRAME_HW)
    [result] = model.detect([here])
    with pytest.raises(ContractViolation, match="not ordered"):
        admit(here, result, model)


@pytest.mark.parametrize("sides", [("batch", 3, "h", "w"), ("batch", 3, -1, -1)])
def test_an_open_input_size_is_taken_from_the_metadata(sides: Any, tmp_path: Path) -> None:
    metadata = NAMES | {"imgsz": "[96, 128]"}
    model = detector(constant(tmp_path / "model.onnx", yolov8(TRUTHS), metadata, sides))
    assert found_by(model, frame(size=FRAME_HW)) == [[(0.9, 1), (0.6, 2)]]


def test_an_open_input_size_without_metadata_is_640(tmp_path: Path) -> None:
    outputs = {"output0": np.zeros((1, 7, 8400), np.float32)}
    file = constant(tmp_path / "model.onnx", outputs, NAMES, ("batch", 3, "h", "w"))
    assert detector(file).family.layout == "yolov8"


def test_a_batch_of_five_gives_what_five_frames_give(tmp_path: Path) -> None:
    model = detector(convolution(tmp_path / "model.onnx"), 0.0, 20, layout="yolox")
    frames = [frame(i, image_hwc=noise(40 + 30 * i, 170 - 20 * i, i)) for i in range(5)]
    together = model.detect(frames)
    for one, here in zip(together, frames, strict=True):
        [alone] = model.detect([here])
        for ours, theirs in zip(one, alone, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
    assert len({len(result.scores) for result in together}) >= 1
    assert not torch.equal(together[0].scores, together[1].scores)


@pytest.mark.shared
def test_yolox_nano_finds_the_walkers_and_the_same_in_batches() -> None:
    pictures = [p for p in walkers(5) if isinstance(p, Picture)]
    frames = [frame(i, image_hwc=p.image_hwc) for i, p in enumerate(pictures)]
    model = OnnxDetector(YOLOX_NANO, "onnx:yolox_nano.onnx", by("auto"), Thresholds(0.4))
    for here, together in zip(frames, model.detect(frames), strict=True):
        [alone] = model.detect([here])
        torch.testing.assert_close(together.boxes_xyxy, alone.boxes_xyxy, atol=0.05, rtol=0)
        torch.testing.assert_close(together.scores, alone.scores, atol=1e-3, rtol=0)
        assert torch.equal(together.class_ids, alone.class_ids)
        names = [detection.class_name for detection in admit(here, together, model)]
        assert names.count("person") >= 3


def walkers(count: int) -> list[object]:
    """Readings of the street clip, forty frames apart."""
    reader = FileReader(SHARED / "data" / "clips" / "vtest.avi", 10**7)
    readings = list(itertools.islice(reader.pictures(), 0, 40 * count, 40))
    reader.close()
    return list(readings)


@pytest.mark.shared
def test_yolox_nano_is_as_good_as_an_independent_evaluation_says() -> None:
    coco = SHARED / "data" / "coco-mini"
    figures = evaluate(load(YOLOX_NANO), coco / "val2017", coco / "instances_val2017.json", 8)
    assert figures["map_50_95"] == pytest.approx(31.3, abs=0.2)
    assert figures["map_50"] == pytest.approx(49.8, abs=0.2)
