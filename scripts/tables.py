"""Tables of measurements: for a terminal or, as Markdown, for a document."""

import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from scripts.console import console as standard_error

Item = TypeVar("Item")

LIBRARIES = ("torch", "torchvision", "openvino", "onnxruntime")
PLAIN_WIDTH = 100
"""Of what goes into a file or a pipe."""
MARKDOWN_WIDTH = 400
"""Wide enough that no cell is broken into two lines, which Markdown can't have."""


def standard_output() -> Console:
    """As wide as the terminal, or as a page where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def print_markdown(table: Table) -> None:
    """A row a line."""
    table.box = box.MARKDOWN
    Console(highlight=False, width=MARKDOWN_WIDTH).print(table)


def watched(items: Iterable[Item], doing: str) -> Iterable[Item]:
    """The same, with a progress bar on standard error where somebody sees it."""
    disable = not standard_error.is_terminal
    return track(items, doing, console=standard_error, transient=True, disable=disable)


def machine() -> str:
    """What measured: the processor, the GPU where there is one, the versions of what computes."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    python = f"Python {platform.python_version()}"
    return f"{_processor()}, {torch.get_num_threads()} threads{gpu}; {python}, {versions}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
