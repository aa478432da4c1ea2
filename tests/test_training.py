"""Training learns, writes files that load, and the measurement counts what it says it counts."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from contracts.frame import Frame
from contracts.messages import ModelIdentity
from pipeline.detect import RawDetections
from scripts.conveyor.checkpoints import (
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    load_weights,
    new_classifier,
    new_detector,
    prepare_for_cpu,
    write_back,
)
from scripts.conveyor.evaluate import as_frame, load_models, match, measure
from scripts.conveyor.examples import (
    CLASSIFIER_CATEGORIES,
    DETECTOR_CATEGORIES,
    IGNORED,
    Example,
    crop_of,
    render_examples,
)
from scripts.conveyor.objective import detector_loss
from scripts.conveyor.objective import match as match_anchors
from scripts.conveyor.parts import PART_TYPES
from scripts.conveyor.scene import PartTruth
from scripts.conveyor.staging import HELD_OUT_SEEDS, TRAINING_SEEDS, random_still
from scripts.conveyor.train import Recipe, classifier_step, detector_step, train

WEIGHTS = Path(__file__).parent.parent / "pipeline" / "weights"


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(render_examples(TRAINING_SEEDS[:6], processes=0))


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(1)
    random.seed(1)


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_training_the_detector_lowers_its_loss_and_writes_a_file_that_loads(
    examples: list[Example], tmp_path: Path
) -> None:
    recipe = Recipe(steps=12, batch=4, peak_rate=2e-3)
    path = tmp_path / DETECTOR_FILE
    losses = train(prepare_for_cpu(new_detector()), detector_step(examples, 4), recipe, path)
    assert len(losses) == recipe.steps
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    load_weights(path, new_detector())
    metadata = metadata_of(path)
    assert metadata["architecture"] == "ssdlite320_mobilenet_v3_large"
    assert json.loads(metadata["categories"]) == ["__background__", *PART_TYPES]


def test_training_the_classifier_lowers_its_loss_and_writes_a_file_that_loads(
    examples: list[Example], tmp_path: Path
) -> None:
    path = tmp_path / CLASSIFIER_FILE
    step = classifier_step(examples, 16)
    losses = train(prepare_for_cpu(new_classifier()), step, Recipe(12, 16, 2e-3), path)
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    load_weights(path, new_classifier())
    metadata = metadata_of(path)
    assert json.loads(metadata["categories"]) == list(CLASSIFIER_CATEGORIES)
    assert json.loads(metadata["transform"])["crop_size"] == 128


def test_a_time_limit_ends_the_training_and_still_writes_a_file(
    examples: list[Example], tmp_path: Path
) -> None:
    path, step = tmp_path / CLASSIFIER_FILE, classifier_step(examples, 4)
    recipe = Recipe(steps=10_000, batch=4, peak_rate=1e-3, limit_s=0.5)
    assert len(train(new_classifier(), step, recipe, path)) < 1000
    assert path.exists()


def test_examples_do_not_depend_on_how_many_processes_render_them() -> None:
    (here,) = render_examples(TRAINING_SEEDS[5:6], processes=0)
    (there,) = render_examples(TRAINING_SEEDS[5:6], processes=1)
    assert torch.equal(here.image_chw, there.image_chw)
    assert torch.equal(here.boxes_xyxy, there.boxes_xyxy)
    assert torch.equal(here.crops, there.crops)


ANCHORS = torch.cat([torch.tensor([[x, x, x + 64.0, x + 64.0]]) for x in torch.arange(0, 256, 8.0)])


def test_a_part_smaller_than_every_anchor_still_gets_eight() -> None:
    classes, _ = match_anchors(
        ANCHORS, torch.tensor([[100.0, 100.0, 120.0, 120.0]]), torch.tensor([3])
    )
    assert (classes == 3).sum() >= 8


def test_an_ignored_part_is_no_example_of_anything() -> None:
    box, label = torch.tensor([[100.0, 100.0, 160.0, 160.0]]), torch.tensor([IGNORED])
    classes, _ = match_anchors(ANCHORS, box, label)
    logits = torch.zeros(1, len(ANCHORS), len(DETECTOR_CATEGORIES), requires_grad=True)
    loss = detector_loss(logits, torch.zeros(1, len(ANCHORS), 4), ANCHORS, [box], [label])
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (classes == IGNORED).any()
    assert not gradient[0, classes == IGNORED].any()


def test_a_crop_is_128_wide_and_high_even_of_a_sliver_at_the_edge() -> None:
    frame_chw = torch.zeros(3, 480, 640, dtype=torch.uint8)
    assert crop_of(frame_chw, (638.9, 0.0, 640.0, 40.0)).shape == (3, 128, 128)
    assert crop_of(frame_chw, (700.0, 500.0, 720.0, 520.0)).shape == (3, 128, 128)


class Knowing:
    """Finds exactly what is true, `ignore` parts only if asked to."""

    identity = ModelIdentity(name="knowing", weights_sha256="0" * 64)
    class_names = DETECTOR_CATEGORIES

    def __init__(self, ignored_too: bool) -> None:
        self._ignored_too = ignored_too

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """What `random_still` says of the frame's seed."""
        found = []
        for frame in frames:
            _, truths = random_still(frame.frame_index)
            kept = [t for t in truths if self._ignored_too or not t.ignore]
            boxes = torch.tensor([t.box_xyxy for t in kept]).reshape(-1, 4)
            labels = torch.tensor([DETECTOR_CATEGORIES.index(t.type) for t in kept])
            found.append(RawDetections(boxes, torch.ones(len(kept)), labels))
        return found


