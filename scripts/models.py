"""`framewire models`: what there is, where its weights come from, and on what terms."""

import hashlib
import json
from pathlib import Path
from urllib.parse import urlparse

import safetensors
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.catalog import Role, find_model, names

TERMS = {
    "bundled": "in the package, Apache-2.0, trained by `python -m scripts.conveyor.train`",
    "torchvision": "downloaded from download.pytorch.org when first used, BSD-3-Clause",
}
TEXT_TERMS = "in the package rapidocr, Apache-2.0, networks of PaddleOCR"
NOTE = """\
torchvision's licence covers its code and its files; they were trained on COCO and ImageNet, whose
own terms may bind you too. A download is checked against the sha256 shown. A file of your own goes
in with --detector-weights or --classifier-weights, under the name of its architecture."""


def show_models(console: Console) -> None:
    """A table for each role and origin, and one for the text head."""
    for role in ("detector", "classifier"):
        for origin in TERMS:
            console.print(f"\n[bold]--{role}[/], {TERMS[origin]}")
            console.print(_table(role, origin))
    _show_text_models(console)
    console.print("\n" + " ".join(NOTE.split()))


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


def _table(role: Role, origin: str) -> Table:
    table = Table()
    table.add_column("name", no_wrap=True)
    table.add_column("classes", justify="right")
    table.add_column("sha256")
    for name in names(role):
        if name.startswith(origin):
            table.add_row(name, *_classes_and_hash(role, name))
    return table


def _classes_and_hash(role: Role, name: str) -> tuple[str, str]:
    """How many classes, and how the SHA-256 of the weights begins."""
    spec = find_model(role, name)
    if spec.weights_file is None:
        file_name = Path(urlparse(spec.weights_url).path)
        return str(len(spec.published.meta["categories"])), file_name.stem.rsplit("-", 1)[-1]
    with safetensors.safe_open(spec.weights_file, "pt") as content:
        classes = len(json.loads(content.metadata()["categories"]))
    return str(classes), hashlib.sha256(spec.weights_file.read_bytes()).hexdigest()[:8]
