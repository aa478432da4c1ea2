"""Runtimes are compared object by object, and a difference shows."""

from pathlib import Path

import pytest
from rich.console import Console

from contracts.errors import BadSetting
from contracts.settings import Settings
from scripts.verify import compare, verify, ways
from tests.messages import BRASS, GEAR, NUT, frame_result
from tests.test_torchvision_models import CLIP


def settings(**changes: object) -> Settings:
    return Settings.model_validate({"sources": [str(CLIP)], **changes})


def test_the_runtimes_here_agree_on_the_bundled_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    console = Console(record=True, width=100)
    assert verify(settings(), 4, console) == 0
    shown = console.export_text()
    assert "torch float32" in shown
    assert "openvino float32" in shown
    assert shown.count("agrees") == 2


def test_the_same_results_agree() -> None:
    agreement = compare([frame_result()], [frame_result()])
    assert agreement.within("float32")
    assert (agreement.objects, agreement.unpaired, agreement.labels) == (2, 0, 1)


def test_the_order_of_the_detections_makes_no_difference() -> None:
    turned = frame_result(
        detections=(NUT, GEAR), classifications=(BRASS.model_copy(update={"detection_index": 1}),)
    )
    assert compare([frame_result()], [turned]).within("float32")


def test_a_shifted_box_a_moved_score_and_a_lost_object_show() -> None:
    shifted = GEAR.model_copy(update={"box": (12.0, 12.0, 52.0, 44.0)})
    assert not compare([frame_result()], [frame_result(detections=(shifted, NUT))]).within(
        "float32"
    )
    moved = GEAR.model_copy(update={"score": GEAR.score - 0.015})
    agreement = compare([frame_result()], [frame_result(detections=(moved, NUT))])
    assert not agreement.within("float32")
    assert agreement.within("bfloat16")
    lost = frame_result(detections=(GEAR,))
    assert compare([frame_result()], [lost]).unpaired == 1


def test_another_class_is_another_object_and_another_label_is_counted() -> None:
    other = GEAR.model_copy(update={"class_id": 4, "class_name": "bolt"})
    assert compare([frame_result()], [frame_result(detections=(other, NUT))]).unpaired == 2
    steel = BRASS.model_copy(update={"class_id": 0, "class_name": "steel"})
    assert compare([frame_result()], [frame_result(classifications=(steel,))]).other_labels == 1


def test_the_reference_of_a_file_is_onnxruntime_and_of_torchvision_torch() -> None:
    assert [w.runtime for w in ways(settings())] == ["torch", "openvino"]
    file = settings(detector="onnx:a.onnx", classifier="none", precision="bfloat16")
    assert [(w.runtime, w.precision) for w in ways(file)] == [
        ("onnxruntime", "float32"),
        ("openvino", "float32"),
        ("openvino", "bfloat16"),
    ]
    with pytest.raises(BadSetting, match="both"):
        list(ways(settings(detector="onnx:a.onnx")))
