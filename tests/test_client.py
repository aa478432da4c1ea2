"""The subscriber's client against a real publisher: messages, losses, restarts, silence."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from contracts.errors import BadSetting, BrokenMessage, NoPublisher, UnknownVersion, WireError
from contracts.messages import AnyMessage, FrameResult, SourceEnd
from sinks.client import asubscribe, subscribe
from sinks.zmq import ZmqSink
from tests.messages import frame_failure, frame_result, source_end, status
from tests.resources import held, released
from tests.wire import parts_of, published, write
from tests.zmq_proxy import LossyForwarder

RUN: list[AnyMessage] = [frame_result(0), frame_failure(1), frame_result(2), source_end()]


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """One that nobody else has."""
    return f"ipc://{tmp_path}/out"


class Told:
    """What a subscription told beside its messages."""

    def __init__(self) -> None:
        self.lost: list[tuple[str, int]] = []
        self.restarts: list[str] = []
        self.unreadable: list[WireError] = []

    def gap(self, topic: str, missing: range) -> None:
        self.lost += [(topic, n) for n in missing]

    def restart(self, _before: str, publisher: str) -> None:
        self.restarts.append(publisher)


@contextlib.contextmanager
def sink_at(endpoint: str, subscribers: int = 1, high_water_mark: int = 1000) -> Iterator[ZmqSink]:
    """An open sink that so many have subscribed to."""
    sink = ZmqSink(endpoint, subscribers, high_water_mark=high_water_mark)
    try:
        sink.open()
        yield sink
    finally:
        sink.close()


def test_iterating_gives_typed_messages_and_breaking_off_closes(endpoint: str) -> None:
    before = held()
    came = []
    with published(endpoint, *RUN):
        for message in subscribe(endpoint, topics=["frame/cam1/", "end/"]):
            came.append(message)
            if isinstance(message, SourceEnd):
                break
    assert came == [RUN[0], RUN[2], RUN[3]]
    assert released(before)


def test_received_has_the_topic_the_header_and_the_json(endpoint: str) -> None:
    with published(endpoint, *RUN), subscribe(endpoint, ["failure/"]) as subscription:
        received = subscription.receive(10)
    assert received
    assert (received.topic, received.header.sequence) == ("failure/cam1/", 0)
    assert received.message == RUN[1]
    assert received.payload.decode() == RUN[1].model_dump_json()


def test_nothing_within_the_time_is_none(endpoint: str) -> None:
    with subscribe(endpoint) as subscription:
        assert subscription.receive(0.01) is None


def test_asynchronous_client_gives_the_same(endpoint: str) -> None:
    async def collect() -> list[AnyMessage]:
        came = []
        async with asubscribe(endpoint, ["frame/cam1/", "end/"]) as subscription:
            async for message in subscription:
                came.append(message)
                if isinstance(message, SourceEnd):
                    break
            assert await subscription.receive(0.01) is None
        return came

    with published(endpoint, *RUN):
        assert asyncio.run(collect()) == [RUN[0], RUN[2], RUN[3]]


def test_endpoint_that_is_none_is_a_bad_setting_and_leaves_nothing_open() -> None:
    before = held()
    with pytest.raises(BadSetting, match="is not an endpoint"), subscribe("cam1"):
        pass
    assert released(before)


def test_silence_without_a_heartbeat_is_named(endpoint: str) -> None:
    with pytest.raises(NoPublisher, match="not even a heartbeat"):
        next(iter(subscribe(endpoint, silence_s=0.3)))


def test_heartbeats_keep_a_silent_source_from_looking_dead(endpoint: str) -> None:
    over = threading.Event()

    def beat() -> None:
        with sink_at(endpoint) as sink:
            while not over.wait(0.1):
                write(sink, status())

    thread = threading.Thread(target=beat)
    thread.start()
    with subscribe(endpoint, ["frame/"], silence_s=2.0) as subscription:
        assert subscription.receive(3.0) is None
    over.set()
    thread.join()


@contextlib.contextmanager
def sending(endpoint: str, *sent: list[bytes]) -> Iterator[None]:
    """Somebody who waits for one subscription and sends these parts."""

    def send() -> None:
        with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
            publisher.bind(endpoint)
            assert publisher.poll(10_000)
            for parts in sent:
                publisher.send_multipart(parts)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


NEWER = [
    parts_of(frame_result(0), 0)[0],
    parts_of(frame_result(0), 0)[1].replace(b'"v":1', b'"v":2'),
    b"{}",
]
BROKEN = [*parts_of(frame_result(1), 0)[:2], b'{"schema_name":"framewire.frame"}']


@pytest.mark.parametrize(("parts", "error"), [(NEWER, UnknownVersion), (BROKEN, BrokenMessage)])
def test_what_cant_be_read_is_raised_by_name(
    endpoint: str, parts: list[bytes], error: type[WireError]
) -> None:
    with sending(endpoint, parts), pytest.raises(error), subscribe(endpoint) as subscription:
        subscription.receive(10)


def test_what_cant_be_read_is_skipped_where_somebody_is_told_and_is_no_loss(endpoint: str) -> None:
    told = Told()
    sent = (NEWER, BROKEN, parts_of(frame_result(2), 1))
    with (
        sending(endpoint, *sent),
        subscribe(endpoint, on_unreadable=told.unreadable.append, on_gap=told.gap) as subscription,
    ):
        received = subscription.receive(10)
    assert received
    assert received.message == frame_result(2)
    assert [error.code for error in told.unreadable] == ["unknown_version", "broken_message"]
    assert told.lost == []


def collect(
    endpoint: str, *topics: str, told: Told, ends: int = 1, silence_s: float = 0.0
) -> list[FrameResult]:
    """The results that come until so many sources have ended, and then until silence."""
    came = []
    with subscribe(endpoint, topics, on_gap=told.gap, on_restart=told.restart) as subscription:
        while ends:
            received = subscription.receive(30)
            assert received, "nothing came for 30 s"
            if isinstance(received.message, FrameResult):
                came.append(received.message)
            ends -= isinstance(received.message, SourceEnd)
        if silence_s:
            assert subscription.receive(silence_s) is None
    return came


def test_what_a_line_loses_is_told_exactly(tmp_path: Path) -> None:
    publisher, endpoint = f"ipc://{tmp_path}/in", f"ipc://{tmp_path}/out"
    chosen = random.Random(5)
    lost: list[tuple[str, int]] = []
    at = {"frame/cam1/": 0, "frame/cam2/": 0}

    def loses(parts: list[bytes]) -> bool:
        topic = parts[0].decode()
        if topic not in at:
            return False
        at[topic] += 1
        # The first of each must come: what is sent before is not known to be missing.
        gone = at[topic] > 1 and (chosen.random() < 0.2 or at[topic] > 195)
        if gone:
            lost.append((topic, at[topic] - 1))
        return gone

    def publish() -> None:
        with sink_at(publisher, subscribers=2) as sink:
            for index in range(200):
                write(sink, frame_result(index, "cam1"), frame_result(index, "cam2"))
            write(sink, source_end("cam1"))

    told = Told()
    thread = threading.Thread(target=publish)
    with LossyForwarder(publisher, endpoint, loses):
        thread.start()
        # Losses behind the last message are told by the heartbeat of the close.
        came = collect(endpoint, "frame/", "end/", told=told, silence_s=1.0)
        thread.join()
    assert len(lost) > 50
    assert sorted(told.lost) == sorted(lost)
    assert len(came) + len(lost) == 400


def test_slow_subscriber_is_told_exactly_what_it_lost(endpoint: str) -> None:
    frames = 600
    told = Told()
    read = threading.Semaphore(0)
    came: list[int] = []

    def read_slowly() -> None:
        topics = ["frame/cam1/", "end/"]
        with subscribe(endpoint, topics, on_gap=told.gap, high_water_mark=1) as subscription:
            for message in subscription:
                if isinstance(message, SourceEnd):
                    return
                assert isinstance(message, FrameResult)
                came.append(message.frame_index)
                if len(came) <= frames // 100:
                    assert read.acquire(timeout=30)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    with sink_at(endpoint, 2, high_water_mark=10) as sink:
        for index in range(frames):
            result = frame_result(index, image_id="x" * 20_000)
            write(sink, result)
            if index % 100 == 99:
                read.release()
        # It reads as fast as it can now, and gets the end as soon as there is room again.
        while thread.is_alive():
            write(sink, source_end())
            thread.join(0.02)
        assert sink.counts()["subscriber_behind"] >= 1
    lost = [n for _topic, n in told.lost if _topic == "frame/cam1/"]
    assert len(lost) > 100
    assert sorted(came + lost) == list(range(max(came + lost) + 1))


def test_who_subscribes_late_gets_what_is_sent_from_then_on_and_has_lost_nothing() -> None:
    told = Told()
    came: list[FrameResult] = []
    with sink_at("tcp://127.0.0.1:*", subscribers=0) as sink:
        write(sink, *(frame_result(index) for index in range(5)))
        thread = threading.Thread(
            target=lambda: came.extend(collect(sink.bound_endpoint, "frame/", "end/", told=told))
        )
        thread.start()
        index = 5
        while thread.is_alive():
            write(sink, frame_result(index), source_end())
            index += 1
            thread.join(0.01)
    indices = [result.frame_index for result in came]
    assert indices
    assert indices[0] >= 5
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert told.lost == []


def test_restart_of_the_publisher_is_told_and_is_no_loss(endpoint: str) -> None:
    told = Told()
    came: list[FrameResult] = []
    thread = threading.Thread(
        target=lambda: came.extend(collect(endpoint, "frame/", "end/", ends=2, told=told))
    )
    thread.start()
    for _ in range(2):
        with sink_at(endpoint, subscribers=2) as sink:
            write(sink, frame_result(0), frame_result(1), source_end())
    thread.join()
    assert [result.frame_index for result in came] == [0, 1, 0, 1]
    assert len(told.restarts) == 1
    assert told.lost == []


def test_fifty_subscribers_get_everything(endpoint: str) -> None:
    tolds = [Told() for _ in range(50)]
    counts: list[int] = []
    threads = [
        threading.Thread(
            target=lambda told=told: counts.append(
                len(collect(endpoint, "frame/cam1/", "end/", told=told))
            )
        )
        for told in tolds
    ]
    for thread in threads:
        thread.start()
    with sink_at(endpoint, subscribers=100) as sink:
        write(sink, *(frame_result(index) for index in range(100)), source_end())
        for thread in threads:
            thread.join()
    assert counts == [100] * 50
    assert not any(told.lost for told in tolds)
