"""What TensorRT is asked for; that it does it is tested where it is (tests/test_cuda.py)."""

import logging
from pathlib import Path

import pytest
import torch

from pipeline.runtime import Compute, Precision
from pipeline.runtime.onnx_file import OnnxFile, read_onnx
from pipeline.runtime.tensorrt import providers
from tests.onnx_models import constant, convolution, yolox

DEVICE = torch.device("cuda:1")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "framewire" / "tensorrt"


@pytest.fixture
def open_batch(tmp_path: Path) -> OnnxFile:
    """A graph that takes any batch of 96×128 pixels."""
    return read_onnx(constant(tmp_path / "open.onnx", yolox(())))


def test_one_engine_is_for_all_batches_and_is_kept(open_batch: OnnxFile, cache: Path) -> None:
    (name, options), *rest = providers(open_batch, Compute(DEVICE, max_batch=6))
    assert name == "TensorrtExecutionProvider"
    assert options["device_id"] == 1
    assert options["trt_profile_min_shapes"] == "images:1x3x96x128"
    assert options["trt_profile_opt_shapes"] == options["trt_profile_max_shapes"]
    assert options["trt_profile_max_shapes"] == "images:6x3x96x128"
    assert options["trt_engine_cache_path"] == str(cache)
    assert cache.is_dir()
    assert [provider for provider, _ in rest] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    # Left alone it would be TF32.
    assert rest[0][1] == {"device_id": 1, "use_tf32": 0}


@pytest.mark.usefixtures("cache")
def test_a_batch_that_is_fixed_needs_no_range(tmp_path: Path) -> None:
    file = read_onnx(convolution(tmp_path / "one.onnx"))
    (_, options), *_ = providers(file, Compute(DEVICE))
    assert not [name for name in options if "profile" in name]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_precision_is_the_one_asked_for(precision: Precision, open_batch: OnnxFile) -> None:
    (_, options), *_ = providers(open_batch, Compute(DEVICE, precision=precision))
    enabled = (options["trt_fp16_enable"], options["trt_bf16_enable"])
    assert enabled == (precision == "float16", precision == "bfloat16")


def test_where_no_engine_can_be_kept_it_is_built_each_time(
    open_batch: OnnxFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nope")
    (_, options), *_ = providers(open_batch, Compute(DEVICE))
    assert "trt_engine_cache_enable" not in options
    assert caplog.messages[0].startswith("cache_unwritable: /proc/nope/framewire/tensorrt: ")
