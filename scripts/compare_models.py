"""How fast the models are on each runtime here, and whether the runtimes agree, in one table.

`python -m scripts.compare_models --help`. It is `framewire verify` for many models in one run.
Where published weights can't be had, weights are drawn at random (`scripts/random_weights.py`), and
the table says so: their times and their agreement mean something, what they find does not.
"""

import dataclasses
import itertools
import logging
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from rich.table import Column, Table

from contracts.errors import FramewireError
from contracts.settings import Settings
from pipeline.catalog import Role
from pipeline.runtime import AskedRuntime, Precision
from scripts.console import set_up_logging
from scripts.random_weights import found_by_reference, keep_caches_apart, with_weights
from scripts.tables import machine, print_markdown, standard_output
from scripts.verify import (
    Row,
    columns,
    compare_classifier,
    compare_detector,
    lines_of,
    of_classifier,
    print_rows,
    read,
)
from scripts.ways import boxes_of

log = logging.getLogger("framewire.compare")

CLIP = "scripts/demo_clip/conveyor.mp4"
SHARED = ("../shared/data/clips/vtest.avi", "../shared/data/coco-mini/val2017")
APART = 7
"""Neighbouring frames of a clip are nearly the same, so not each of them is taken."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One model to compare, on so many frames, from all sources alike."""

    role: Role
    name: str
    n_frames: int
    masks: bool = False


CASES = (
    Case("detector", "bundled:parts", 20),
    Case("detector", "torchvision:ssdlite320_mobilenet_v3_large", 20),
    Case("detector", "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", 20),
    Case("detector", "torchvision:retinanet_resnet50_fpn_v2", 2),
    Case("detector", "torchvision:maskrcnn_resnet50_fpn_v2", 2, masks=True),
    Case("detector", "onnx:../shared/models/yolox_nano.onnx", 20),
    Case("classifier", "bundled:parts", 20),
    Case("classifier", "torchvision:convnext_tiny", 4),
    Case("classifier", "onnx:out/efficientnet_lite0.onnx", 12),
)


def compare(
    case: Case, uris: Sequence[str], rounds: int, runtime: AskedRuntime, precision: Precision
) -> list[Row]:
    """A row for each way to compute the model. Raises what loading its reference raises."""
    # The bundled models know the parts of their own clip and nothing else.
    bundled = case.name.startswith("bundled:")
    settings = Settings.model_validate(
        {
            "sources": [CLIP] if bundled else list(uris),
            case.role: case.name,
            "masks": case.masks,
            "runtime": runtime,
            "precision": precision,
            # Frames come one by one, so nothing is compiled for more of them together.
            "max_batch": 1,
        }
    )
    of_each = math.ceil(case.n_frames / len(settings.sources))
    frames = [
        frame for source in settings.sources for frame in read(settings, source, of_each, APART)
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings, note = with_weights(case.role, settings, frames, Path(folder))
        if case.role == "detector":
            title = f"detector {case.name}{', masks' * case.masks}{note}"
            return compare_detector(settings, frames, rounds, title)[0]
        found = found_by_reference(settings, frames) if bundled else [[]] * len(frames)
        boxes = boxes_of(frames, found, settings.min_crop_px)
        return compare_classifier(settings, frames, boxes, rounds, of_classifier(settings) + note)


@click.command()
@click.option(
    "--source",
    "uris",
    multiple=True,
    default=SHARED,
    show_default=True,
    help="As in `framewire run`; the bundled models take their own clip.",
)
@click.option("--only", multiple=True, help="Only models whose name contains this.")
@click.option("--rounds", default=3, show_default=True, help="How often each is timed, in turn.")
@click.option(
    "--runtime", type=click.Choice(get_args(AskedRuntime)), default="auto", show_default=True,
    help="Compared with the reference; `auto`: all that start in seconds.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(get_args(Precision)), default="bfloat16", show_default=True,
    help="Compared beside float32 where a runtime has it.",
)  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print the table for a document.")
def main(
    uris: Sequence[str],
    only: Sequence[str],
    rounds: int,
    runtime: AskedRuntime,
    precision: Precision,
    markdown: bool,
) -> None:
    """Time the models on each runtime here and compare what they find."""
    set_up_logging("warning")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        keep_caches_apart(folder)
        for case in CASES:
            if only and not any(part in case.name for part in only):
                continue
            try:
                rows += compare(case, uris, rounds, runtime, precision)
            except FramewireError as error:
                log.warning("skipped: %s %s: %s: %s", case.role, case.name, error.code, error)
    if markdown:
        print_markdown(_one_table(rows))
    else:
        print_rows(rows, standard_output())
    standard_output().print(f"\n{machine()}", soft_wrap=True)


def _one_table(rows: Sequence[Row]) -> Table:
    """All models in one table, the name of each in its first line."""
    table = Table(Column("model"), *columns())
    for model, of_model in itertools.groupby(rows, key=lambda row: row.model):
        for number, line in enumerate(lines_of(list(of_model))):
            table.add_row("" if number else model, *line)
    return table


if __name__ == "__main__":
    main()
