"""`scripts/soak`: four cameras, broken again and again, and what a real run makes of them.

Each camera has a server of its own, behind a proxy of its own. A seeded choice kills, freezes, cuts
or swallows one of them every few seconds, and heals it a little later. The run is the real command
with the bundled models, watched from outside: by its messages, and by the operating system.
"""

import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import psutil
import yaml
import zmq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from contracts.messages import FrameResult, SourceEnd, SourceEvent, parse_message
from contracts.wire import HEARTBEAT_TOPIC
from tests.cameras import RtspServer
from tests.lossy_proxy import TcpProxy
from tests.mount import Mount

N_CAMERAS = 4
FPS = 5.0
SAMPLE_EVERY_S = 1.0
HEALTHY_S = (4.0, 10.0)
BROKEN_S = (1.0, 8.0)

console = Console(highlight=False)


class Sample(NamedTuple):
    """The process as the operating system sees it."""

    at_s: float
    rss_mb: float
    fds: int
    threads: int


class Camera(NamedTuple):
    """A server and the line to it."""

    server: RtspServer
    proxy: TcpProxy


FAULTS: dict[str, tuple[Callable[[Camera], None], Callable[[Camera], None]]] = {
    "kill and restart": (lambda one: one.server.kill(), lambda one: one.server.restart()),
    "freeze and thaw": (lambda one: one.server.freeze(), lambda one: one.server.thaw()),
    "reset": (lambda one: one.proxy.cut(), lambda _one: None),
    "black hole": (lambda one: one.proxy.black_hole(), lambda one: one.proxy.heal()),
}


class Watcher(threading.Thread):
    """Subscribes to the run and keeps what matters of its messages."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self.endpoint = endpoint
        self.latency_ms: list[tuple[float, float]] = []
        self.states: Counter[str] = Counter()
        self.ends: dict[str, SourceEnd] = {}
        self.gaps = 0
        self.first_result = threading.Event()
        self._last: dict[str, int] = {}
        self._over = threading.Event()

    def run(self) -> None:
        """Until `stop`, and then until nothing comes any more."""
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe(b"")
            socket.connect(self.endpoint)
            while socket.poll(500) or not self._over.is_set():
                with contextlib.suppress(zmq.Again):
                    topic, _header, payload = socket.recv_multipart(zmq.NOBLOCK)
                    if topic != HEARTBEAT_TOPIC.encode():
                        self._take(payload)

    def stop(self) -> None:
        """What was sent is still taken."""
        self._over.set()
        self.join()

    def _take(self, payload: bytes) -> None:
        match parse_message(payload):
            case FrameResult() as result:
                self.first_result.set()
                self.latency_ms.append((time.monotonic(), result.latency_ms))
                self.gaps += result.sequence != self._last.get(result.source_id, -1) + 1
                self._last[result.source_id] = result.sequence
            case SourceEvent(state=state, code=code):
                self.states[f"{state} ({code})" if code else state] += 1
            case SourceEnd() as end:
                self.ends[end.source_id] = end


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.2), default=10.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the faults.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/soak.json"))
def main(minutes: float, seed: int, out: Path) -> None:
    """Soak the pipeline. Exit status 1 where the account does not close or something leaks."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cameras = [stack.enter_context(camera()) for _ in range(N_CAMERAS)]
        watcher = Watcher(f"ipc://{folder}/wire")
        run = stack.enter_context(running(folder, cameras, watcher.endpoint))
        watcher.start()
        watcher.first_result.wait(120)
        samples, broken = soak(psutil.Process(run.pid), cameras, minutes * 60, random.Random(seed))
        run.send_signal(signal.SIGINT)
        status = run.wait(120)
        watcher.stop()
    figures = figures_of(samples, watcher, broken, status)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    show(figures)
    sys.exit(bool(figures["complaints"]))


@contextlib.contextmanager
def camera() -> Iterator[Camera]:
    """A camera that behaves, so far."""
    with RtspServer(Mount("cam", fps=FPS)) as server, TcpProxy(server.port) as proxy:
        yield Camera(server, proxy)


