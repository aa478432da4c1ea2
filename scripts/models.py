"""`framewire models`: what there is, where its weights come from, and on what terms."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import safetensors
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from pipeline.catalog import Role, find_model, names
from pipeline.weights_file import published_file

TERMS = {
    "bundled": "in the package, Apache-2.0, trained by `python -m scripts.conveyor.train`",
    "torchvision": "code BSD-3-Clause, weights from download.pytorch.org when first used",
}
DATASETS = {"COCO": "COCO", "IMAGENET1K": "ImageNet-1k"}
"""What weights were trained on, by how torchvision's names for them begin."""

LAYOUTS = {
    "yolox": (("YOLOX", "Megvii-BaseDetection/YOLOX", "Apache-2.0"),),
    "yolov5": (
        ("YOLOv5", "ultralytics/yolov5", "AGPL-3.0"),
        ("YOLOv7", "WongKinYiu/yolov7", "GPL-3.0"),
    ),
    "yolov8": (
        ("YOLOv8, YOLO11", "ultralytics/ultralytics", "AGPL-3.0"),
        ("YOLOv9", "WongKinYiu/yolov9", "GPL-3.0"),
        ("YOLOv12", "sunsmarterjie/yolov12", "AGPL-3.0"),
    ),
    "nms_free": (
        ("YOLOv10", "THU-MIG/yolov10", "AGPL-3.0"),
        ("YOLO26", "ultralytics/ultralytics", "AGPL-3.0"),
    ),
    "rtdetr": (
        ("RT-DETR from transformers", "lyuwenyu/RT-DETR", "Apache-2.0"),
        ("D-FINE from transformers", "Peterande/D-FINE", "Apache-2.0"),
    ),
    "rtdetr_scored": (
        ("RT-DETR, its own export", "lyuwenyu/RT-DETR", "Apache-2.0"),
        ("D-FINE, its own export", "Peterande/D-FINE", "Apache-2.0"),
    ),
    "rfdetr": (
        ("RF-DETR, nano to large", "roboflow/rf-detr", "Apache-2.0"),
        ("RF-DETR, XL and 2XL", "roboflow/rf-detr-plus", "PML-1.0"),
    ),
}
"""By `--layout`: the families whose exports read so, the project each is from, and its licence."""

LAYOUT_TERMS = "a file of your own, exported by the project that made it"
TEXT_TERMS = "in the package rapidocr, Apache-2.0, networks of PaddleOCR"
NOTE = """\
A download is checked against the sha256 shown. Weights may have terms of their own, from what they
were trained on: COCO's pictures are Flickr users', ImageNet's are for research, and torchvision
says that it is up to you whether you may use them. Some that it hosts are Meta's SWAG, not for
commercial use. A file of your own goes in with --detector-weights or --classifier-weights, under
the name of its architecture. framewire imports nothing of the projects behind the ONNX layouts;
the licence of each holds for its files and for what you export with it."""


def show_models(console: Console) -> None:
    """A table for each role and origin, one for ONNX files, and one for the text head."""
    for role in ("detector", "classifier"):
        for origin in TERMS:
            console.print(f"\n[bold]--{role}[/], {TERMS[origin]}", soft_wrap=True)
            console.print(_named_table(role, origin))
    console.print(f"\n[bold]--detector onnx:FILE[/], {LAYOUT_TERMS}")
    console.print(_layout_table())
    _show_text_models(console)
    console.print("\n" + " ".join(NOTE.split()), highlight=False)


def _named_table(role: Role, origin: str) -> Table:
    table = Table(
        Column("name", overflow="fold"),
        Column("classes", justify="right", no_wrap=True),
        Column("trained on", no_wrap=True),
        Column("sha256", no_wrap=True),
        Column("here", no_wrap=True),
    )
    for name in names(role):
        if name.startswith(origin):
            table.add_row(name, *_facts(role, name))
    return table


def _facts(role: Role, name: str) -> Iterator[str]:
    """How many classes, what they were learned from, the weights' SHA-256, and whether they are
    on this machine.
    """
    spec = find_model(role, name)
    if spec.weights_file is None:
        file = published_file(spec.weights_url)
        yield str(len(spec.published.meta["categories"]))
        yield _trained_on(spec.published)
        yield file.stem.rsplit("-", 1)[-1]
        yield "cached" if file.exists() else ""
        return
    with safetensors.safe_open(spec.weights_file, "pt") as content:
        yield str(len(json.loads(content.metadata()["categories"])))
    yield "rendered scenes"
    yield hashlib.sha256(spec.weights_file.read_bytes()).hexdigest()[:8]
    yield "bundled"


def _trained_on(published: Any) -> str:
    """The data set, with the licence of the weights where torchvision's record has one."""
    known = next(name for start, name in DATASETS.items() if published.name.startswith(start))
    return f"{known}, CC BY-NC 4.0" if "SWAG" in published.meta.get("license", "") else known


def _layout_table() -> Table:
    details = (Column(name, overflow="fold") for name in ("family", "project"))
    table = Table(Column("--layout", no_wrap=True), *details, Column("licence", no_wrap=True))
    for layout, families in LAYOUTS.items():
        for number, facts in enumerate(families):
            table.add_row("" if number else layout, *facts)
    return table


def _show_text_models(console: Console) -> None:
    """The whole, as results name it, and the files that it is made of."""
    console.print(f"\n[bold]--text[/], {TEXT_TERMS}")
    try:
        from pipeline.text.rapidocr import read_files
    except ImportError:
        console.print(Text("not installed: pip install 'framewire[text]'"))
        return
    contents = read_files()
    table = Table("name", "sha256")
    table.add_row("rapidocr", hashlib.sha256(b"".join(contents.values())).hexdigest()[:8])
    for name, content in contents.items():
        table.add_row(f"  {name}", hashlib.sha256(content).hexdigest()[:8])
    console.print(table)
