"""What computes a model is chosen where it is asked, and one step back is taken by name."""

import importlib.util
import sys

import pytest
import torch

from contracts.errors import (
    BadSetting,
    DeviceUnavailable,
    InferenceError,
    OutOfMemory,
    UnsupportedModel,
)
from pipeline.runtime import Compute, RuntimeName
from pipeline.runtime.choose import Choice, Kind, available, choose, first_that_takes, say
from tests.computing import CPU, by

CUDA = torch.device("cuda")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library can't be found, as where it was not installed."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else find_spec(name)
    )


def test_all_that_computes_on_a_cpu_is_listed_the_reference_first() -> None:
    assert available("torchvision", CPU) == ("torch", "compile", "openvino")
    assert available("onnx", CPU) == ("onnxruntime", "openvino")


def test_auto_is_openvino_on_the_cpu_says_why_and_can_go_one_step_back() -> None:
    assert choose("onnx", by("auto")) == Choice(
        ("openvino", "onnxruntime"), CPU, "auto: first on cpu"
    )
    assert choose("torchvision", by("auto")).names == ("openvino", "torch")


@pytest.mark.usefixtures("no_openvino")
def test_without_openvino_auto_is_the_reference_and_says_why() -> None:
    choice = choose("torchvision", by("auto"))
    assert (choice.names, choice.why) == (("torch",), "auto: no openvino here")
    assert choose("onnx", by("auto")).names == ("onnxruntime",)
    with pytest.raises(BadSetting, match="runtime openvino: not installed"):
        choose("onnx", by("openvino"))


def test_what_is_asked_for_comes_first_and_the_reference_after_it() -> None:
    assert choose("torchvision", by("compile")).names == ("compile", "torch")
    assert choose("torchvision", by("torch")).names == ("torch",)
    assert choose("onnx", by("openvino")).names == ("openvino", "onnxruntime")


def test_on_cuda_auto_is_the_reference_for_torchs_own_models() -> None:
    choice = choose("torchvision", Compute(CUDA))
    assert (choice.names, choice.why) == (("torch",), "auto: first on cuda")


@pytest.mark.parametrize(
    ("kind", "asked", "said"),
    [
        ("onnx", "torch", "runtime torch: can't compute an ONNX file; expected auto, onnxruntime"),
        ("onnx", "compile", "runtime compile: can't compute an ONNX file"),
        ("torchvision", "onnxruntime", "can't compute torchvision's models; expected auto, torch"),
        ("torchvision", "tensorrt", "can't compute torchvision's models"),
    ],
)
def test_a_runtime_for_another_kind_of_model_is_refused(
    kind: Kind, asked: RuntimeName, said: str
) -> None:
    with pytest.raises(BadSetting, match=said):
        choose(kind, by(asked))


@without_cuda
def test_without_a_runtime_for_cuda_auto_goes_to_the_cpu_and_a_named_one_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert choose("onnx", Compute(CUDA)).device == CPU
    assert "device_fallback: no ONNX runtime here computes on cuda" in caplog.text
    for runtime in available("onnx", CPU):
        with pytest.raises(DeviceUnavailable, match=f"runtime {runtime} on device cuda"):
            choose("onnx", Compute(CUDA, runtime))


@without_cuda
def test_tensorrt_is_refused_where_the_library_was_built_without_it() -> None:
    for device in (CPU, CUDA):
        with pytest.raises(
            DeviceUnavailable,
            match=r"runtime tensorrt on .*: onnxruntime as installed here was built",
        ):
            choose("onnx", Compute(device, "tensorrt"))


CHOICE = Choice(("openvino", "torch"), CPU, "asked for")


@pytest.mark.parametrize("error", [UnsupportedModel("no such layer"), InferenceError("it fell")])
def test_one_step_back_is_taken_with_the_named_warning(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def make(name: RuntimeName) -> str:
        if name == "openvino":
            raise error
        return name

    assert first_that_takes(CHOICE, make) == "torch"
    assert caplog.messages == [f"runtime_fallback: {error}; torch computes it"]


def test_where_the_last_one_cant_the_model_is_unsupported() -> None:
    def make(name: RuntimeName) -> None:
        raise InferenceError(f"{name} fell")

    with pytest.raises(UnsupportedModel, match="torch fell"):
        first_that_takes(CHOICE, make)


def test_where_memory_runs_out_no_other_runtime_is_tried() -> None:
    tried: list[RuntimeName] = []

    def make(name: RuntimeName) -> None:
        tried.append(name)
        raise OutOfMemory("20 GiB")

    with pytest.raises(OutOfMemory):
        first_that_takes(CHOICE, make)
    assert tried == ["openvino"]


def test_what_computes_is_said_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "framewire.pipeline")
    say("model", CHOICE, "openvino", "float32", "bfloat16")
    say("model", CHOICE, "torch", "float32", "float32")
    assert caplog.messages == [
        "model: openvino in float32 on cpu (asked for)",
        "precision_fallback: model: bfloat16 asked for, openvino has float32",
        "model: torch in float32 on cpu (openvino can't take it)",
    ]
