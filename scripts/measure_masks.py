"""Whether masks can be read by COCO's own tools, and how large they make a message.

`python -m scripts.measure_masks --help`. Frames are scaled to 1080p and go through the pipeline
with Mask R-CNN; the ten best objects of each are looked at. Where the published weights can't be
had, random ones are drawn, whose masks mean nothing.
"""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from rich.table import Table

from contracts.errors import FramewireError, InferenceError
from contracts.frame import Frame
from contracts.messages import Detection, FrameResult, MaskRle
from contracts.settings import Settings
from pipeline.detect.masks import encode_masks
from pipeline.inference import Pipeline, infer
from pipeline.load import load_pipeline
from scripts.compare_models import APART, SHARED
from scripts.console import set_up_logging
from scripts.random_weights import keep_caches_apart, with_weights
from scripts.tables import machine, print_markdown, standard_output, watched
from scripts.verify import read

DETECTOR = "torchvision:maskrcnn_resnet50_fpn_v2"
OBJECTS = 10
SIZE = (1080, 1920)
SLACK_PX = 2
"""torchvision pastes a mask into its box in whole pixels, so it may stick out by the rounding."""


@dataclasses.dataclass
class Seen:
    """What was seen of the masks and of the messages that carry them."""

    masks: int = 0
    of_frame_size: int = 0
    inside_box: int = 0
    """Without a pixel that is more than `SLACK_PX` outside."""
    message_bytes: list[int] = dataclasses.field(default_factory=list)


def measure(pipeline: Pipeline, frames: Iterable[Frame]) -> Seen:
    """Each frame through the pipeline alone."""
    seen = Seen()
    for frame in frames:
        [result] = infer(pipeline, [frame])
        if not isinstance(result, FrameResult):
            raise InferenceError(f"{frame.image_id}: {result.code}: {result.message}")
        seen.message_bytes.append(len(result.model_dump_json()))
        for detection in result.detections:
            pixels = (
                decode(detection.mask_rle) if detection.mask_rle else np.zeros((0, 0), np.uint8)
            )
            seen.masks += 1
            seen.of_frame_size += pixels.shape == (frame.height, frame.width)
            seen.inside_box += not outside(pixels, detection).any()
    return seen


def decode(mask: MaskRle) -> NDArray[np.uint8]:
    """(height, width), 1 where the object is, by COCO's own decoder."""
    pixels: NDArray[np.uint8] = coco_mask.decode({"size": list(mask.size), "counts": mask.counts})
    return pixels


def outside(pixels: NDArray[np.uint8], detection: Detection) -> NDArray[np.uint8]:
    """The mask's pixels without those in the box and next to it."""
    x1, y1, x2, y2 = detection.box
    rest = pixels.copy()
    low = [max(int(side) - SLACK_PX, 0) for side in (x1, y1)]
    rest[low[1] : int(y2) + 1 + SLACK_PX, low[0] : int(x2) + 1 + SLACK_PX] = 0
    return rest


def at_1080p(frame: Frame) -> Frame:
    """The same picture, stretched."""
    stretched = cv2.resize(frame.image_hwc, SIZE[::-1]).astype(np.uint8, copy=False)
    return dataclasses.replace(frame, image_hwc=stretched)


def bytes_at_worst() -> int:
    """Of the masks of `OBJECTS` objects as large as the frame, their every pixel drawn at random.

    A mask is 28 × 28 pixels before it is stretched over its box.
    """
    noise = torch.rand(OBJECTS, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0.0, SIZE[1], SIZE[0]]] * OBJECTS)
    return sum(len(mask.model_dump_json()) for mask in encode_masks(noise, boxes, *SIZE))


def load(settings: Settings, frames: Sequence[Frame], folder: Path) -> tuple[Pipeline, str]:
    """The pipeline with masks, and a note on its weights."""
    settings, note = with_weights("detector", settings, frames, folder)
    best = {"min_score": 0.0, "max_detections": OBJECTS}
    return load_pipeline(settings.model_copy(update=best)), note


def table_of(seen: Seen) -> Table:
    """A line for each figure."""
    table = Table("figure", "value")
    table.add_row("masks", str(seen.masks))
    table.add_row("decode to the frame's size", str(seen.of_frame_size))
    table.add_row(f"lie in their box ({SLACK_PX} px for rounding)", str(seen.inside_box))
    sizes = [size / 1e3 for size in seen.message_bytes]
    text = f"{np.median(sizes):.1f} ({min(sizes):.1f}–{max(sizes):.1f})"
    table.add_row(f"message of {OBJECTS} objects at 1080p, kB of JSON", text)
    table.add_row("the same, of noise all over the frame", f"{bytes_at_worst() / 1e3:.0f}")
    return table


@click.command()
@click.option("--source", default=SHARED[0], show_default=True, help="As in `framewire run`.")
@click.option("--frames", "n_frames", default=3, show_default=True)
@click.option("--markdown", is_flag=True, help="Print the table for a document.")
def main(source: str, n_frames: int, markdown: bool) -> None:
    """Decode Mask R-CNN's masks with pycocotools, and weigh the messages that carry them."""
    set_up_logging("warning")
    given = {"sources": [source], "detector": DETECTOR, "classifier": "none", "masks": True}
    settings = Settings.model_validate(given)
    try:
        frames = [at_1080p(f) for f in read(settings, settings.sources[0], n_frames, APART)]
        with tempfile.TemporaryDirectory() as folder:
            keep_caches_apart(folder)
            pipeline, note = load(settings, frames, Path(folder))
        bar = watched(frames, "measuring")
        seen = measure(pipeline, bar)
    except FramewireError as error:
        raise click.ClickException(f"{error.code}: {error}") from error
    output = standard_output()
    output.print(f"{len(frames)} frames of {source}, {DETECTOR}{note}\n", soft_wrap=True)
    print_markdown(table_of(seen)) if markdown else output.print(table_of(seen))
    output.print(f"\n{machine()}", soft_wrap=True)


if __name__ == "__main__":
    main()
