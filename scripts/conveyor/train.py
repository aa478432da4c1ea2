"""Trains the two models of the default pipeline from nothing but rendered scenes.

`python -m scripts.conveyor.train --out pipeline/weights` writes `parts_detector.safetensors`
(torchvision's SSDLite, it finds the parts) and `parts_classifier.safetensors` (torchvision's
MobileNetV3 small, it names a part's finish). Both files hold an exponential moving average of the
weights in half precision, and are replaced as training goes on, so that stopping early leaves
usable ones. On a machine that does other things too, set OMP_WAIT_POLICY=PASSIVE: threads that wait
for each other by spinning made it several times slower.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection.image_list import ImageList

from scripts.conveyor.checkpoints import (
    CLASSIFIER_FILE,
    DETECTOR_FILE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    metadata_of,
    new_classifier,
    new_detector,
    prepare_for_cpu,
    save_weights,
)
from scripts.conveyor.examples import DETECTOR_SIDE_PX, Example, render_examples
from scripts.conveyor.objective import detector_loss
from scripts.conveyor.staging import TRAINING_SEEDS

# The first part of the detector's training sees smaller frames: twice the steps for the same time.
_SMALL_SIDE_PX, _SMALL_FRACTION = 224, 0.35
_SAVE_EVERY = 200


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how hard to train; `limit_s` ends the schedule early, still at a low rate."""

    steps: int
    batch: int
    peak_rate: float
    limit_s: float = math.inf


def train(
    model: nn.Module,
    loss_of_step: Callable[[nn.Module, float], Tensor],
    recipe: Recipe,
    path: Path,
    progress: Progress | None = None,
) -> list[float]:
    """Trains, saves the averaged weights to `path`, and returns the loss of each step.

    `loss_of_step` is given the model and how much of the training is done (0 to 1).
    """
    _follow_quickly(model)
    # The average reaches back about a twentieth of the training.
    average = partial(_moving_average, longest=max(0.0, 1.0 - 20.0 / recipe.steps))
    averaged = AveragedModel(model, avg_fn=average, use_buffers=True)
    optimizer = torch.optim.AdamW(_decayed_or_not(model), lr=recipe.peak_rate)
    task = progress.add_task(path.stem, total=recipe.steps, loss=0.0) if progress else None
    losses: list[float] = []
    begun_s, done = time.monotonic(), 0.0
    while done < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak_rate * _rate(done)
        loss = loss_of_step(model.train(), done)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        averaged.update_parameters(model)
        losses.append(loss.item())
        done = max(len(losses) / recipe.steps, (time.monotonic() - begun_s) / recipe.limit_s)
        if progress and task is not None:
            recent = losses[-50:]
            progress.update(task, completed=len(losses), loss=sum(recent) / len(recent))
        if done >= 1.0 or len(losses) % _SAVE_EVERY == 0:
            save_weights(path, averaged.module.state_dict(), metadata_of(model))
    return losses


def _follow_quickly(model: nn.Module) -> None:
    """Batch norms made for long trainings would lag behind the weights of a short one."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.05


def _moving_average(average: Tensor, now: Tensor, count: Tensor | int, longest: float) -> Tensor:
    """Forgets quickly at first, when the weights are still far from anything worth keeping."""
    if not average.is_floating_point():
        return now
    keep = min(longest, (1.0 + int(count)) / (10.0 + int(count)))
    return average.lerp(now, 1.0 - keep)


def _decayed_or_not(model: nn.Module) -> list[dict[str, object]]:
    """Weight decay is for matrices and kernels, not for biases and batch norms."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.02},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _rate(done: float) -> float:
    """The learning rate over its peak: up for the first 4 %, then down a cosine."""
    if done < 0.04:
        return max(done / 0.04, 0.02)
    cosine = torch.cos(torch.tensor((done - 0.04) / 0.96 * torch.pi)).item()
    return max(0.5 * (1.0 + cosine), 0.003)


