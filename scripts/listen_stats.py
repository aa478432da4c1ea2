"""The figures of what a subscriber received, second by second: rate, latency, losses."""

import dataclasses
import json
import time
from datetime import UTC, datetime

from contracts.messages import FrameResult
from sinks.client import Received

EVERY_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """Of one span of time. Latencies in milliseconds; None where there was nothing to measure.

    `wire_ms` is from sent to received, of all messages; `capture_ms` from the capture of a frame
    until its result was received. Both compare two machines' clocks, where it is two.
    """

    seconds: float
    messages: int
    bytes: int
    missing: int
    wire_ms: dict[str, float] | None
    capture_ms: dict[str, float] | None

    def __str__(self) -> str:
        """`99.8 messages/s  12.3 kB/s  sent p50 0.4 p95 0.9 ms  captured …  lost 0`."""
        rate = f"{self.messages / self.seconds:.1f} messages/s"
        volume = f"{self.bytes / self.seconds / 1e3:.1f} kB/s"
        spans = (("sent", self.wire_ms), ("captured", self.capture_ms))
        latencies = [
            f"{name} p50 {span['p50']:.1f} p95 {span['p95']:.1f} ms ago"
            for name, span in spans
            if span
        ]
        return "  ".join([rate, volume, *latencies, f"lost {self.missing}"])

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))


class Stats:
    """Collects until the next figures are asked for."""

    def __init__(self) -> None:
        self.missing = 0
        self._begin()

    def _begin(self) -> None:
        self._since_s = time.monotonic()
        self._bytes = 0
        self._wire_ms: list[float] = []
        self._capture_ms: list[float] = []
        self.missing = 0

    @property
    def due(self) -> bool:
        """True when a second is over."""
        return time.monotonic() - self._since_s >= EVERY_S

    def take(self, received: Received) -> None:
        """The message counts."""
        now_ns = time.time_ns()
        self._bytes += len(received.payload)
        self._wire_ms.append((now_ns - received.header.sent_at_ns) / 1e6)
        if isinstance(received.message, FrameResult):
            age = datetime.fromtimestamp(now_ns / 1e9, UTC) - received.message.captured_at
            self._capture_ms.append(age.total_seconds() * 1e3)

    def next_figures(self) -> Figures:
        """Of what came since the last ones."""
        figures = Figures(
            seconds=round(time.monotonic() - self._since_s, 3),
            messages=len(self._wire_ms),
            bytes=self._bytes,
            missing=self.missing,
            wire_ms=quantiles_of(self._wire_ms),
            capture_ms=quantiles_of(self._capture_ms),
        )
        self._begin()
        return figures


def quantiles_of(values: list[float]) -> dict[str, float] | None:
    """p50 and p95, the nearest of the values; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        name: round(ordered[round(share * (len(ordered) - 1))], 3)
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }
