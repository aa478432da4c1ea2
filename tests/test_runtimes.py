"""A file is compiled once and takes any batch, whichever runtime computes it."""

import hashlib
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torchvision.ops import box_iou

from contracts.errors import InferenceError, ModelError, UnsupportedModel
from pipeline.detect import Thresholds
from pipeline.detect.onnx import OnnxDetector
from pipeline.runtime import AskedRuntime, Precision, RuntimeName
from pipeline.runtime.network import load_network
from pipeline.runtime.onnx_file import read_onnx
from stream.reader import Picture
from tests.computing import by
from tests.conftest import REPOSITORY
from tests.frames import frame
from tests.onnx_models import CELLS, INPUT_HW, constant, convolution, save, unknown_operation
from tests.test_onnx_detector import YOLOX_NANO, walkers

RUNTIMES: tuple[RuntimeName, ...] = ("openvino", "onnxruntime")
HAS_BFLOAT16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def pictures(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).random((count, 3, *INPUT_HW), np.float32)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("reshape", "batch of 1 opened, same results checked"),
        ("merged", "batch of 1 can't be opened: takes 1 at a time"),
        ("mixed", "batch of 1 can't be opened: takes 1 at a time"),
    ],
)
def test_onnxruntime_opens_a_batch_of_one_where_that_changes_nothing(
    ending: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "framewire.pipeline")
    file = read_onnx(convolution(tmp_path / "model.onnx", ending))
    load_network(file, by("onnxruntime"))
    assert "model.onnx: onnxruntime in float32 on cpu (asked for)" in caplog.text
    assert f"model.onnx: {said}" in caplog.text