@pytest.mark.parametrize("ignored_too", [True, False])
def test_a_detector_that_knows_the_truth_scores_one_whatever_it_does_with_ignored_parts(
    ignored_too: bool,
) -> None:
    seeds = HELD_OUT_SEEDS[:12]
    _, classifier = load_models(WEIGHTS)
    figures = measure(Knowing(ignored_too), classifier, seeds)
    assert figures["map_50"] == figures["map_50_95"] == 1.0
    assert figures["recall"] == figures["precision"] == 1.0
    assert figures["finish_accuracy_on_true_boxes"] == figures["finish_accuracy_on_found_boxes"]


def test_the_default_models_find_and_name_the_parts_of_a_scene_never_trained_on() -> None:
    detector, _ = load_models(WEIGHTS)
    image_hwc, truths = random_still(HELD_OUT_SEEDS[1])
    [found] = detector.detect([as_frame(image_hwc, 0)])
    sure = found.scores >= 0.5
    pairs, _ = match(truths, found.boxes_xyxy[sure], found.class_ids[sure])
    assert len(pairs) == len([truth for truth in truths if not truth.ignore])


def test_two_boxes_on_one_part_are_one_find() -> None:
    truth = PartTruth((10.0, 10.0, 60.0, 60.0), "nut", "steel", 1.0, ignore=False)
    boxes = torch.tensor([truth.box_xyxy, truth.box_xyxy])
    label = DETECTOR_CATEGORIES.index("nut")
    assert match([truth], boxes, torch.tensor([label, label])) == ([(0, truth)], 0)


def test_writing_figures_back_keeps_every_tensor(examples: list[Example], tmp_path: Path) -> None:
    path, step = tmp_path / CLASSIFIER_FILE, classifier_step(examples, 4)
    train(new_classifier(), step, Recipe(1, 4, 1e-3), path)
    before = load_weights(path, new_classifier()).state_dict()
    write_back(path, {"map_50": 0.5})
    after = load_weights(path, new_classifier()).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert json.loads(metadata_of(path)["measured"]) == {"map_50": 0.5}


def test_the_default_weights_load_strictly_and_fit_eight_megabytes_together() -> None:
    load_weights(WEIGHTS / DETECTOR_FILE, new_detector())
    load_weights(WEIGHTS / CLASSIFIER_FILE, new_classifier())
    sizes = [(WEIGHTS / name).stat().st_size for name in (DETECTOR_FILE, CLASSIFIER_FILE)]
    assert sum(sizes) <= 8_000_000


def test_the_default_weights_say_how_well_they_do_on_scenes_never_trained_on() -> None:
    for name in (DETECTOR_FILE, CLASSIFIER_FILE):
        measured = json.loads(metadata_of(WEIGHTS / name)["measured"])
        assert measured["stills"] >= 300
        assert measured["map_50"] >= 0.9
        assert measured["finish_accuracy_on_found_boxes"] >= 0.95
