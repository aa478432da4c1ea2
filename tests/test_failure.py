"""What a library raises comes out by name; running out of memory has a name of its own."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from contracts.errors import InferenceError, OutOfMemory
from pipeline.runtime import RuntimeName
from pipeline.runtime.failure import failures_named
from pipeline.runtime.network import load_network
from pipeline.runtime.onnx_file import read_onnx
from tests.computing import by
from tests.onnx_models import INPUT_HW, save


def ask_opencv() -> None:
    cv2.resize(np.zeros((1, 1, 3), np.uint8), (1 << 30, 1 << 15))


@pytest.mark.parametrize(
    "ask",
    [lambda: torch.empty(1 << 48), lambda: np.empty(1 << 48), ask_opencv],
    ids=["torch", "numpy", "opencv"],
)
def test_more_memory_than_there_is_is_out_of_memory(ask: Callable[[], object]) -> None:
    with pytest.raises(OutOfMemory, match=r"^model m: .*llocate"), failures_named("model m"):
        ask()


def test_cudas_own_error_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory), failures_named("model m"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_another_error_is_an_inference_error() -> None:
    with pytest.raises(InferenceError, match="model m: mat1 and mat2") as caught:  # noqa: SIM117
        with failures_named("model m"):
            torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert caught.value.code == "inference_error"


def test_an_error_that_has_its_name_keeps_it() -> None:
    with pytest.raises(OutOfMemory, match="said before"), failures_named("model m"):
        raise OutOfMemory("said before")


def greedy(path: Path) -> Path:
    """Takes terabytes for a picture with a value of 1 or more, next to nothing for others."""
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["most"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "many"], ["extra"]),
        helper.make_node("Add", ["extra", "one"], ["target"]),
        helper.make_node("ReduceMax", ["images"], ["value"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Expand", ["value", "target"], ["wide"]),
        helper.make_node("ReduceMax", ["wide"], ["output"], axes=[2, 3], keepdims=0),
    ]
    weights = {"many": np.array([0, 0, 1 << 24, 1 << 24]), "one": np.ones(4, np.int64)}
    return save(path, nodes, {"output": (1, 1)}, weights, ("batch", 3, *INPUT_HW))


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_runtime_that_gets_no_memory_says_so_and_goes_on(
    runtime: RuntimeName, tmp_path: Path
) -> None:
    network = load_network(read_onnx(greedy(tmp_path / "greedy.onnx")), by(runtime))
    with pytest.raises(OutOfMemory, match=rf"greedy\.onnx: {runtime}: .*llocate"):
        network.run(np.ones((1, 3, *INPUT_HW), np.float32))
    [output] = network.run(np.zeros((2, 3, *INPUT_HW), np.float32))
    assert output.tolist() == [[0.0], [0.0]]
