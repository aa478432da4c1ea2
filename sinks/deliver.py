"""Delivers messages to every sink in order, and settles each frame when all of them took it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from contracts.errors import SinkError
from contracts.frame import Delivery
from contracts.ledger import Ledger
from contracts.messages import (
    AnyMessage,
    FrameFailure,
    FrameResult,
    SourceEnd,
    SourceEvent,
    Status,
)
from sinks.sink import Sink

STATUS_EVERY_NS = 1_000_000_000


class Outbox(Protocol):
    """The queue in front of the sink thread."""

    def take(self, timeout_s: float) -> Delivery | None:
        """The next delivery; None when the time is over, or the queue is closed and empty."""

    @property
    def closed_and_empty(self) -> bool:
        """True when nothing will come any more."""


def deliver(
    outbox: Outbox,
    sinks: Sequence[Sink],
    ledgers: Mapping[str, Ledger],
    observe: Callable[[AnyMessage, float], None],
    opened: Callable[[], None],
    status: Callable[[], Status],
) -> None:
    """Run by the sink thread: every message of the outbox has been through every sink, in order.

    `opened` is called once, when all sinks are open. `ledgers` has one ledger a source id.
    `observe` gets each message as it left and the milliseconds that the sinks took for it.
    Between them, every second, what `status` says goes the same way.
    Returns when the outbox is closed and empty. A SinkError comes out as it is, at start-up or
    later; the frame that met it is settled as failed. The sinks are closed in every case.
    """
    with _all_open(sinks):
        opened()
        status_due_ns = time.monotonic_ns()
        while not outbox.closed_and_empty:
            delivery = outbox.take(max(status_due_ns - time.monotonic_ns(), 0) / 1e9)
            if delivery is not None:
                delivery = _stamped(_with_final_counts(delivery, ledgers))
                started_ns = time.monotonic_ns()
                _write_and_settle(delivery, sinks, ledgers)
                observe(delivery.message, (time.monotonic_ns() - started_ns) / 1e6)
            if time.monotonic_ns() >= status_due_ns:
                status_due_ns += STATUS_EVERY_NS
                _write_and_settle(Delivery(status()), sinks, ledgers)


@contextlib.contextmanager
def _all_open(sinks: Sequence[Sink]) -> Iterator[None]:
    """All sinks are open inside, and closed after, whichever of them fails.

    Opened from the last to the first, against the order of writing: the wiring puts the files
    first. A publisher that can't start, or waits in vain for its subscribers, leaves nothing
    behind, but a file that is opened is emptied: of all that may fail, that comes last.
    """
    with contextlib.ExitStack() as closing:
        for sink in reversed(sinks):
            closing.callback(sink.close)
            sink.open()
        yield


def _with_final_counts(delivery: Delivery, ledgers: Mapping[str, Ledger]) -> Delivery:
    """A source's end carries its ledger: its earlier frames are settled, as order is kept."""
    message = delivery.message
    if not isinstance(message, SourceEnd):
        return delivery
    counts = ledgers[message.source_id].counts()
    return Delivery(message.model_copy(update={"ledger": counts}))


def _stamped(delivery: Delivery) -> Delivery:
    """A result says how long it was on its way: this is the last moment at which it can."""
    message, frame = delivery.message, delivery.frame
    if not isinstance(message, FrameResult) or frame is None:
        return delivery
    now_ns = time.monotonic_ns()
    publish_ms = round((now_ns - delivery.assembled_ns) / 1e6, 3)
    times = {
        "stage_ms": message.stage_ms.model_copy(update={"publish_ms": publish_ms}),
        "latency_ms": round((now_ns - frame.captured_ns) / 1e6, 3),
    }
    return Delivery(message.model_copy(update=times), frame, delivery.assembled_ns)


def _write_and_settle(
    delivery: Delivery, sinks: Sequence[Sink], ledgers: Mapping[str, Ledger]
) -> None:
    payload = delivery.message.model_dump_json().encode()
    try:
        for sink in sinks:
            sink.write(delivery, payload)
    except SinkError as error:
        _settle(delivery.message, ledgers, error.code)
        raise
    _settle(delivery.message, ledgers)


def _settle(
    message: AnyMessage, ledgers: Mapping[str, Ledger], sink_code: str | None = None
) -> None:
    """The frame is accounted for. A frame that had failed before keeps its own code."""
    match message:
        case FrameFailure(source_id=source_id, frame_index=frame_index, code=code):
            ledgers[source_id].failed(frame_index, code)
        case FrameResult(source_id=source_id, frame_index=frame_index) if sink_code:
            ledgers[source_id].failed(frame_index, sink_code)
        case FrameResult(source_id=source_id, frame_index=frame_index):
            ledgers[source_id].delivered(frame_index)
        case SourceEvent() | SourceEnd() | Status():
            pass
