"""A model that is no good ends the command with one line, before anything is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from contracts.messages import FrameFailure, FrameResult, parse_message
from pipeline.catalog import BUNDLED_FOLDER, Role
from pipeline.weights_file import read_weights
from tests.clips import FFV1, write_clip
from tests.conftest import RandomWeights
from tests.frames import noise
from tests.onnx_models import Truth, constant, hungry, unknown_operation, yolox
from tests.test_cli import framewire

BUNDLED = {
    "detector": BUNDLED_FOLDER / "parts_detector.safetensors",
    "classifier": BUNDLED_FOLDER / "parts_classifier.safetensors",
}
ROLES: tuple[Role, ...] = ("detector", "classifier")
TRUTHS: tuple[Truth, ...] = (((10.0, 20.0, 90.0, 80.0), 0.9, 1),)
THREE = {"names": "['cat', 'dog', 'bird']"}
TWO = {"names": "['cat', 'dog']"}
Arguments = tuple[str | Path, ...]


def outputs(role: Role) -> dict[str, np.ndarray]:
    """Of three classes."""
    return yolox(TRUTHS) if role == "detector" else {"output": np.eye(3, dtype=np.float32)[:1]}


def sides(role: Role) -> tuple[str | int, int, int, int]:
    return ("batch", 3, 96, 128) if role == "detector" else ("batch", 3, 96, 96)


def onnx_model(
    role: Role, path: Path, names: dict[str, str] = THREE, nan_when_plain: bool = False
) -> Path:
    return constant(path, outputs(role), names, sides(role), nan_when_plain)


def run_with(
    capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str | Path
) -> tuple[int, str, Path]:
    """Exit status and the last line, of a run over three frames that had results before."""
    clip = write_clip(folder / "clip.mkv", [noise(96, 128, seed) for seed in range(3)], FFV1)
    results = folder / "results.jsonl"
    results.write_text("of an earlier run\n")
    to = ("--source", clip, "--zmq", "none", "--jsonl", results)
    status, _, said = framewire(capsys, "run", *to, *arguments)
    assert not [line for line in said if "Traceback" in line]
    assert len([line for line in said if line.startswith("framewire: ")]) == (status == 3)
    return status, said[-1], results


def halved(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def copied(role: Role, path: Path) -> Path:
    path.write_bytes(BUNDLED[role].read_bytes())
    return path


def as_pth(role: Role, path: Path) -> Path:
    torch.save(load_file(BUNDLED[role]), path)
    return path


def with_nan(role: Role, path: Path) -> Path:
    weights = read_weights(BUNDLED[role])
    weights.tensors[max(weights.tensors)].view(-1)[0] = torch.nan
    save_file(weights.tensors, path, weights.metadata)
    return path


WEIGHTS: dict[str, tuple[Callable[[Role, Path], Path], str, str]] = {
    "missing": (lambda _, folder: folder / "none.pth", "weights_unavailable", "none.pth"),
    "a folder": (lambda _, folder: folder, "weights_unavailable", "Is a directory"),
    "truncated": (
        lambda role, folder: halved(copied(role, folder / "half.safetensors")),
        *("weights_unreadable", "not a whole safetensors file"),
    ),
    "truncated pth": (
        lambda role, folder: halved(as_pth(role, folder / "half.pth")),
        *("weights_unreadable", "half.pth"),
    ),
    "no numbers": (
        lambda role, folder: with_nan(role, folder / "nan.safetensors"),
        *("weights_unreadable", "NaN or infinity in "),
    ),
    "another architecture": (
        lambda role, _: BUNDLED["detector" if role == "classifier" else "classifier"],
        *("weights_mismatch", "another architecture"),
    ),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_no_good(
    case: str, role: Role, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, code, said = WEIGHTS[case]
    status, line, results = run_with(capsys, tmp_path, f"--{role}-weights", make(role, tmp_path))
    assert status == 3
    assert line.startswith(f"framewire: {code}: weights ")
    assert said in line
    assert results.read_text() == "of an earlier run\n"


@pytest.mark.parametrize(
    ("role", "architecture"),
    [("detector", "ssdlite320_mobilenet_v3_large"), ("classifier", "mobilenet_v3_small")],
)
def test_weights_of_another_number_of_classes(
    role: Role,
    architecture: str,
    random_weights: RandomWeights,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = getattr(random_weights, role)(architecture, 3)
    arguments = (f"--{role}", f"torchvision:{architecture}", f"--{role}-weights", weights)
    status, line, results = run_with(capsys, tmp_path, *arguments)
    assert (status, results.read_text()) == (3, "of an earlier run\n")
    assert line.startswith("framewire: weights_mismatch: weights ")
    assert "labels.txt" in line


FILES: dict[str, tuple[Callable[[Role, Path], Path], str, str]] = {
    "missing": (lambda _, path: path, "weights_unavailable", "No such file"),
    "truncated": (
        lambda role, path: halved(onnx_model(role, path)),
        *("weights_unreadable", "not an ONNX file"),
    ),
    "of another kind": (
        lambda role, path: onnx_model("detector" if role == "classifier" else "classifier", path),
        *("unsupported_model", "model "),
    ),
    "another number of classes": (
        lambda role, path: onnx_model(role, path, TWO),
        *("weights_mismatch", "3 classes in its outputs, 2 names"),
    ),
    "an unknown operation": (
        lambda role, path: unknown_operation(path, sides(role)),
        *("unsupported_model", "NoSuchThing"),
    ),
    "hungry": (
        lambda role, path: hungry(onnx_model(role, path), always=True),
        *("out_of_memory", "llocate"),
    ),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("case", FILES)
def test_an_onnx_file_that_is_no_good(
    case: str, role: Role, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, code, said = FILES[case]
    file = make(role, tmp_path / "model.onnx")
    status, line, results = run_with(capsys, tmp_path, f"--{role}", f"onnx:{file}")
    assert status == 3
    assert line.startswith(f"framewire: {code}: ")
    assert said in line
    assert results.read_text() == "of an earlier run\n"


def overflowing(role: Role, path: Path) -> Path:
    """Numbers all of them, which the last layers make infinite."""
    weights = read_weights(BUNDLED[role])
    head = "head.classification_head.module_list." if role == "detector" else "classifier."
    for name, tensor in weights.tensors.items():
        if name.startswith(head) and name.endswith("weight"):
            weights.tensors[name] = torch.full(tensor.shape, 3e38)
    save_file(weights.tensors, path, weights.metadata)
    return path


def failing(role: Role, kind: str, folder: Path) -> Arguments:
    """Arguments for a model that gives NaN at run time, and a detector that finds something."""
    found = f"onnx:{onnx_model('detector', folder / 'found.onnx')}"
    if kind == "onnx":
        # The start tries noise; a crop or a frame of one colour is what the run brings.
        model = onnx_model(role, folder / f"{role}.onnx", nan_when_plain=True)
        arguments: Arguments = (f"--{role}", f"onnx:{model}")
    else:
        arguments = (f"--{role}-weights", overflowing(role, folder / f"{role}.safetensors"))
    return arguments if role == "detector" else ("--detector", found, *arguments)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ["torchvision", "onnx"])
def test_what_is_no_number_at_run_time_fails_each_frame_by_name(
    kind: str, role: Role, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = failing(role, kind, tmp_path)
    if kind == "onnx" and role == "detector":
        arguments = (*arguments, "--classifier", "none")
    clip = write_clip(tmp_path / "plain.mkv", [np.full((96, 128, 3), 90, np.uint8)] * 3, FFV1)
    results = tmp_path / "results.jsonl"
    to = ("--source", clip, "--zmq", "none", "--jsonl", results, "--min-crop-px", "1")
    status, _, _ = framewire(capsys, "run", *to, *arguments)
    assert status == 1
    messages = [parse_message(line) for line in results.read_text().splitlines()]
    failures = [message.code for message in messages if isinstance(message, FrameFailure)]
    assert failures == ["contract_violation"] * 3
    assert not [message for message in messages if isinstance(message, FrameResult)]
