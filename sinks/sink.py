"""Where messages leave the process: every sink takes them through this one protocol."""

from typing import Protocol

from contracts.frame import Delivery


class Sink(Protocol):
    """One way out. All its methods run in the sink thread, in the order open, write…, close.

    A sink translates its library's errors: what it raises is a `SinkError`, and one that is raised
    stops the run. What concerns a single reader (a slow subscriber) it counts instead.
    """

    name: str
    """Names the sink in log lines and summaries: `jsonl`, `zmq`, `video`."""

    def open(self) -> None:
        """Ready to take messages. Raises SinkError: this is how a run fails before it starts."""

    def write(self, delivery: Delivery, payload: bytes) -> None:
        """The message has left, or is counted as lost. `payload` is its JSON, UTF-8, one line."""

    def counts(self) -> dict[str, int]:
        """For the summary: what was written, and what was lost and why."""

    def close(self) -> None:
        """What was written is whole. Safe to call twice, and after an `open` that failed."""