def test_openvino_runs_a_batch_as_single_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "framewire.pipeline")
    load_network(read_onnx(convolution(tmp_path / "model.onnx")), by("auto"))
    assert "model.onnx: openvino in float32 on cpu (auto: first on cpu)" in caplog.text
    assert "model.onnx: batches run as single pictures" in caplog.text


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("ending", ["reshape", "merged", "mixed"])
def test_a_batch_gives_what_its_pictures_give_alone(
    runtime: RuntimeName, ending: str, tmp_path: Path
) -> None:
    file = read_onnx(convolution(tmp_path / "model.onnx", ending))
    network = load_network(file, by(runtime))
    batch = pictures(5)
    [together] = network.run(batch)
    alone = np.concatenate([network.run(batch[i : i + 1])[0] for i in range(5)])
    assert together.shape == (5, CELLS, 7)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    if ending != "mixed":
        assert np.abs(together[0] - together[1]).max() > 0.01


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_open_batch_stays_open(runtime: RuntimeName, tmp_path: Path) -> None:
    file = constant(tmp_path / "model.onnx", {"output": np.ones((1, 4, 6), np.float32)})
    network = load_network(read_onnx(file), by(runtime))
    assert [output.shape for output in network.run(pictures(3))] == [(3, 4, 6)]
    assert network.input_shape == (None, 3, *INPUT_HW)
    assert network.output_names == ("output",)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_of_four_takes_three_and_five(runtime: RuntimeName, tmp_path: Path) -> None:
    node = helper.make_node("ReduceMax", ["images"], ["output"], axes=[0, 1, 2, 3], keepdims=0)
    grow = helper.make_node("Expand", ["output", "shape"], ["all"])
    weights = {"shape": np.array([4, 2])}
    file = save(tmp_path / "four.onnx", [node, grow], {"all": (4, 2)}, weights, (4, 3, *INPUT_HW))
    network = load_network(read_onnx(file), by(runtime))
    assert [network.run(pictures(count))[0].shape for count in (3, 5)] == [(3, 2), (5, 2)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_pictures_of_the_wrong_size_are_an_inference_error_and_no_harm_is_done(
    runtime: RuntimeName, tmp_path: Path
) -> None:
    file = read_onnx(convolution(tmp_path / "model.onnx"))
    network = load_network(file, by(runtime))
    expected = network.run(pictures(3))[0]
    for count in (1, 3):
        with pytest.raises(InferenceError, match=f"model.onnx: {runtime}"):
            network.run(np.zeros((count, 3, 64, 64), np.float32))
    np.testing.assert_allclose(network.run(pictures(3))[0], expected, rtol=1e-6)


def test_the_hash_is_of_the_files_bytes_and_outputs_are_the_callers_own(tmp_path: Path) -> None:
    path = convolution(tmp_path / "model.onnx")
    file = read_onnx(path)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for runtime in RUNTIMES:
        network = load_network(file, by(runtime))
        [first] = network.run(pictures(2))
        kept = first.copy()
        network.run(pictures(2) + 1)
        assert np.array_equal(first, kept)


def test_runtimes_agree_on_random_weights(tmp_path: Path) -> None:
    file = read_onnx(convolution(tmp_path / "model.onnx"))
    ours, theirs = (load_network(file, by(r)).run(pictures(3))[0] for r in RUNTIMES)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.shared
def test_runtimes_agree_on_the_walkers() -> None:
    frames = [
        frame(i, image_hwc=picture.image_hwc)
        for i, picture in enumerate(walkers(4))
        if isinstance(picture, Picture)
    ]
    ours, theirs = (
        OnnxDetector(YOLOX_NANO, "yolox", by(r), Thresholds(0.3)).detect(frames) for r in RUNTIMES
    )
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.scores) == len(other.scores) > 0
        overlap, partner = box_iou(one.boxes_xyxy, other.boxes_xyxy).max(dim=1)
        assert overlap.min() >= 0.99
        assert (one.scores - other.scores[partner]).abs().max() <= 0.01
        assert torch.equal(one.class_ids, other.class_ids[partner])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_computes_in_the_precision_that_is_named(
    precision: Precision, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = read_onnx(convolution(tmp_path / "model.onnx"))
    network = load_network(file, by("openvino", precision))
    exact = load_network(file, by("onnxruntime")).run(pictures(1))[0]
    difference = np.abs(network.run(pictures(1))[0] - exact).max()
    if precision == "float32":
        assert (network.precision, bool(difference < 1e-4)) == ("float32", True)
    elif HAS_BFLOAT16:
        assert (network.precision, bool(difference > 1e-4)) == ("bfloat16", True)
    else:
        assert "precision_fallback" in caplog.text


def test_a_precision_that_the_file_has_not_is_refused(tmp_path: Path) -> None:
    file = read_onnx(convolution(tmp_path / "model.onnx"))
    with pytest.raises(UnsupportedModel, match="exported in, float32; bfloat16 was asked for"):
        load_network(file, by("onnxruntime", "bfloat16"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_in_half_precision_is_fed_halves_and_gives_float32(
    runtime: RuntimeName, tmp_path: Path
) -> None:
    node = helper.make_node("ReduceMax", ["images"], ["output"], axes=[2, 3], keepdims=0)
    halves = {"images": TensorProto.FLOAT16, "output": TensorProto.FLOAT16}
    file = save(tmp_path / "half.onnx", [node], {"output": (1, 3)}, {}, types=halves)
    network = load_network(read_onnx(file), by(runtime))
    [output] = network.run(pictures(2))
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, pictures(2).max(axis=(2, 3)), atol=1e-3)
    assert network.precision == ("float16" if runtime == "onnxruntime" else "float32")


def test_openvino_is_kept_from_reporting_its_use() -> None:
    code = "import sys, pipeline.runtime.openvino; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    loaded = ran.stdout.split()
    assert "openvino" in loaded
    assert not [name for name in loaded if name.startswith("openvino_telemetry.")]


@pytest.mark.parametrize("asked", ["auto", "openvino"])
def test_what_no_runtime_takes_is_unsupported_and_the_step_back_is_logged(
    asked: AskedRuntime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = read_onnx(unknown_operation(tmp_path / "model.onnx"))
    with pytest.raises(UnsupportedModel, match=r"model\.onnx: onnxruntime: .*NoSuchThing"):
        load_network(file, by(asked))
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.startswith("runtime_fallback: model ")
    assert warning.endswith("; onnxruntime computes it")


@pytest.mark.parametrize("runtime", ["auto", *RUNTIMES])
def test_a_graph_that_compiles_but_never_runs_is_found_out_at_start_up(
    runtime: AskedRuntime, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Add", ["shape", "more"], ["target"]),
        helper.make_node("Reshape", ["images", "target"], ["output"]),
    ]
    outputs = {"output": ("a", "b", "c", "d")}
    sides = ("batch", 3, *INPUT_HW)
    file = save(tmp_path / "model.onnx", nodes, outputs, {"more": np.array([5] * 4)}, sides)
    with pytest.raises(UnsupportedModel, match=r"model\.onnx"):
        load_network(read_onnx(file), by(runtime))


def test_inputs_that_are_no_pictures_are_unsupported(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["images"], ["output"])
    flat = save(tmp_path / "flat.onnx", [node], {"output": (1, 96, 128, 3)}, {}, (1, 96, 128, 3))
    with pytest.raises(UnsupportedModel, match=r"expected input \(B, 3, H, W\), it takes \(1, 96"):
        read_onnx(flat)
    more = helper.make_tensor_value_info("prompt", TensorProto.FLOAT, (1, 8))
    two = save(tmp_path / "two.onnx", [node], {"output": (1, 3, *INPUT_HW)}, {}, inputs=[more])
    with pytest.raises(UnsupportedModel, match=r"expected one input, it takes images .*prompt"):
        read_onnx(two)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "weights_unavailable"),
        (b"", "weights_unreadable"),
        (b"this is a text file", "weights_unreadable"),
        ("half", "weights_unreadable"),
    ],
    ids=["missing", "empty", "text", "truncated"],
)
def test_a_bad_file_has_its_code(content: bytes | str | None, code: str, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    if content == "half":
        whole = convolution(tmp_path / "whole.onnx").read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx") as caught:
        read_onnx(file)
    assert caught.value.code == code
