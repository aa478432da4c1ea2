"""What leaves a run, kept as whoever subscribes gets it; and the account that it must give."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from contracts.frame import Delivery
from contracts.messages import (
    AnyMessage,
    FrameFailure,
    FrameResult,
    LedgerCounts,
    SourceEnd,
    parse_message,
)


class Heard(NamedTuple):
    """A message as it left, and when (monotonic clock)."""

    message: AnyMessage
    at_s: float


class Witness:
    """A sink that keeps all messages in memory. It rings the bell at each, and has its lock."""

    name = "witness"

    def __init__(self, bell: threading.Condition) -> None:
        self._bell = bell
        self._heard: list[Heard] = []

    def open(self) -> None:
        """Always ready."""

    def write(self, _delivery: Delivery, payload: bytes) -> None:
        """Read from its JSON, so that the contract is checked too."""
        with self._bell:
            self._heard.append(Heard(parse_message(payload), time.monotonic()))
            self._bell.notify_all()

    def counts(self) -> dict[str, int]:
        """For the summary."""
        return {"written": len(self._heard)}

    def close(self) -> None:
        """Nothing is open."""

    def heard_of(self, source_id: str) -> list[Heard]:
        """In order."""
        with self._bell:
            return [
                one for one in self._heard if getattr(one.message, "source_id", None) == source_id
            ]


def assert_account(counts: LedgerCounts, messages: Sequence[AnyMessage]) -> None:
    """What was said of a source tells of each of its frames once, and adds up to its ledger.

    The frames that were dropped after the last message are told by the `SourceEnd` only.
    """
    frames = [m for m in messages if isinstance(m, FrameResult | FrameFailure)]
    assert [m.sequence for m in frames] == list(range(len(frames)))
    dropped: Counter[str] = Counter()
    next_index = 0
    for message in frames:
        assert sum(message.dropped_before.values()) == message.frame_index - next_index
        dropped.update(message.dropped_before)
        next_index = message.frame_index + 1
    assert dropped <= Counter(counts.dropped)
    assert sum(counts.dropped.values()) == dropped.total() + counts.captured - next_index
    assert counts.failed == Counter(m.code for m in frames if isinstance(m, FrameFailure))
    assert counts.delivered == sum(isinstance(m, FrameResult) for m in frames)
    assert isinstance(messages[-1], SourceEnd)
    assert messages[-1].ledger == counts