@contextlib.contextmanager
def running(
    folder: Path, cameras: Sequence[Camera], endpoint: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The real command on all cameras."""
    sources = [
        {
            "id": f"cam{number}",
            "uri": one.server.url("cam", port=one.proxy.port),
            "stall_timeout_s": 3.0,
            "open_timeout_s": 5.0,
            "max_retry_s": 4.0,
        }
        for number, one in enumerate(cameras)
    ]
    settings = {"sources": sources, "zmq": endpoint, "zmq_subscribers": 1}
    config = folder / "soak.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "scripts.cli", "run", "--config", str(config)]
    with subprocess.Popen([*command, "--log-level", "error"]) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def soak(
    process: psutil.Process, cameras: Sequence[Camera], lasts_s: float, rng: random.Random
) -> tuple[list[Sample], Counter[str]]:
    """Samples of the process while its cameras are broken and healed, and what was done to them."""
    started_s = time.monotonic()
    samples: list[Sample] = []
    broken: Counter[str] = Counter()
    over = threading.Event()
    breakers = [
        threading.Thread(target=torment, args=(one, random.Random(rng.random()), over, broken))
        for one in cameras
    ]
    for breaker in breakers:
        breaker.start()
    try:
        for step in track(range(int(lasts_s / SAMPLE_EVERY_S)), "soaking", console=console):
            at_s = (step + 1) * SAMPLE_EVERY_S
            over.wait(max(started_s + at_s - time.monotonic(), 0.0))
            rss_mb = process.memory_info().rss / 1e6
            now_s = time.monotonic()
            samples.append(Sample(now_s, rss_mb, process.num_fds(), process.num_threads()))
    finally:
        over.set()
        for breaker in breakers:
            breaker.join()
    return samples, broken


def torment(
    camera: Camera, rng: random.Random, over: threading.Event, broken: Counter[str]
) -> None:
    """The camera is broken and healed until it is over, and left healed."""
    while not over.wait(rng.uniform(*HEALTHY_S)):
        name = rng.choice(list(FAULTS))
        harm, heal = FAULTS[name]
        harm(camera)
        broken[name] += 1
        over.wait(rng.uniform(*BROKEN_S))
        heal(camera)


def figures_of(
    samples: Sequence[Sample], watcher: Watcher, broken: Counter[str], status: int
) -> dict[str, object]:
    """Everything measured, and what there is to complain of."""
    first_s, last_s = samples[0].at_s, samples[-1].at_s
    # The first minute is warm-up: models, codecs and allocators take what they need.
    early = window(samples, watcher, first_s + min(60.0, (last_s - first_s) / 3))
    late = window(samples, watcher, last_s)
    ledgers = {name: end.ledger for name, end in watcher.ends.items()}
    complaints = [
        *(f"{name}: the account does not close" for name, one in ledgers.items() if open_(one)),
        *([] if len(ledgers) == N_CAMERAS else ["a source had no end"]),
        *([f"exit status {status}"] if status else []),
        *([f"{watcher.gaps} gaps in a sequence"] if watcher.gaps else []),
    ]
    return {
        "minutes": round((last_s - first_s) / 60, 2),
        "faults": dict(broken),
        "states": dict(watcher.states.most_common()),
        "results": len(watcher.latency_ms),
        "early": early,
        "late": late,
        "ledgers": {name: one.model_dump() for name, one in sorted(ledgers.items())},
        "complaints": complaints,
    }


def open_(ledger: object) -> bool:
    """True where a frame is in no place, or still in flight."""
    return not getattr(ledger, "balanced", False) or bool(getattr(ledger, "in_flight", 1))


def window(samples: Sequence[Sample], watcher: Watcher, until_s: float) -> dict[str, float]:
    """Medians of the 30 s before, and the latency's percentiles in the minute before."""
    near = [one for one in samples if until_s - 30 <= one.at_s <= until_s]
    rss_mb, fds, threads = np.median([one[1:] for one in near], axis=0)
    latency_ms = [ms for at_s, ms in watcher.latency_ms if until_s - 60 <= at_s <= until_s]
    p50, p95, p99 = np.percentile(latency_ms, [50, 95, 99]) if latency_ms else (0.0, 0.0, 0.0)
    measured = {"rss_mb": rss_mb, "fds": fds, "threads": threads}
    measured |= {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99}
    return {name: round(float(value), 1) for name, value in measured.items()}


def show(figures: dict[str, object]) -> None:
    """What a person wants to know."""
    early, late = figures["early"], figures["late"]
    table = Table("", "early", "late", title=f"{figures['minutes']} minutes, {N_CAMERAS} cameras")
    if isinstance(early, dict) and isinstance(late, dict):
        for name in early:
            table.add_row(name, f"{early[name]:.1f}", f"{late[name]:.1f}")
    console.print(table)
    for name in ("faults", "states", "results"):
        console.print(f"{name}: {figures[name]}")
    ledgers = figures["ledgers"]
    if isinstance(ledgers, dict):
        for name, ledger in ledgers.items():
            console.print(f"{name}: {ledger}")
    for complaint in figures["complaints"] if isinstance(figures["complaints"], list) else []:
        console.print(f"complaint: {complaint}", style="red")


if __name__ == "__main__":
    main()
