"""Every message goes through every sink in order, and every frame is settled when it has."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from contracts.errors import DiskFull, OutputUnwritable, SinkError
from contracts.frame import Delivery
from contracts.ledger import Ledger
from contracts.messages import (
    AnyMessage,
    FrameFailure,
    FrameResult,
    SourceEnd,
    Status,
    parse_message,
    topic_of,
)
from sinks.deliver import deliver
from sinks.jsonl import JsonlSink
from sinks.sink import Sink
from stream.queue import BoundedQueue
from tests.messages import delivery, frame_failure, source_end, source_event, status


class Kept:
    """A sink that keeps what it gets, and fails where it is told to."""

    name = "kept"

    def __init__(self, at_open: SinkError | None = None, at_frame: int = -1) -> None:
        self.calls: list[str] = []
        self.payloads: list[bytes] = []
        self.failure: Exception = DiskFull("kept: no space left")
        self._at_open = at_open
        self._at_frame = at_frame

    def open(self) -> None:
        """Fails if it was told to."""
        self.calls.append("open")
        if self._at_open:
            raise self._at_open

    def write(self, delivery: Delivery, payload: bytes) -> None:
        """Kept, or the failure at the frame that was named."""
        if getattr(delivery.message, "frame_index", None) == self._at_frame:
            raise self.failure
        self.payloads.append(payload)

    def close(self) -> None:
        """Noted."""
        self.calls.append("close")

    def counts(self) -> dict[str, int]:
        """How many were kept."""
        return {"kept": len(self.payloads)}

    @property
    def all_messages(self) -> list[AnyMessage]:
        """What was kept, read back."""
        return [parse_message(payload) for payload in self.payloads]

    @property
    def messages(self) -> list[AnyMessage]:
        """The same without the statuses, which come each second."""
        return [message for message in self.all_messages if not isinstance(message, Status)]


class Run:
    """A delivery run: real queue and ledgers, and a note of all that is reported."""

    def __init__(self, *deliveries: Delivery) -> None:
        self.outbox = BoundedQueue[Delivery](
            depth=100, max_bytes=2**30, when_full="block", size_of=lambda item: item.n_bytes
        )
        self.ledgers: dict[str, Ledger] = {}
        self.observed: list[tuple[AnyMessage, float]] = []
        self.opened = threading.Event()
        for item in deliveries:
            self.put(item)

    def put(self, item: Delivery) -> None:
        """The frame is captured and waits in the outbox."""
        message = item.message
        assert not isinstance(message, Status)
        ledger = self.ledgers.setdefault(message.source_id, Ledger())
        if isinstance(message, FrameResult | FrameFailure):
            ledger.captured(message.frame_index)
        self.outbox.put(item)

    @staticmethod
    def status() -> Status:
        """What the process says of itself each second."""
        return status()

    def deliver(self, *sinks: Sink) -> None:
        """What the sink thread does."""
        deliver(
            self.outbox,
            sinks,
            self.ledgers,
            observe=lambda message, publish_ms: self.observed.append((message, publish_ms)),
            opened=self.opened.set,
            status=self.status,
        )


def finished(*deliveries: Delivery, sinks: Sequence[Sink]) -> Run:
    """A run that delivered all of these."""
    run = Run(*deliveries)
    run.outbox.close()
    run.deliver(*sinks)
    return run


def test_every_sink_gets_every_message_in_order() -> None:
    first, second = Kept(), Kept()
    sent = [delivery(0), Delivery(frame_failure(1)), delivery(2), delivery(0, "cam2")]
    finished(*sent, sinks=[first, second])
    assert [topic_of(message) for message in first.messages] == [
        topic_of(item.message) for item in sent
    ]
    assert [getattr(message, "frame_index", None) for message in first.messages] == [0, 1, 2, 0]
    assert first.payloads == second.payloads
    assert first.calls == ["open", "close"]


def test_results_are_settled_as_delivered_and_failures_by_their_code() -> None:
    run = finished(
        delivery(0), Delivery(frame_failure(1, code="corrupt_image")), delivery(2), sinks=[Kept()]
    )
    counts = run.ledgers["cam1"].counts()
    assert (counts.delivered, counts.failed) == (2, {"corrupt_image": 1})
    assert (counts.captured, counts.in_flight) == (3, 0)


def test_end_of_a_source_carries_its_final_counts() -> None:
    kept = Kept()
    finished(
        delivery(0), Delivery(frame_failure(1)), delivery(0, "cam2"), Delivery(source_end()),
        sinks=[kept],
    )  # fmt: skip
    end = kept.messages[-1]
    assert isinstance(end, SourceEnd)
    assert (end.ledger.captured, end.ledger.delivered) == (2, 1)
    assert (end.ledger.failed, end.ledger.in_flight) == ({"decode_error": 1}, 0)


def test_messages_are_observed_as_they_left_with_their_publish_time() -> None:
    kept = Kept()
    run = finished(delivery(0), Delivery(source_end()), sinks=[kept])
    assert [message for message, _ in run.observed] == kept.messages
    assert all(publish_ms >= 0 for _, publish_ms in run.observed)


def test_result_says_how_long_it_was_on_its_way_and_waited_for_the_sinks() -> None:
    sent = delivery(0)
    assert sent.frame is not None
    late = dataclasses.replace(
        sent,
        frame=dataclasses.replace(sent.frame, captured_ns=time.monotonic_ns() - 250_000_000),
        assembled_ns=time.monotonic_ns() - 100_000_000,
    )
    kept = Kept()
    finished(late, sinks=[kept])
    (result,) = kept.messages
    assert isinstance(result, FrameResult)
    assert result.latency_ms >= 250
    assert 100 <= result.stage_ms.publish_ms <= result.latency_ms


def test_status_comes_at_once_and_while_nothing_else_does() -> None:
    seen = threading.Semaphore(0)

    class Seen(Kept):
        def write(self, delivery: Delivery, payload: bytes) -> None:
            super().write(delivery, payload)
            seen.release()

    run, kept = Run(), Seen()
    thread = threading.Thread(target=run.deliver, args=(kept,))
    thread.start()
    assert seen.acquire(timeout=10)
    assert seen.acquire(timeout=10)
    run.outbox.close()
    thread.join(10)
    assert kept.all_messages[:2] == [status(), status()]


def test_events_of_a_source_go_through_and_settle_nothing() -> None:
    kept = Kept()
    run = finished(delivery(0), Delivery(source_event()), sinks=[kept])
    assert kept.messages[1] == source_event()
    assert run.ledgers["cam1"].counts().captured == 1


def test_sink_that_can_not_open_fails_the_run_before_it_starts() -> None:
    first, second, third = Kept(), Kept(at_open=OutputUnwritable("second: no")), Kept()
    run = Run(delivery(0))
    with pytest.raises(OutputUnwritable, match="second: no"):
        run.deliver(first, second, third)
    assert not run.opened.is_set()
    # The last is opened first: a file, which opening empties, comes after all that may fail.
    assert (first.calls, third.calls) == ([], ["open", "close"])
    assert third.payloads == []
    assert run.ledgers["cam1"].counts().in_flight == 1


def test_frame_that_a_sink_can_not_write_is_failed_with_the_sinks_code() -> None:
    first, second = Kept(), Kept(at_frame=1)
    run = Run(delivery(0), delivery(1), delivery(2))
    with pytest.raises(DiskFull):
        run.deliver(first, second)
    counts = run.ledgers["cam1"].counts()
    assert (counts.delivered, counts.failed, counts.in_flight) == (1, {"disk_full": 1}, 1)
    assert (first.calls, second.calls) == (["open", "close"], ["open", "close"])
    assert len(run.observed) == 1


def test_failed_frame_that_a_sink_can_not_write_keeps_its_own_code() -> None:
    run = Run(Delivery(frame_failure(0, code="corrupt_image")))
    with pytest.raises(DiskFull):
        run.deliver(Kept(at_frame=0))
    assert run.ledgers["cam1"].counts().failed == {"corrupt_image": 1}


def test_unexpected_error_comes_out_after_the_sinks_are_closed() -> None:
    kept = Kept(at_frame=0)
    kept.failure = RuntimeError("a defect")
    run = Run(delivery(0))
    with pytest.raises(RuntimeError, match="a defect"):
        run.deliver(kept)
    assert kept.calls == ["open", "close"]
    assert run.ledgers["cam1"].counts().in_flight == 1


def test_nothing_to_deliver_still_opens_and_closes_the_sinks() -> None:
    kept = Kept()
    assert finished(sinks=[kept]).opened.is_set()
    assert kept.calls == ["open", "close"]


def test_sink_thread_delivers_while_others_put_and_ends_when_the_outbox_is_closed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "results.jsonl"
    run = Run()
    thread = threading.Thread(target=run.deliver, args=(JsonlSink(path),))
    thread.start()
    assert run.opened.wait(10)
    for index in range(200):
        run.put(delivery(index))
    run.put(Delivery(source_end()))
    run.outbox.close()
    thread.join(10)
    assert not thread.is_alive()
    messages = [parse_message(line) for line in path.read_bytes().splitlines()]
    assert not any(isinstance(message, Status) for message in messages)
    assert [getattr(message, "frame_index", None) for message in messages] == [*range(200), None]
    assert run.ledgers["cam1"].counts().delivered == 200


@pytest.mark.parametrize("kind", [Kept, lambda: JsonlSink(Path("results.jsonl"))])
def test_sinks_fit_the_protocol(kind: Callable[[], Sink]) -> None:
    sink: Sink = kind()
    assert sink.name
