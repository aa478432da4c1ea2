"""What all tests share: which machine parts are there, and small models with random weights."""

import functools
import http.server
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from pipeline.classify.torchvision import BUILDER_ARGUMENTS
from tests.cameras import RtspServer, camera
from tests.mount import Mount
from tests.resources import held, released

# How long an example takes says nothing here: the machine may be doing other things.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


def pytest_sessionstart() -> None:
    """Ctrl-C reaches the programs that tests start, also where a shell runs us in the background.

    Such a shell ignores SIGINT, and what is ignored stays so in every process started from there.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need what this machine lacks are skipped, and say so."""
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if item.get_closest_marker("shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="no ../shared beside the repository"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What came of each fault, as its test recorded it."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    outcomes = [
        (report.nodeid.rpartition("::test_")[2].replace("_", " "), outcome)
        for report in reports
        for name, outcome in report.user_properties
        if name == "outcome" and report.when == "call"
    ]
    if outcomes:
        terminalreporter.section("faults")
    for fault, outcome in outcomes:
        terminalreporter.line(f"{fault}\n    {outcome}")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process sets its logging up; the next test has its own."""
    root, logger = logging.getLogger(), logging.getLogger("framewire")
    handlers, level = list(root.handlers), logger.level
    yield
    root.handlers = handlers
    logger.setLevel(level)


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """The test leaves no file open, no thread running and no process unburied."""
    before = held()
    yield
    assert released(before), f"{held()} files and threads are held, before it were {before}"
    children = psutil.Process().children()
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []


@pytest.fixture(scope="session")
def steady() -> Iterator[dict[str, Any]]:
    """A camera of 15 frames/s that nothing happens to, for tests of what happens to another one."""
    with RtspServer(Mount("steady", fps=15)) as server:
        yield camera(server.url("steady"), "steady")


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> "RandomWeights":
    """Files of weights for torchvision architectures, made once a session."""
    return RandomWeights(tmp_path_factory.mktemp("weights"))


class RandomWeights:
    """Weights drawn with a fixed seed: they find nothing sensible, but they load and run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def detector(self, architecture: str, classes: int = 91) -> Path:
        """A safetensors file."""
        return self._file(architecture, classes, weights_backbone=None)

    def classifier(self, architecture: str, classes: int = 1000) -> Path:
        """A safetensors file."""
        return self._file(architecture, classes, **BUILDER_ARGUMENTS.get(architecture, {}))

    def _file(self, architecture: str, classes: int, **arguments: Any) -> Path:
        path = self._folder / f"{architecture}-{classes}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            model = get_model(architecture, weights=None, num_classes=classes, **arguments)
            save_file(model.state_dict(), path)
        return path


@pytest.fixture
def served_folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL at which a real HTTP server on the loopback interface serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""
