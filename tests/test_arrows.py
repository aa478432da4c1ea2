"""Which package may import which: contracts nothing of ours, the others contracts only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("contracts", "stream", "pipeline", "sinks", "scripts")
ALLOWED = {
    "contracts": set[str](),
    "stream": {"contracts"},
    "pipeline": {"contracts"},
    "sinks": {"contracts"},
}
HEAVY = {"torch", "torchvision", "cv2", "av", "zmq"}
HEAVY_ALLOWED = {
    "contracts": set[str](),
    "stream": {"av", "cv2"},
    "pipeline": {"torch", "torchvision", "cv2"},
    "sinks": {"av", "cv2", "zmq"},
}


def imported(path: Path) -> Iterator[str]:
    """The top-level names that a file imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").partition(".")[0]


def imports_of(package: str) -> set[str]:
    """Everything that the package's files import."""
    return {name for path in (ROOT / package).rglob("*.py") for name in imported(path)}


@pytest.mark.parametrize("package", ALLOWED)
def test_package_imports_contracts_and_no_sibling(package: str) -> None:
    assert imports_of(package) & set(PACKAGES) <= ALLOWED[package] | {package}


@pytest.mark.parametrize("package", HEAVY_ALLOWED)
def test_package_imports_only_the_libraries_that_it_wraps(package: str) -> None:
    assert imports_of(package) & HEAVY <= HEAVY_ALLOWED[package]


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that are loaded when a new interpreter has run the statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())


def test_messages_need_only_pydantic() -> None:
    loaded = loaded_after("import contracts.messages")
    assert "pydantic" in loaded
    assert not loaded & (HEAVY | {"numpy", "rich", "typer"})


@pytest.mark.parametrize("module", ["boxes", "errors", "frame", "ledger", "settings", "wire"])
def test_contracts_import_without_torch_and_without_codecs(module: str) -> None:
    assert not loaded_after(f"import contracts.{module}") & HEAVY


def test_a_subscribers_client_needs_only_pyzmq_and_pydantic() -> None:
    loaded = loaded_after("from sinks.client import subscribe, asubscribe")
    assert {"zmq", "pydantic"} <= loaded
    packages = {"numpy", "torch", "torchvision", "cv2", "av", "rich", "click", "yaml", "PIL"}
    assert not loaded & packages


def test_listening_needs_neither_torch_nor_pictures() -> None:
    loaded = loaded_after("import scripts.listen")
    assert "zmq" in loaded
    assert not loaded & {"torch", "torchvision", "numpy", "cv2", "av"}


def test_sinks_need_no_torch() -> None:
    sinks = "sinks.deliver, sinks.jsonl, sinks.zmq, sinks.video, sinks.http.app, sinks.http.server"
    loaded = loaded_after(f"import {sinks}")
    assert not loaded & {"torch", "torchvision"}
