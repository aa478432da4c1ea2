"""What a late or restarted subscriber gets of what was published before, and what it doesn't."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from contracts.errors import EndpointUnavailable
from contracts.messages import AnyMessage, FrameResult, SourceEvent
from contracts.wire import CatchupAnswer, read_header
from sinks.client import asubscribe, subscribe
from sinks.client_catchup import fetch
from sinks.zmq import ZmqSink
from sinks.zmq_catchup import ANSWER_BYTES, Catchup, Window
from tests.messages import frame_result, source_event, status
from tests.resources import held, released
from tests.wire import write

MANY = 10**9


@contextlib.contextmanager
def sink_with(
    folder: Path, seconds: float = 60, max_bytes: int = MANY, **how: Any
) -> Iterator[ZmqSink]:
    """An open sink that keeps what it publishes; `out` and `ask` are its sockets in the folder."""
    catchup = Catchup(f"ipc://{folder}/ask", Window(seconds, max_bytes))
    sink = ZmqSink(f"ipc://{folder}/out", catchup=catchup, **how)
    try:
        sink.open()
        yield sink
    finally:
        sink.close()


def fetched(folder: Path, topic: str, missing: range | None) -> list[tuple[str, int]]:
    """(topic, sequence) of what is given, by whichever publisher is there."""
    publisher = json.loads(asked(folder, b"{}")[0])["publisher"]
    found = fetch(f"ipc://{folder}/ask", lambda _socket: None, publisher, topic, missing)
    return [(topic, header.sequence) for topic, header in map(read_header, found)]


def asked(folder: Path, request: bytes) -> list[bytes]:
    """The parts of the answer."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(f"ipc://{folder}/ask")
        socket.send(request)
        return socket.recv_multipart()


def test_messages_of_a_topic_are_given_from_a_sequence_on(tmp_path: Path) -> None:
    with sink_with(tmp_path) as sink:
        for index in range(5):
            write(sink, frame_result(index), frame_result(index, "cam2"))
        expected = [("frame/cam1/", n) for n in (3, 4)]
        assert fetched(tmp_path, "frame/cam1/", range(3, 9)) == expected


def test_what_is_too_much_is_forgotten_the_oldest_first(tmp_path: Path) -> None:
    size = len(frame_result(0).model_dump_json()) + 300
    with sink_with(tmp_path, max_bytes=3 * size) as sink:
        write(sink, *(frame_result(index) for index in range(10)))
        kept = fetched(tmp_path, "frame/cam1/", range(10))
    assert kept == [("frame/cam1/", n) for n in (7, 8, 9)]


def test_what_is_too_old_is_forgotten_but_the_last_event_of_each_source(tmp_path: Path) -> None:
    with sink_with(tmp_path, seconds=0) as sink:
        write(sink, source_event(), source_event(state="live"), source_event("cam2"))
        write(sink, frame_result(0))
        assert fetched(tmp_path, "frame/cam1/", range(5)) == []
        assert fetched(tmp_path, "event/", None) == [("event/cam1/", 1), ("event/cam2/", 0)]
        assert fetched(tmp_path, "event/cam2/", None) == [("event/cam2/", 0)]


def test_much_is_given_in_several_answers_of_which_each_is_bounded(tmp_path: Path) -> None:
    large = "x" * 300_000
    with sink_with(tmp_path) as sink:
        write(sink, *(frame_result(index, image_id=large) for index in range(10)))
        request = b'{"topic":"frame/cam1/","publisher":null,"from_sequence":0}'
        first, *parts = asked(tmp_path, request)
        assert sum(map(len, parts)) <= ANSWER_BYTES
        answer = CatchupAnswer.model_validate_json(first)
        assert (answer.count, answer.more) == (3, True)
        assert len(fetched(tmp_path, "frame/cam1/", range(10))) == 10


@pytest.mark.parametrize("request_", [b"", b"{}", b"\xff", b'{"topic":5}', b"[" * 1000])
def test_what_is_no_request_is_answered_with_a_code(tmp_path: Path, request_: bytes) -> None:
    with sink_with(tmp_path):
        [answer] = asked(tmp_path, request_)
        assert CatchupAnswer.model_validate_json(answer).code == "broken_message"


