"""Delivers messages to every sink in order, and settles each frame when all of them took it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from contracts.errors import SinkError
from contracts.frame import Delivery
from contracts.ledger import Ledger
from contracts.messages import AnyMessage, FrameFailure, FrameResult, SourceEnd
from sinks.sink import Sink


class Outbox(Protocol):
    """The queue in front of the sink thread."""

    def take(self, timeout_s: float | None) -> Delivery | None:
        """The next delivery; None when the queue is closed and empty."""


def deliver(
    outbox: Outbox,
    sinks: Sequence[Sink],
    ledgers: Mapping[str, Ledger],
    observe: Callable[[AnyMessage, float], None],
    opened: Callable[[], None],
) -> None:
    """Run by the sink thread: every message of the outbox has been through every sink, in order.

    `opened` is called once, when all sinks are open. `ledgers` has one ledger a source id.
    `observe` gets each message as it left and the milliseconds that the sinks took for it.
    Returns when the outbox is closed and empty. A SinkError comes out as it is, at start-up or
    later; the frame that met it is settled as failed. The sinks are closed in every case.
    """
    with _all_open(sinks):
        opened()
        while (delivery := outbox.take(None)) is not None:
            delivery = _with_final_counts(delivery, ledgers)
            started_ns = time.monotonic_ns()
            _write_and_settle(delivery, sinks, ledgers[delivery.message.source_id])
            observe(delivery.message, (time.monotonic_ns() - started_ns) / 1e6)


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


def _write_and_settle(delivery: Delivery, sinks: Sequence[Sink], ledger: Ledger) -> None:
    payload = delivery.message.model_dump_json().encode()
    try:
        for sink in sinks:
            sink.write(delivery, payload)
    except SinkError as error:
        _settle(delivery.message, ledger, error.code)
        raise
    _settle(delivery.message, ledger)


def _settle(message: AnyMessage, ledger: Ledger, sink_code: str | None = None) -> None:
    """The frame is accounted for. A frame that had failed before keeps its own code."""
    match message:
        case FrameFailure(frame_index=frame_index, code=code):
            ledger.failed(frame_index, code)
        case FrameResult(frame_index=frame_index) if sink_code:
            ledger.failed(frame_index, sink_code)
        case FrameResult(frame_index=frame_index):
            ledger.delivered(frame_index)
        case SourceEnd():
            pass
