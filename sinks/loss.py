"""Tells what did not come, from the sequences of what came: pure, the client's and the tests'."""

from collections.abc import Callable, Mapping, Sequence

from contracts.messages import Message
from contracts.wire import Header, Heartbeat, matches

OnGap = Callable[[str, range], None]
"""Gets a topic, and the sequences of its messages that did not come."""
OnRestart = Callable[[str, str], None]
"""Gets the ids of the publisher that is gone and of the one that took its place."""


class Position(Message):
    """How far a subscriber has followed a publisher: the sequence that it expects of each topic."""

    publisher: str
    next: dict[str, int]


class LossWatch:
    """What is missed since it began to listen: each lost sequence is told once, and only those.

    What was sent before the first message or heartbeat is not lost: it came too late for it. Of a
    publisher that took another one's place everything counts, as it was listened for.
    """

    def __init__(self, topics: Sequence[str], on_gap: OnGap, on_restart: OnRestart) -> None:
        self._topics = topics
        self._on_gap = on_gap
        self._on_restart = on_restart
        self._publisher = ""
        self._next: dict[str, int] = {}
        # A topic that is new now had nothing before: it counts from 0.
        self._all_known = False

    @property
    def position(self) -> Position:
        """How far everything has been followed: what a later subscription resumes from."""
        return Position(publisher=self._publisher, next=dict(self._next))

    def resume(self, position: Position) -> None:
        """What came since then counts as missing."""
        self._publisher, self._next = position.publisher, dict(position.next)

    def holes(self, header: Header, reached: Mapping[str, int]) -> dict[str, range]:
        """What is missing in front of these sequences; nothing is told yet."""
        other = header.publisher != self._publisher
        from_0 = self._all_known or (other and bool(self._publisher))
        holes = {}
        for topic, sequence in reached.items():
            default = 0 if from_0 else sequence
            expected = default if other else self._next.get(topic, default)
            if expected < sequence and matches(topic, self._topics):
                holes[topic] = range(expected, sequence)
        return holes

    def came(self, topic: str, header: Header) -> bool:
        """False where it had come before; a gap in front of it has been told."""
        self._is_from(header.publisher)
        expected = self._next.get(topic, 0 if self._all_known else header.sequence)
        if header.sequence < expected:
            return False
        self._settle(topic, expected, header.sequence)
        self._next[topic] = header.sequence + 1
        return True

    def beat(self, header: Header, heartbeat: Heartbeat) -> None:
        """What should have come by now, and did not, has been told."""
        self._is_from(header.publisher)
        for topic, latest in heartbeat.latest.items():
            if matches(topic, self._topics):
                expected = self._next.get(topic, 0 if self._all_known else latest + 1)
                self._settle(topic, expected, latest + 1)
                self._next[topic] = max(expected, latest + 1)
        self._all_known = True

    def _settle(self, topic: str, expected: int, reached: int) -> None:
        if reached > expected:
            self._on_gap(topic, range(expected, reached))

    def _is_from(self, publisher: str) -> None:
        if publisher == self._publisher:
            return
        before, self._publisher = self._publisher, publisher
        if before:
            self._next.clear()
            self._all_known = True
            self._on_restart(before, publisher)
