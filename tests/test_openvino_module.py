"""torchvision's models computed by OpenVINO give what torch gives."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from contracts.errors import UnsupportedModel
from pipeline.catalog import find_model
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.detect import Thresholds
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.runtime import AskedRuntime, Precision
from pipeline.runtime.openvino_module import OpenVinoModule
from pipeline.runtime.torch_module import Part
from pipeline.runtime.torch_parts import compute_parts
from stream.file import FileReader
from stream.reader import Picture
from tests.computing import by
from tests.conftest import RandomWeights
from tests.frames import frame, noise
from tests.test_torchvision_models import CLIP

pytest.importorskip("openvino")
from pipeline.runtime.openvino import NAMES


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "framewire" / "openvino"


def detector(name: str, runtime: AskedRuntime, weights: Path | None = None) -> TorchvisionDetector:
    spec = find_model("detector", name, weights)
    return TorchvisionDetector(spec, by(runtime), Thresholds(0.5, 50))


def test_the_bundled_detector_finds_the_same_on_both() -> None:
    pictures = [p for p in FileReader(CLIP, 10**7).pictures() if isinstance(p, Picture)]
    frames = [frame(i, image_hwc=p.image_hwc) for i, p in enumerate(pictures[::25])]
    by_torch = detector("bundled:parts", "torch")
    by_openvino = detector("bundled:parts", "openvino")
    assert (by_torch.identity.runtime, by_openvino.identity.runtime) == ("torch", "openvino")
    assert by_openvino.identity.input_size == (320, 320)
    for ours, theirs in zip(by_openvino.detect(frames), by_torch.detect(frames), strict=True):
        assert torch.equal(ours.class_ids, theirs.class_ids)
        torch.testing.assert_close(ours.scores, theirs.scores, atol=0.01, rtol=0)
        torch.testing.assert_close(ours.boxes_xyxy, theirs.boxes_xyxy, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    "architecture", ["fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn"]
)
def test_each_part_computes_the_same_at_any_size(
    architecture: str, random_weights: RandomWeights
) -> None:
    weights = random_weights.detector(architecture)
    name = f"torchvision:{architecture}"
    models = [detector(name, "torch", weights).model, detector(name, "openvino", weights).model]
    for shape in ((1, 3, 128, 160), (2, 3, 96, 64)):
        pictures = torch.rand(shape)
        with torch.no_grad():
            expected, given = (model.backbone(pictures) for model in models)
        assert list(expected) == list(given)
        for key in expected:
            torch.testing.assert_close(given[key], expected[key], atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        found = detector(name, "openvino", weights).detect([frame(image_hwc=noise(90, 130))])
    assert found[0].boxes_xyxy.shape[1] == 4


def test_a_classifier_says_the_same_on_both(random_weights: RandomWeights) -> None:
    name, weights = "torchvision:convnext_tiny", random_weights.classifier("convnext_tiny")
    spec = find_model("classifier", name, weights)
    by_torch = TorchvisionClassifier(spec, by("torch"))
    by_openvino = TorchvisionClassifier(spec, by("openvino"))
    crops = torch.randn(3, 3, 224, 224)
    expected = by_torch.logits(crops)
    difference = (by_openvino.logits(crops) - expected).abs().max()
    assert difference < 0.02 * expected.abs().max()
    assert by_openvino.identity.runtime == "openvino"
    assert by_openvino.classify(crops[:0]) == []


class Scaled(nn.Module):
    """Small enough to convert in no time."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures * 2


def test_a_part_is_converted_once_and_then_read_from_the_cache(cache: Path) -> None:
    for _ in range(2):
        module = OpenVinoModule(Scaled(), torch.ones(1, 3, 4, 4), "float32", "scaled")
        assert torch.equal(module(torch.ones(2, 3, 5, 6)), torch.full((2, 3, 5, 6), 2.0))
        assert len(list(cache.iterdir())) == 1


def scaled_by_two() -> bool:
    module = OpenVinoModule(Scaled(), torch.ones(1, 3, 4, 4), "float32", "scaled")
    return torch.equal(module(torch.ones(2, 3, 5, 6)), torch.full((2, 3, 5, 6), 2.0))


def test_where_the_cache_cant_be_written_the_part_is_computed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nope")
    assert scaled_by_two()
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("cache_unwritable: /proc/nope/framewire/openvino: ")


def test_a_part_that_cant_be_kept_leaves_nothing_behind(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scaled_by_two()
    [kept] = cache.iterdir()
    shutil.rmtree(kept)
    # Nothing can get this name.
    kept.symlink_to(cache / "nowhere")
    assert scaled_by_two()
    assert list(cache.iterdir()) == [kept]
    assert "cache_unwritable" in caplog.text


@pytest.mark.parametrize("damaged", ["model.xml", "model.bin", "both"])
def test_a_damaged_part_of_the_cache_is_converted_anew(
    damaged: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scaled_by_two()
    [kept] = cache.iterdir()
    for file in list(kept.iterdir()):
        if damaged == "both":
            file.unlink()
        elif file.name == damaged:
            file.write_bytes(b"")
    assert scaled_by_two()
    assert "cache_unreadable" in caplog.text
    assert [path.name for path in cache.iterdir()] == [kept.name]
    caplog.clear()
    assert scaled_by_two()
    assert not caplog.records


class OneLayer(nn.Module):
    """Has something that the library computes in the precision it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, pictures: torch.Tensor) -> Any:
        return self.layer(pictures)


@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
def test_a_models_precision_is_the_one_it_is_compiled_in(
    asked: Precision, caplog: pytest.LogCaptureFixture
) -> None:
    spec = find_model("detector", "bundled:parts")
    identity = TorchvisionDetector(spec, by("openvino", asked), Thresholds()).identity
    module = OpenVinoModule(OneLayer(), torch.ones(1, 3, 8, 8), asked, "one layer")
    hint = module._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    assert module.precision == identity.precision == NAMES[hint]
    fallback = f"precision_fallback: {spec.architecture}: {asked} asked for"
    assert (fallback in caplog.text) == (identity.precision != asked)


class Refused(nn.Module):
    """Gives what no graph can give."""

    def forward(self, pictures: torch.Tensor) -> Any:
        return torch.linalg.eig(pictures)[0].real * 1.0


def test_what_openvino_cant_take_torch_computes_and_a_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = Refused()
    computed = compute_parts("refused 0", {"": Part(refused, [torch.rand(1, 3, 4, 4)])}, by("auto"))
    assert (computed.modules[""], computed.runtime) == (refused, "torch")
    [warning] = [r.getMessage() for r in caplog.records if r.name == "framewire.pipeline"]
    assert warning.startswith("runtime_fallback: openvino can't take refused 0 in float32: ")
    assert warning.endswith("; torch computes it")


def test_what_openvino_cant_take_is_named(cache: Path) -> None:
    level = logging.getLogger().level
    with pytest.raises(UnsupportedModel, match="refused"):
        OpenVinoModule(Refused(), torch.rand(1, 3, 4, 4), "float32", "refused")
    assert not cache.exists() or not list(cache.iterdir())
    assert logging.getLogger().level == level
