"""Weights that are drawn are the same each time, and give scores that something can be told by."""

from pathlib import Path

import pytest
import torch

from contracts.settings import Settings
from pipeline.catalog import find_model
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.detect import Thresholds
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.runtime import Compute
from scripts.random_weights import OBJECTS, keep_caches_apart, random_weights, with_weights
from tests.frames import frame, noise

SSDLITE = "torchvision:ssdlite320_mobilenet_v3_large"
TORCH = Compute(torch.device("cpu"), "torch")


@pytest.fixture
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cached, and the proxy that every download goes through refuses it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")


def test_a_detectors_scores_are_spread_and_the_same_each_time(tmp_path: Path) -> None:
    spec = find_model("detector", SSDLITE)
    images = [noise(120, 160, seed) for seed in (1, 2)]
    first = random_weights(spec, "detector", images, tmp_path)
    content = first.read_bytes()
    assert random_weights(spec, "detector", images, tmp_path).read_bytes() == content
    detector = TorchvisionDetector(
        find_model("detector", SSDLITE, first), TORCH, Thresholds(0.0, 50)
    )
    [found] = detector.detect([frame(image_hwc=images[0])])
    assert found.scores[0] > 2 * found.scores[-1]
    assert len(set(found.class_ids.tolist())) > 1


def test_a_classifiers_scores_are_spread(tmp_path: Path) -> None:
    spec = find_model("classifier", "torchvision:convnext_tiny")
    file = random_weights(spec, "classifier", [noise(120, 160, 1)], tmp_path)
    classifier = TorchvisionClassifier(
        find_model("classifier", "torchvision:convnext_tiny", file), TORCH
    )
    logits = classifier.logits(torch.rand(2, 3, 224, 224) * 4 - 2)
    assert 2 < logits.std() < 8


@pytest.mark.usefixtures("_offline")
def test_where_weights_can_t_be_had_they_are_drawn_and_some_objects_are_found(
    tmp_path: Path,
) -> None:
    frames = [frame(index, image_hwc=noise(240, 320, index)) for index in range(2)]
    asked = Settings.model_validate({"sources": ["0"], "detector": SSDLITE})
    settings, note = with_weights("detector", asked, frames, tmp_path)
    assert note == ", random weights"
    assert settings.detector_weights is not None
    spec = find_model("detector", SSDLITE, settings.detector_weights)
    detector = TorchvisionDetector(spec, TORCH, Thresholds(settings.min_score, 100))
    found = sum(len(raw.scores) for raw in detector.detect(frames))
    assert OBJECTS < found < 4 * OBJECTS


def test_one_picture_is_enough(tmp_path: Path) -> None:
    spec = find_model("detector", SSDLITE)
    assert random_weights(spec, "detector", [noise(120, 160)], tmp_path).exists()


@pytest.mark.parametrize("detector", ["bundled:parts", "onnx:any.onnx"])
def test_a_model_that_has_its_weights_keeps_them(detector: str, tmp_path: Path) -> None:
    asked = Settings.model_validate({"sources": ["0"], "detector": detector})
    assert with_weights("detector", asked, [], tmp_path) == (asked, "")


def test_what_is_converted_goes_elsewhere_and_published_weights_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    before = torch.hub.get_dir()
    keep_caches_apart(str(tmp_path))
    assert torch.hub.get_dir() == before
