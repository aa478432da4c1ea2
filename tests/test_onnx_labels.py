"""The classes of an ONNX file have names: its own, those beside it, or those of COCO."""

from pathlib import Path

import pytest

from contracts.errors import UnsupportedModel, WeightsMismatch, WeightsUnreadable
from pipeline.detect.coco import COCO_80, COCO_91
from tests.onnx_models import constant, rfdetr, rtdetr, yolov8
from tests.test_onnx_detector import NAMES, TRUTHS, detector


def test_labels_come_from_the_metadata_the_sidecar_or_coco(tmp_path: Path) -> None:
    file = constant(tmp_path / "model.onnx", yolov8(TRUTHS))
    with pytest.raises(
        UnsupportedModel, match=r"3 classes; put them into model\.onnx\.labels\.txt"
    ):
        detector(file)
    sidecar = tmp_path / "model.onnx.labels.txt"
    sidecar.write_text("one\ntwo\n")
    with pytest.raises(WeightsMismatch, match="3 classes in its outputs, 2 names"):
        detector(file)
    sidecar.write_text("one\ntwo\nthree\n")
    assert detector(file).class_names == ("one", "two", "three")
    assert detector(constant(file, yolov8(TRUTHS), NAMES)).class_names[0] == "cat"
    coco = detector(constant(tmp_path / "coco.onnx", yolov8(TRUTHS, 80)))
    assert coco.class_names == COCO_80
    sparse = detector(constant(tmp_path / "sparse.onnx", rfdetr(TRUTHS, 91)))
    assert sparse.class_names == COCO_91
    assert (COCO_91[1], COCO_91[17], COCO_91[90]) == ("person", "cat", "toothbrush")


def test_rfdetrs_own_metadata_names_its_classes(tmp_path: Path) -> None:
    metadata = {"rfdetr_inference": '{"class_id_to_name": {"0": "screw", "2": "nut"}}'}
    model = detector(constant(tmp_path / "model.onnx", rtdetr(TRUTHS), metadata))
    assert model.family.layout == "rfdetr"
    assert model.class_names == ("screw", "N/A", "nut")


@pytest.mark.parametrize("names", ["{0: 'a', 2: 'b'}", "__import__('os')", "7", "{0: "])
def test_names_that_are_no_names_are_refused(names: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="class names in its metadata can't be read"):
        detector(constant(tmp_path / "model.onnx", yolov8(TRUTHS), {"names": names}))


def test_names_beside_the_file_in_another_encoding_are_unreadable(tmp_path: Path) -> None:
    file = constant(tmp_path / "model.onnx", yolov8(TRUTHS))
    (tmp_path / "model.onnx.labels.txt").write_bytes("Schlüssel\n".encode("latin-1"))
    with pytest.raises(WeightsUnreadable, match="expected UTF-8"):
        detector(file)
