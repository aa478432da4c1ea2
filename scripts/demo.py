"""`scripts/demo`: the main job on the bundled clip, with a live subscriber in a second process."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.text import Text

from contracts.errors import BadSetting
from scripts.cli import guarded
from scripts.configure import load_settings
from scripts.console import console, set_up_logging
from scripts.run import run

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"


def main(arguments: Sequence[str]) -> int:
    """The clip has been through the pipeline, and the subscriber has printed what it received."""
    if arguments:
        raise BadSetting(f"scripts/demo takes no arguments, got {' '.join(arguments)}")
    set_up_logging("info")
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    settings = load_settings({"zmq": endpoint, "zmq_subscribers": 1}, CONFIG)
    with subscriber(endpoint):
        return run(settings)


def free_port() -> int:
    """A port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def subscriber(endpoint: str) -> Iterator[None]:
    """`framewire listen` runs beside; its lines are shown as they come. Ended and waited for."""
    command = [sys.executable, "-m", "scripts.cli", "listen", endpoint, "--until-end"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        relay = threading.Thread(target=_relay, args=(process,), name="relay", daemon=True)
        relay.start()
        try:
            yield
            relay.join(timeout=10)
        finally:
            process.terminate()
            relay.join()


def _relay(process: "subprocess.Popen[str]") -> None:
    """Above the progress bar, marked as the other process's."""
    for line in process.stdout or ():
        console.print(Text.assemble(("subscriber ", "dim"), line.rstrip()), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
