"""`framewire models` lists everything that can be named, with its terms, and fits a page."""

from pathlib import Path

import pytest
from rich.console import Console

from pipeline.catalog import find_model, names
from pipeline.detect.families import recognise
from pipeline.weights_file import published_file
from scripts.models import LAYOUTS, show_models


def shown(width: int = 100) -> str:
    console = Console(record=True, width=width)
    show_models(console)
    return console.export_text()


def row_of(text: str, name: str) -> list[str]:
    [row] = [line for line in text.splitlines() if f"│ {name} " in line]
    return [cell.strip() for cell in row.split("│")[1:-1]]


def test_every_model_that_has_a_name_is_listed_on_a_page_100_wide() -> None:
    text = shown()
    assert max(map(len, text.splitlines())) <= 100
    listed = {line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")}
    assert set(names("detector")) | set(names("classifier")) <= listed
    assert "…" not in text


def test_every_layout_is_listed_with_the_licences_of_its_projects() -> None:
    assert LAYOUTS.keys() == recognise.LAYOUTS.keys()
    text = shown()
    assert row_of(text, "yolox") == ["yolox", "YOLOX", "Megvii-BaseDetection/YOLOX", "Apache-2.0"]
    for families in LAYOUTS.values():
        for facts in families:
            assert all(fact in text for fact in facts)


def test_weights_that_are_not_for_commercial_use_say_so() -> None:
    text = shown()
    assert row_of(text, "torchvision:vit_h_14")[2] == "ImageNet-1k, CC BY-NC 4.0"
    assert row_of(text, "torchvision:vit_b_16")[2] == "ImageNet-1k"
    assert row_of(text, "torchvision:ssd300_vgg16")[2] == "COCO"


def test_weights_that_are_downloaded_already_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = published_file(find_model("classifier", "torchvision:resnet18").weights_url)
    file.parent.mkdir(parents=True)
    file.touch()
    text = shown()
    assert row_of(text, "torchvision:resnet18") == [
        *("torchvision:resnet18", "1000", "ImageNet-1k", "f37072fd", "cached")
    ]
    assert row_of(text, "torchvision:resnet34")[-1] == ""


def test_a_narrow_terminal_folds_names_and_cuts_nothing_off() -> None:
    assert "…" not in shown(80)
