"""Whether crops are cut and scaled as the classifier's own library does it, on real objects.

`python -m scripts.measure_crops --help`. Each annotated box of a COCO folder goes to the classifier
twice: cut by the pipeline, all boxes of an image at once; and one by one through torchvision's own
transform of the same pixels. That takes tensors, or pictures of Pillow's, which resizes in two
passes and rounds to whole grey levels after each; a tensor is rounded once, as ours is. So these
two are compared with each other as well: where they disagree there is no one right answer.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch
from PIL import Image
from pycocotools.coco import COCO
from rich.table import Column, Table
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from contracts.boxes import BoxXYXY
from contracts.errors import BadSetting, FramewireError
from contracts.settings import Settings
from pipeline.classify import Classifier
from pipeline.classify.onnx import OnnxClassifier
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.crop import CropBox, CropTransform, crop, pixel_bounds
from pipeline.device import choose_device
from pipeline.load import load_classifier
from scripts.console import set_up_logging
from scripts.evaluate_coco import EXISTING, MAX_PIXELS, quietly
from scripts.tables import machine, print_markdown, standard_output, watched
from stream.images import read_image

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

CLOSE = 0.02
"""Scores are close whose largest difference is no more than this of the largest score."""


@dataclasses.dataclass
class Difference:
    """How the scores of two ways to cut differ."""

    crops: int = 0
    same_class: int = 0
    """The same class is the likeliest."""
    close: int = 0
    worst: float = 0.0
    """The largest difference, as a part of the largest score."""

    def note(self, first: Tensor, second: Tensor) -> None:
        """Counts the crops whose scores (K, classes) these are."""
        gaps = (first - second).abs().amax(dim=1) / second.abs().amax(dim=1)
        self.crops += len(gaps)
        self.same_class += int((first.argmax(dim=1) == second.argmax(dim=1)).sum())
        self.close += int((gaps <= CLOSE).sum())
        self.worst = max(self.worst, float(gaps.max()))


def measure(classifier: Classifier, images: Path, truth: COCO) -> dict[str, Difference]:
    """By the names of the two ways, over all annotated objects large enough to be classified."""
    seen = {name: Difference() for name in ("ours, tensors", "ours, pictures", "tensors, pictures")}
    device = choose_device("auto")
    entries = list(truth.imgs.values())
    for entry in watched(entries, "measuring"):
        image = read_image(images / entry["file_name"], MAX_PIXELS)
        boxes = list(boxes_of(truth, entry["id"], image))
        if not boxes:
            continue
        cuts = [CropBox(0, box) for box in boxes]
        ours = scores_of(classifier, crop([image], cuts, classifier.transform, device))
        tensors, pictures = (
            scores_of(classifier, prepared.to(device))
            for prepared in as_the_library(image, boxes, classifier.transform)
        )
        pairs = ((ours, tensors), (ours, pictures), (tensors, pictures))
        for difference, pair in zip(seen.values(), pairs, strict=True):
            difference.note(*pair)
    return seen


def boxes_of(truth: COCO, image_id: int, image_hwc: "ImageHWC") -> Iterator[BoxXYXY]:
    """The objects, inside the image, that `min_crop_px` lets through. Crowds are no objects."""
    height, width = image_hwc.shape[:2]
    min_px = Settings.model_fields["min_crop_px"].default
    for annotation in truth.imgToAnns[image_id]:
        x, y, box_width, box_height = annotation["bbox"]
        if not annotation["iscrowd"] and min(box_width, box_height) >= min_px:
            yield x, y, min(x + box_width, width), min(y + box_height, height)


def as_the_library(
    image_hwc: "ImageHWC", boxes: Sequence[BoxXYXY], transform: CropTransform
) -> tuple[Tensor, Tensor]:
    """(K, 3, S, S) from torchvision's transform, given tensors and given Pillow's pictures."""
    prepare = ImageClassification(
        crop_size=transform.crop_size,
        resize_size=transform.resize_size,
        mean=transform.mean,
        std=transform.std,
        interpolation=InterpolationMode(transform.interpolation),
    )
    bounds = [pixel_bounds(box) for box in boxes]
    cuts = [image_hwc[y1:y2, x1:x2] for x1, y1, x2, y2 in bounds]
    tensors = [prepare(torch.from_numpy(cut).permute(2, 0, 1)) for cut in cuts]
    pictures = [prepare(Image.fromarray(cut)) for cut in cuts]
    return torch.stack(tensors), torch.stack(pictures)


@torch.inference_mode()
def scores_of(classifier: Classifier, crops: Tensor) -> Tensor:
    """(K, classes) on the CPU, as the network gives them: logits, unless it ends in a softmax."""
    if isinstance(classifier, TorchvisionClassifier):
        return classifier.logits(crops).cpu()
    if isinstance(classifier, OnnxClassifier):
        return torch.from_numpy(classifier.network.run(crops.cpu().numpy())[0])
    raise BadSetting(f"{classifier.identity.name}: gives no scores for each class")


def table_of(seen: dict[str, Difference]) -> Table:
    """A line for each pair of ways."""
    names = ("crops", "same likeliest class", f"scores within {CLOSE:.0%}", "worst score")
    table = Table("cut by", *(Column(name, justify="right") for name in names))
    for name, difference in seen.items():
        shares = (
            f"{part / difference.crops:.2%}" for part in (difference.same_class, difference.close)
        )
        table.add_row(name, str(difference.crops), *shares, f"{difference.worst:.2%}")
    return table


@click.command()
@click.option("--classifier", default="bundled:parts", show_default=True)
@click.option("--images", type=EXISTING, required=True, help="Folder of the images.")
@click.option("--annotations", type=EXISTING, required=True, help="COCO's instances_….json.")
@click.option("--markdown", is_flag=True, help="Print the table for a document.")
def main(classifier: str, images: Path, annotations: Path, markdown: bool) -> None:
    """Compare the pipeline's crops with torchvision's own transform by what a classifier says."""
    set_up_logging("warning")
    try:
        settings = Settings.model_validate({"sources": [str(images)], "classifier": classifier})
        loaded = load_classifier(settings, choose_device("auto"))
        seen = measure(loaded, images, quietly(lambda: COCO(annotations)))
    except FramewireError as error:
        raise click.ClickException(f"{error.code}: {error}") from error
    output = standard_output()
    output.print(f"{classifier}: {loaded.transform}\n", soft_wrap=True)
    print_markdown(table_of(seen)) if markdown else output.print(table_of(seen))
    output.print(f"\n{machine()}", soft_wrap=True)


if __name__ == "__main__":
    main()