def _shuffled(count: int, batch: int) -> Iterator[Tensor]:
    """Index batches for ever, each pass over the examples in a new order."""
    while True:
        order = torch.randperm(count)
        # A last, shorter batch would upset the batch norms; it is left for another pass.
        yield from order[: max(count // batch, 1) * batch].view(-1, min(batch, count))


def _varied(images: Tensor, strength: float) -> Tensor:
    """(b, 3, h, w) in 0..1 with other exposure, contrast and colour cast."""
    gain = 1.0 + strength * (torch.rand(len(images), 1, 1, 1) * 2.0 - 1.0)
    cast = 1.0 + 0.25 * strength * (torch.rand(len(images), 3, 1, 1) * 2.0 - 1.0)
    return (images * gain * cast).clamp(0.0, 1.0)


def detector_step(examples: list[Example], batch: int) -> Callable[[nn.Module, float], Tensor]:
    """The detector's loss on the next batch, of frames flipped and lit at random."""
    batches = _shuffled(len(examples), batch)

    def loss_of_step(model: nn.Module, done: float) -> Tensor:
        chosen = [_flipped(examples[int(i)]) for i in next(batches)]
        images = _varied(torch.stack([image for image, _, _ in chosen]).float() / 255.0, 0.15)
        side = _SMALL_SIDE_PX if done < _SMALL_FRACTION else DETECTOR_SIDE_PX
        if side != DETECTOR_SIDE_PX:
            images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        images = ((images - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = list(model.get_submodule("backbone")(images).values())
            out = model.get_submodule("head")(features)
        sizes = ImageList(images[:1], [(side, side)])
        anchors = model.get_submodule("anchor_generator")(sizes, [f[:1] for f in features])[0]
        boxes = [box * (side / DETECTOR_SIDE_PX) for _, box, _ in chosen]
        labels = [label for _, _, label in chosen]
        return detector_loss(
            out["cls_logits"].float(), out["bbox_regression"].float(), anchors, boxes, labels
        )

    return loss_of_step


def _flipped(example: Example) -> tuple[Tensor, Tensor, Tensor]:
    """The example's image, boxes and labels, mirrored across either axis or both or neither."""
    image, (x1, y1, x2, y2) = example.image_chw, example.boxes_xyxy.unbind(1)
    if random.random() < 0.5:
        image, x1, x2 = image.flip(2), DETECTOR_SIDE_PX - x2, DETECTOR_SIDE_PX - x1
    if random.random() < 0.5:
        image, y1, y2 = image.flip(1), DETECTOR_SIDE_PX - y2, DETECTOR_SIDE_PX - y1
    return image, torch.stack((x1, y1, x2, y2), dim=1), example.labels


def classifier_step(examples: list[Example], batch: int) -> Callable[[nn.Module, float], Tensor]:
    """The classifier's loss on the next batch of crops, flipped and lit at random."""
    crops, finishes = (
        torch.cat([e.crops for e in examples]),
        torch.cat([e.finishes for e in examples]),
    )
    batches = _shuffled(len(crops), batch)
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)

    def loss_of_step(model: nn.Module, _done: float) -> Tensor:
        chosen = next(batches)
        images = _varied(crops[chosen].float() / 255.0, 0.2)
        images = images.flip([axis for axis in (2, 3) if random.random() < 0.5])
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(images)
        return functional.cross_entropy(logits.float(), finishes[chosen], label_smoothing=0.02)

    return loss_of_step


@click.command()
@click.option("--out", type=Path, default=Path("pipeline/weights"), help="Folder for the files.")
@click.option("--stills", default=3000, show_default=True, help="Scenes to render and train on.")
@click.option("--classifier-steps", default=900, show_default=True)
@click.option("--detector-steps", default=1600, show_default=True)
@click.option("--limit-minutes", default=math.inf, help="Ends the detector's training early.")
@click.option("--processes", default=os.cpu_count(), help="For rendering.")
def main(
    out: Path,
    stills: int,
    classifier_steps: int,
    detector_steps: int,
    limit_minutes: float,
    processes: int,
) -> None:
    """Render the training scenes, then train the classifier and the detector on them."""
    torch.manual_seed(0)
    random.seed(0)
    rendering = render_examples(TRAINING_SEEDS[:stills], processes)
    examples = list(track(rendering, "rendering", total=stills))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[loss]:.3f}")) as bars:
        recipe = Recipe(classifier_steps, batch=64, peak_rate=2e-3)
        step, path = classifier_step(examples, recipe.batch), out / CLASSIFIER_FILE
        train(prepare_for_cpu(new_classifier()), step, recipe, path, bars)
        recipe = Recipe(detector_steps, 16, peak_rate=2e-3, limit_s=60.0 * limit_minutes)
        step, path = detector_step(examples, recipe.batch), out / DETECTOR_FILE
        train(prepare_for_cpu(new_detector()), step, recipe, path, bars)


if __name__ == "__main__":
    main()
