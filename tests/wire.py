"""What stands around a message on the wire, made by hand for tests of whoever reads it."""

import contextlib
import threading
import time
from collections.abc import Iterator

from contracts.frame import Delivery
from contracts.messages import AnyMessage, topic_of
from contracts.wire import HEARTBEAT_TOPIC, Header, Heartbeat
from sinks.zmq import ZmqSink

PUBLISHER = "0123456789abcdef"


def header_of(message: AnyMessage | Heartbeat, sequence: int, publisher: str = PUBLISHER) -> Header:
    """The header of a message that is sent now."""
    return Header(
        publisher=publisher,
        sequence=sequence,
        sent_at_ns=time.time_ns(),
        schema_name=message.schema_name,
        schema_version=message.schema_version,
    )


def parts_of(message: AnyMessage, sequence: int, publisher: str = PUBLISHER) -> list[bytes]:
    """All three parts."""
    header = header_of(message, sequence, publisher)
    json = header.model_dump_json().encode()
    return [topic_of(message).encode(), json, message.model_dump_json().encode()]


def heartbeat_parts(
    latest: dict[str, int], sequence: int, publisher: str = PUBLISHER
) -> list[bytes]:
    """All three parts of a heartbeat."""
    beat = Heartbeat(latest=latest)
    header = header_of(beat, sequence, publisher).model_dump_json().encode()
    return [HEARTBEAT_TOPIC.encode(), header, beat.model_dump_json().encode()]


def write(sink: ZmqSink, *messages: AnyMessage) -> None:
    """As the sink thread does it."""
    for message in messages:
        sink.write(Delivery(message), message.model_dump_json().encode())


@contextlib.contextmanager
def published(endpoint: str, *messages: AnyMessage) -> Iterator[None]:
    """A run that waits for one subscriber, publishes these messages and ends."""

    def publish() -> None:
        sink = ZmqSink(endpoint, wait_for_subscribers=1)
        sink.open()
        write(sink, *messages)
        sink.close()

    thread = threading.Thread(target=publish)
    thread.start()
    yield
    thread.join()
