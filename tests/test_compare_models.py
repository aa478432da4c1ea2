"""Many models are compared in one run, and what can't be had is left out by name."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scripts.compare_models import CASES, Case, compare, main
from tests.conftest import REPOSITORY
from tests.onnx_models import FAMILIES, constant


@pytest.fixture(autouse=True)
def _beside_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    # `main` sets both; afterwards they are as they were.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--rounds", "1"], catch_exceptions=False)


def test_models_and_runtimes_are_in_one_table_for_a_document() -> None:
    ended = run("--only", "bundled", "--precision", "float32", "--markdown")
    assert ended.exit_code == 0
    lines = [line for line in ended.output.splitlines() if line.startswith("|")]
    head, rule, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert head[:3] == ["model", "computed by", "ms a frame"]
    assert set("".join(rule)) == {"-"}
    assert [row[:2] for row in rows] == [
        ["detector bundled:parts", "torch float32"],
        ["", "openvino float32"],
        ["classifier bundled:parts, 8 crops", "torch float32"],
        ["", "openvino float32"],
    ]
    assert [row[-1] for row in rows] == ["reference", "agrees"] * 2
    assert "torch 2" in ended.output.splitlines()[-1]


def test_a_model_or_a_source_that_is_not_there_is_left_out_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = run("--only", "yolox", "--source", "no.mp4")
    assert ended.exit_code == 0
    said = capsys.readouterr().err + ended.output
    assert "skipped: detector onnx:../shared/models/yolox_nano.onnx: source_not_found" in said
    assert "reference" not in said


def test_a_runtime_that_is_named_is_the_only_other_one(tmp_path: Path) -> None:
    truth = (((10.0, 10.0, 60.0, 60.0), 0.9, 1),)
    names = {"names": "['a', 'b', 'c']"}
    file = constant(tmp_path / "m.onnx", FAMILIES["yolov8"](truth), names)
    case = Case("detector", f"onnx:{file}", 2)
    source = [str(REPOSITORY / "scripts/demo_clip/conveyor.mp4")]
    rows = compare(case, source, 1, "openvino", "float32")
    assert [row.identity.runtime for row in rows] == ["onnxruntime", "openvino"]
    assert rows[1].agrees
    assert rows[1].agreement.compared == 2


def test_the_models_asked_for_are_compared() -> None:
    names = [case.name for case in CASES]
    assert len(set(CASES)) == len(CASES)
    for part in ("ssdlite", "fasterrcnn", "retinanet", "maskrcnn", "yolox", "convnext", "lite0"):
        assert any(part in name for name in names)
    assert [case for case in CASES if case.masks] == [case for case in CASES if "mask" in case.name]
