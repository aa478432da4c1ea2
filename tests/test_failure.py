"""What a library raises comes out by name; running out of memory has a name of its own."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contracts.errors import InferenceError, OutOfMemory, UnsupportedModel
from pipeline.catalog import find_model
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.detect import Thresholds
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.runtime import AskedRuntime, RuntimeName
from pipeline.runtime.failure import failures_named, made_ready
from pipeline.runtime.network import load_network
from pipeline.runtime.onnx_file import read_onnx
from tests.computing import by
from tests.frames import frame
from tests.onnx_models import INPUT_HW, constant, hungry


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


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_runtime_that_gets_no_memory_says_so_and_goes_on(
    runtime: RuntimeName, tmp_path: Path
) -> None:
    file = hungry(constant(tmp_path / "hungry.onnx", {"output": np.full((1, 2), 7, np.float32)}))
    network = load_network(read_onnx(file), by(runtime))
    with pytest.raises(OutOfMemory, match=rf"hungry\.onnx: {runtime}: .*llocate"):
        network.run(np.ones((1, 3, *INPUT_HW), np.float32))
    [output] = network.run(np.zeros((2, 3, *INPUT_HW), np.float32))
    assert output.tolist() == [[7.0, 7.0]] * 2


@pytest.mark.parametrize("runtime", ["auto", "openvino", "onnxruntime"])
def test_at_the_start_it_ends_the_program_and_no_other_runtime_is_tried(
    runtime: AskedRuntime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = constant(tmp_path / "hungry.onnx", {"output": np.ones((1, 2), np.float32)})
    with pytest.raises(OutOfMemory) as caught, made_ready("model m"):
        load_network(read_onnx(hungry(file, always=True)), by(runtime))
    assert caught.value.exit_status == 3
    assert caplog.messages == []


def test_another_failure_at_the_start_is_an_unsupported_model() -> None:
    with pytest.raises(UnsupportedModel, match="model m: mat1 and mat2"), made_ready("model m"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


class Hungry(nn.Module):
    """Takes the place of a backbone or of a classifier, and wants more memory than there is."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.new_empty(1 << 48)


def test_a_torch_model_that_gets_no_memory_says_so_and_goes_on() -> None:
    spec = find_model("detector", "bundled:parts")
    detector = TorchvisionDetector(spec, by("torch"), Thresholds())
    backbone = detector.model.backbone
    detector.model.backbone = Hungry()
    with pytest.raises(OutOfMemory, match=r"bundled:parts: .*can't allocate memory"):
        detector.detect([frame(), frame()])
    detector.model.backbone = backbone
    assert len(detector.detect([frame()])) == 1
    classifier = TorchvisionClassifier(find_model("classifier", "bundled:parts"), by("torch"))
    classifier.model = Hungry()
    with pytest.raises(OutOfMemory, match=r"bundled:parts: .*can't allocate memory"):
        classifier.classify(torch.zeros(1, 3, 128, 128))
