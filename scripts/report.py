"""What a run did, for people and for programs: counts, frame rate, and where the time went."""

import dataclasses
import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.errors import FramewireError, OutputUnwritable
from contracts.messages import (
    AnyMessage,
    FrameResult,
    LedgerCounts,
    Models,
    SourceEnd,
    StageTimes,
)
from stream.queue import QueueCounts

STAGES = [name.removesuffix("_ms") for name in StageTimes.model_fields] + ["deliver"]
KEPT_FRAMES = 10_000
"""Percentiles are over the last so many frames, so that a run of months stays small."""


class Report:
    """Filled by the sink thread through `observe`; read when that thread has ended."""

    def __init__(self) -> None:
        self.classes: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.degraded: Counter[str] = Counter()
        self.filtered: Counter[str] = Counter()
        self.ends: dict[str, SourceEnd] = {}
        self.frames = 0
        self.texts = 0
        self._times_ms: deque[tuple[float, ...]] = deque(maxlen=KEPT_FRAMES)
        self._started_ns = self._ended_ns = time.monotonic_ns()

    def start(self) -> None:
        """The clock of the frame rate starts: everything is ready, reading begins."""
        self._started_ns = self._ended_ns = time.monotonic_ns()

    def observe(self, message: AnyMessage, deliver_ms: float) -> None:
        """Called for each message when it has left."""
        self._ended_ns = time.monotonic_ns()
        if isinstance(message, SourceEnd):
            self.ends[message.source_id] = message
        if not isinstance(message, FrameResult):
            return
        self.frames += 1
        self.classes.update(detection.class_name for detection in message.detections)
        self.labels.update(item.class_name for item in message.classifications)
        self.texts += len(message.texts)
        self.degraded.update(message.degraded)
        self.filtered.update(message.filtered)
        self._times_ms.append((*message.stage_ms.model_dump().values(), deliver_ms))

    @property
    def elapsed_s(self) -> float:
        """From the start to the last message."""
        return (self._ended_ns - self._started_ns) / 1e9

    @property
    def fps(self) -> float:
        """Results a second over the whole run."""
        return self.frames / self.elapsed_s if self.elapsed_s else 0.0

    def stage_ms(self) -> dict[str, dict[str, float]]:
        """Median and 95th percentile of each stage, in milliseconds; empty without frames."""
        if not self._times_ms:
            return {}
        p50, p95 = np.percentile(np.array(self._times_ms), [50, 95], axis=0)
        return {
            stage: {"p50": round(float(low), 3), "p95": round(float(high), 3)}
            for stage, low, high in zip(STAGES, p50, p95, strict=True)
        }


def summarise(
    report: Report,
    ledgers: Mapping[str, LedgerCounts],
    sinks: Mapping[str, Mapping[str, int]],
    queues: Mapping[str, QueueCounts],
    models: Models,
    outputs: Mapping[str, str],
    broken_off: FramewireError | None,
) -> dict[str, Any]:
    """The summary as plain JSON values."""
    return {
        "frames": report.frames,
        "elapsed_s": round(report.elapsed_s, 3),
        "fps": round(report.fps, 2),
        "detections": dict(report.classes.most_common()),
        "classifications": dict(report.labels.most_common()),
        "texts": report.texts,
        "degraded": dict(report.degraded),
        "filtered": dict(report.filtered),
        "stage_ms": report.stage_ms(),
        "ledgers": {name: counts.model_dump() for name, counts in ledgers.items()},
        "ended": {name: end.code for name, end in report.ends.items()},
        "broken_off": {"code": broken_off.code, "message": str(broken_off)} if broken_off else None,
        "sinks": {name: dict(counts) for name, counts in sinks.items()},
        "queues": {name: dataclasses.asdict(counts) for name, counts in queues.items()},
        "models": models.model_dump(),
        "outputs": dict(outputs),
    }


def check_writable(path: Path) -> None:
    """The file can be written when the time comes; its folder is made. Raises OutputUnwritable."""
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()


def write_summary(summary: Mapping[str, Any], path: Path) -> None:
    """The summary is a JSON file. Raises OutputUnwritable."""
    with _named_errors(path):
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputUnwritable(f"summary: can't write {path}: {error.strerror}") from error


def show(summary: Mapping[str, Any], console: Console) -> None:
    """The summary as a person wants to read it."""
    found, labelled = summary["detections"], summary["classifications"]
    texts = f", {summary['texts']} texts" if summary["models"]["text"] else ""
    console.print()
    console.print(
        f"{summary['frames']} frames in {summary['elapsed_s']:.1f} s, "
        f"{summary['fps']:.1f} frames/s, {sum(found.values())} detections, "
        f"{sum(labelled.values())} classified{texts}"
    )
    counted = (("found", found), ("classified", labelled), ("filtered", summary["filtered"]))
    for title, counts in counted:
        if counts:
            console.print(f"{title}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    console.print("Every frame accounted for", _ledger_table(summary), sep="\n")
    console.print("Where the time went (ms), detect to assemble for a whole batch")
    console.print(_stage_table(summary))
    for name, path in summary["outputs"].items():
        console.print(f"{name:8} {path}")


def _ledger_table(summary: Mapping[str, Any]) -> Table:
    table = Table()
    for column in ("source", "captured", "delivered", "dropped", "failed", "in flight", "ended"):
        justify: Literal["left", "right"] = "left" if column in ("source", "ended") else "right"
        table.add_column(column, justify=justify, no_wrap=column in ("dropped", "failed"))
    for name, counts in summary["ledgers"].items():
        # Text, not markup: names come from files and people.
        table.add_row(
            Text(name),
            str(counts["captured"]),
            str(counts["delivered"]),
            _by_reason(counts["dropped"]),
            _by_reason(counts["failed"]),
            str(counts["in_flight"]),
            _how_it_ended(summary, name),
        )
    return table


def _how_it_ended(summary: Mapping[str, Any], source_id: str) -> str:
    if source_id not in summary["ended"]:
        return "broken off"
    return summary["ended"][source_id] or "normally"


def _by_reason(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{n} {code}" for code, n in counts.items()) or "0"


def _stage_table(summary: Mapping[str, Any]) -> Table:
    """Decode and queue are a frame's own; detect to assemble are those of its batch."""
    table = Table()
    table.add_column("stage")
    table.add_column("p50", justify="right")
    table.add_column("p95", justify="right")
    for stage, times in summary["stage_ms"].items():
        if times["p95"] > 0:
            table.add_row(stage, f"{times['p50']:.2f}", f"{times['p95']:.2f}")
    return table