def test_sequences_of_another_publisher_are_not_mixed_up(tmp_path: Path) -> None:
    with sink_with(tmp_path) as sink:
        write(sink, frame_result(0))
        assert (
            fetch(f"ipc://{tmp_path}/ask", lambda _socket: None, "f" * 16, "frame/cam1/", range(5))
            == []
        )


def received(folder: Path, count: int, **how: Any) -> tuple[list[AnyMessage], list[Any], Any]:
    """So many messages of a subscription, what was lost, and its position."""
    lost: list[Any] = []
    how["on_gap"] = lambda topic, missing: lost.append((topic, missing))
    came: list[AnyMessage] = []
    subscription = subscribe(f"ipc://{folder}/out", catchup=f"ipc://{folder}/ask", **how)
    with subscription:
        while len(came) < count:
            got = subscription.receive(20)
            assert got, f"{len(came)} came"
            came.append(got.message)
    return came, lost, subscription.position


def indices(came: list[AnyMessage]) -> list[int]:
    return [message.frame_index for message in came if isinstance(message, FrameResult)]


@contextlib.contextmanager
def beating(sink: ZmqSink) -> Iterator[None]:
    """A status and a heartbeat again and again, on the thread that now owns the sink."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.02):
            write(sink, status())

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    over.set()
    thread.join()


def test_restarted_subscriber_resumes_where_it_was_and_misses_nothing(tmp_path: Path) -> None:
    with sink_with(tmp_path) as sink:
        write(sink, frame_result(0))
        with beating(sink):
            _, _, position = received(tmp_path, 1, topics=["status/"])
        position = position.model_copy(update={"next": {"frame/cam1/": 1}})
        write(sink, *(frame_result(index) for index in range(1, 6)))
        with beating(sink):
            came, lost, _ = received(tmp_path, 5, topics=["frame/cam1/"], resume=position)
    assert indices(came) == [1, 2, 3, 4, 5]
    assert lost == []


def test_what_is_no_longer_kept_is_told_as_lost(tmp_path: Path) -> None:
    with sink_with(tmp_path, max_bytes=1) as sink:
        write(sink, *(frame_result(index) for index in range(6)))
        with beating(sink):
            _, _, position = received(tmp_path, 1, topics=["status/"])
            position = position.model_copy(update={"next": {"frame/cam1/": 2}})
            topics = ["frame/cam1/", "status/"]
            _, lost, _ = received(tmp_path, 2, topics=topics, resume=position)
    assert [one for one in lost if one[0] == "frame/cam1/"] == [("frame/cam1/", range(2, 6))]


def test_newcomer_gets_the_last_event_of_each_source_first(tmp_path: Path) -> None:
    with sink_with(tmp_path, seconds=0) as sink:
        write(sink, source_event(), source_event(state="live"), source_event("cam2"))
        with beating(sink):
            came, lost, _ = received(tmp_path, 3)
            one, _, _ = received(tmp_path, 1, topics=["event/cam2/"])
    assert came[:2] == [source_event(state="live"), source_event("cam2")]
    assert not isinstance(came[2], SourceEvent)
    assert one == [source_event("cam2")]
    assert lost == []


def test_asynchronous_client_catches_up_too(tmp_path: Path) -> None:
    async def first() -> AnyMessage:
        options = (f"ipc://{tmp_path}/out", ["event/"])
        async with asubscribe(*options, catchup=f"ipc://{tmp_path}/ask") as subscription:
            got = await subscription.receive(20)
            assert got
            return got.message

    with sink_with(tmp_path) as sink:
        write(sink, source_event())
        with beating(sink):
            assert asyncio.run(first()) == source_event()


def test_nobody_to_ask_is_a_loss_that_is_told(tmp_path: Path) -> None:
    assert (
        fetch(f"ipc://{tmp_path}/nobody", lambda _socket: None, "f" * 16, "frame/cam1/", range(3))
        == []
    )


def test_endpoint_in_use_is_an_error_that_leaves_nothing_open(tmp_path: Path) -> None:
    before = held()
    with sink_with(tmp_path):
        taken = Catchup(f"ipc://{tmp_path}/ask", Window(1, 1))
        second = ZmqSink("tcp://127.0.0.1:*", catchup=taken)
        with pytest.raises(EndpointUnavailable, match="in use"):
            second.open()
        second.close()
    assert released(before)
