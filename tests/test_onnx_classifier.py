"""An ONNX classifier's crops, scores and names are what its file says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from contracts.errors import ContractViolation, UnsupportedModel, WeightsMismatch
from pipeline.classify.onnx import IMAGENET_MEAN, IMAGENET_STD, OnnxClassifier
from pipeline.crop import CropTransform
from pipeline.inference import Pipeline, infer
from pipeline.runtime import AskedRuntime
from tests.computing import CPU, by
from tests.frames import FixedDetector, frame
from tests.onnx_models import Sides, constant, save

NAMES = {"names": "{0: 'dull', 1: 'red', 2: 'blue'}"}
SQUARE: Sides = (1, 3, 32, 32)


def by_colour(
    path: Path, metadata: dict[str, str], softmax: bool = False, sides: Sides = SQUARE
) -> Path:
    """Scores: 0, and the means of the crop's red and blue channels, times ten."""
    last = "logits" if softmax else "output"
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "matrix"], [last]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["output"], axis=1))
    matrix = np.array([[0, 10, 0], [0, 0, 0], [0, 0, 10]], np.float32)
    return save(path, nodes, {"output": (1, 3)}, {"matrix": matrix}, sides, metadata)


def classifier(file: Path, runtime: AskedRuntime = "auto") -> OnnxClassifier:
    return OnnxClassifier(file, "onnx:test", by(runtime))


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("softmax", [False, True])
def test_scores_are_probabilities_whether_the_graph_ends_in_softmax_or_not(
    softmax: bool, runtime: AskedRuntime, tmp_path: Path
) -> None:
    model = classifier(by_colour(tmp_path / "m.onnx", NAMES, softmax), runtime=runtime)
    crops = torch.zeros(3, 3, 32, 32)
    crops[0, 0], crops[1, 2], crops[2] = 0.2, 0.3, -1.0
    red, blue, dull = model.classify(crops)
    assert [model.class_names[label.class_id] for label in (red, blue, dull)] == [
        "red",
        "blue",
        "dull",
    ]
    assert red.score == pytest.approx(np.exp(2) / (np.exp(2) + 2), abs=1e-5)
    assert blue.score == pytest.approx(np.exp(3) / (np.exp(3) + 2), abs=1e-5)


def test_crops_are_made_as_for_imagenet_unless_the_metadata_says_otherwise(tmp_path: Path) -> None:
    assert classifier(by_colour(tmp_path / "a.onnx", NAMES)).transform == CropTransform(
        37, 32, IMAGENET_MEAN, IMAGENET_STD
    )
    stated = NAMES | {"mean": "[0.5, 0.5, 0.5]", "std": "(0.25, 0.25, 0.25)"}
    assert classifier(by_colour(tmp_path / "b.onnx", stated)).transform == CropTransform(
        37, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    )
    yolo = classifier(by_colour(tmp_path / "c.onnx", NAMES | {"task": "classify"}))
    assert yolo.transform == CropTransform(32, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    whole = '{"resize_size": 40, "crop_size": 32, "mean": [0, 0, 0], "std": [1, 1, 1]}'
    ours = classifier(by_colour(tmp_path / "d.onnx", NAMES | {"transform": whole}))
    assert (ours.transform.resize_size, ours.transform.crop_size) == (40, 32)


def test_an_open_crop_size_is_224(tmp_path: Path) -> None:
    file = by_colour(tmp_path / "m.onnx", NAMES, sides=("n", 3, "h", "w"))
    transform = classifier(file).transform
    assert (transform.resize_size, transform.crop_size) == (256, 224)


def test_labels_come_from_a_sidecar_where_the_file_has_none(tmp_path: Path) -> None:
    file = by_colour(tmp_path / "m.onnx", {})
    with pytest.raises(
        UnsupportedModel, match=r"its 3 classes; put them into m\.onnx\.labels\.txt"
    ):
        classifier(file)
    (tmp_path / "m.onnx.labels.txt").write_text("dull\nred\n")
    with pytest.raises(WeightsMismatch, match="3 classes in its outputs, 2 names"):
        classifier(file)
    (tmp_path / "m.onnx.labels.txt").write_text("dull\nred\nblue\n")
    assert classifier(file).class_names == ("dull", "red", "blue")


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    maps = constant(tmp_path / "maps.onnx", {"map": np.zeros((1, 4, 4), np.float32)}, sides=SQUARE)
    with pytest.raises(UnsupportedModel, match=r"it gives map \(2, 4, 4\)"):
        classifier(maps)
    oblong = by_colour(tmp_path / "oblong.onnx", NAMES, sides=(1, 3, 32, 64))
    with pytest.raises(UnsupportedModel, match="expected square crops, it takes 32×64"):
        classifier(oblong)
    other = '{"resize_size": 80, "crop_size": 64, "mean": [0, 0, 0], "std": [1, 1, 1]}'
    mixed_up = by_colour(tmp_path / "mixed_up.onnx", NAMES | {"transform": other})
    with pytest.raises(UnsupportedModel, match="takes 32 pixels, its metadata says 64"):
        classifier(mixed_up)
    garbled = by_colour(tmp_path / "garbled.onnx", NAMES | {"mean": "grey"})
    with pytest.raises(UnsupportedModel, match="preparing crops can't be read"):
        classifier(garbled)


def test_a_classifier_labels_the_detections_of_a_frame(tmp_path: Path) -> None:
    file = by_colour(tmp_path / "m.onnx", NAMES | {"task": "classify"})
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :100, 0], image[:, 100:, 2] = 255, 255
    boxes = FixedDetector((10.0, 10.0, 90.0, 90.0), (110.0, 10.0, 190.0, 90.0))
    pipeline = Pipeline(boxes, classifier(file), CPU, min_crop_px=8)
    [result] = infer(pipeline, [frame(image_hwc=image)])
    assert result.schema_name == "framewire.frame"
    assert [label.class_name for label in result.classifications] == ["red", "blue"]


def test_nan_scores_fail_the_frame_by_name(tmp_path: Path) -> None:
    scores = np.array([[1.0, 2.0, 3.0]], np.float32)
    file = constant(tmp_path / "m.onnx", {"out": scores}, NAMES, SQUARE, nan_when_plain=True)
    boxes = FixedDetector((1.0, 1.0, 90.0, 90.0))
    plain = frame(image_hwc=np.zeros((100, 100, 3), np.uint8))
    [failure] = infer(Pipeline(boxes, classifier(file), CPU, min_crop_px=8), [plain])
    assert failure.schema_name == "framewire.failure"
    assert failure.code == ContractViolation.code
