"""What subscribers get, what is counted, and what an endpoint must be: real sockets throughout."""

import contextlib
import logging
import queue
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from contracts.errors import EndpointUnavailable, NoSubscriber
from contracts.frame import Delivery
from contracts.messages import AnyMessage, parse_message
from contracts.wire import Heartbeat, read_header
from sinks.zmq import ZmqSink
from tests.messages import frame_failure, frame_result, source_end, status
from tests.resources import held, released, resident_bytes

ROOT = Path(__file__).parents[1]
TCP = "tcp://127.0.0.1:*"
WAIT_MS = 10_000
NOTHING = {"sent": 0, "subscriber_behind": 0, "not_sent": 0, "message_too_large": 0}


def write(sink: ZmqSink, message: AnyMessage, padding: int = 0) -> None:
    """As the sink thread does it; padding makes the payload longer."""
    sink.write(Delivery(message), message.model_dump_json().encode() + b" " * padding)


@contextlib.contextmanager
def opened(
    endpoint: str = TCP, wait_for_subscribers: int = 0, high_water_mark: int = 1000
) -> Iterator[ZmqSink]:
    """A sink that is open."""
    sink = ZmqSink(endpoint, wait_for_subscribers, high_water_mark=high_water_mark)
    try:
        sink.open()
        yield sink
    finally:
        sink.close()


@contextlib.contextmanager
def subscriber(
    endpoint: str, *topics: str, high_water_mark: int = 0
) -> "Iterator[zmq.Socket[bytes]]":
    """A SUB socket that connects to the endpoint, in a context of its own."""
    with zmq.Context() as context, context.socket(zmq.SUB) as sub:
        sub.setsockopt(zmq.LINGER, 0)
        sub.setsockopt(zmq.RCVTIMEO, WAIT_MS)
        sub.setsockopt(zmq.RCVHWM, high_water_mark)
        for topic in topics or ("",):
            sub.subscribe(topic.encode())
        sub.connect(endpoint)
        yield sub


def wait_for(sink: ZmqSink, subscriptions: int) -> None:
    """So many subscriptions are there: found out by publishing, as a run does."""
    deadline_s = time.monotonic() + WAIT_MS / 1000
    while sink._subscriptions != subscriptions:
        assert time.monotonic() < deadline_s, f"{sink._subscriptions} are there"
        write(sink, frame_result(source_id="nobody"))


def test_subscriber_gets_the_topic_and_a_message_that_parses(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    sent: list[AnyMessage] = [frame_result(0), frame_failure(1), source_end()]
    with subscriber(endpoint) as sub, opened(endpoint, wait_for_subscribers=1) as sink:
        for message in sent:
            write(sink, message)
        received = [sub.recv_multipart() for _ in sent]
        topics = [parts[0] for parts in received]
        assert topics == [b"frame/cam1/", b"failure/cam1/", b"end/cam1/"]
        assert [parse_message(payload) for _, _, payload in received] == sent
        assert sink.counts() == {**NOTHING, "sent": 3}


def test_header_says_who_when_and_which_of_its_topic_it_is(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    before_ns = time.time_ns()
    with subscriber(endpoint) as sub, opened(endpoint, wait_for_subscribers=1) as sink:
        for message in (frame_result(7), frame_failure(8), frame_result(9)):
            write(sink, message)
        headers = [read_header(sub.recv_multipart()) for _ in range(3)]
    assert [(topic, header.sequence) for topic, header in headers] == [
        ("frame/cam1/", 0), ("failure/cam1/", 0), ("frame/cam1/", 1),
    ]  # fmt: skip
    assert len({header.publisher for _, header in headers}) == 1
    assert all(before_ns <= header.sent_at_ns <= time.time_ns() for _, header in headers)
    assert headers[1][1].schema_name == "framewire.failure"


def test_heartbeat_follows_each_status_and_the_close_and_says_how_far_each_topic_is(
    tmp_path: Path,
) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    with subscriber(endpoint, "heartbeat/", "end/") as sub:
        with opened(endpoint, wait_for_subscribers=1) as sink:
            for message in (frame_result(0), frame_result(1), status(), source_end()):
                write(sink, message)
        came = [sub.recv_multipart() for _ in range(3)]
    assert [parts[0] for parts in came] == [b"heartbeat/", b"end/cam1/", b"heartbeat/"]
    latest = [Heartbeat.model_validate_json(parts[2]).latest for parts in (came[0], came[2])]
    assert latest[0] == {"frame/cam1/": 1, "status/": 0}
    assert latest[1] == {"frame/cam1/": 1, "status/": 0, "end/cam1/": 0}


def test_one_who_asks_for_the_heartbeat_too_is_one_subscriber(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    sink = ZmqSink(endpoint, wait_for_subscribers=2, wait_s=0.5)
    with (
        subscriber(endpoint, "frame/cam1/", "heartbeat/"),
        pytest.raises(NoSubscriber, match=r"waited for 2 .* 1 came"),
    ):
        sink.open()
    sink.close()


def test_message_that_is_too_large_reaches_nobody_is_counted_logged_and_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    with subscriber(endpoint) as sub:
        sink = ZmqSink(endpoint, wait_for_subscribers=1, max_message_bytes=10_000)
        sink.open()
        for index in range(3):
            write(sink, frame_result(index), padding=20_000 if index == 1 else 0)
        sink.close()
        headers = [read_header(sub.recv_multipart())[1] for _ in range(2)]
    assert [header.sequence for header in headers] == [0, 2]
    assert sink.counts() == {**NOTHING, "sent": 2, "message_too_large": 1}
    [line] = [line for line in caplog.messages if "too_large" in line]
    assert line.startswith("message_too_large: frame/cam1/ number 1 has 2")


def test_bound_endpoint_says_which_port_was_chosen() -> None:
    with opened() as sink, subscriber(sink.bound_endpoint) as sub:
        assert sink.bound_endpoint.rpartition(":")[2].isdigit()
        wait_for(sink, 1)
        write(sink, source_end())
        while sub.recv_multipart()[0] != b"end/cam1/":
            pass


def test_endpoint_that_was_bound_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="framewire.sinks"), opened() as sink:
        assert caplog.messages == [f"publishing on {sink.bound_endpoint}"]


def test_topic_of_one_source_brings_nothing_of_another(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    with (
        subscriber(endpoint, "frame/cam1/", "end/") as sub,
        opened(endpoint, wait_for_subscribers=2) as sink,
    ):
        for source_id in ("cam10", "cam1", "cam"):
            write(sink, frame_result(source_id=source_id))
        write(sink, source_end("cam10"))
        assert [sub.recv_multipart()[0] for _ in range(2)] == [b"frame/cam1/", b"end/cam10/"]


def test_open_waits_until_all_subscribers_are_there_so_that_they_miss_nothing(
    tmp_path: Path,
) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    with (
        subscriber(endpoint) as first,
        subscriber(endpoint) as second,
        opened(endpoint, wait_for_subscribers=2) as sink,
    ):
        write(sink, frame_result(0))
        for sub in (first, second):
            assert parse_message(sub.recv_multipart()[2]) == frame_result(0)


def test_subscribers_that_do_not_come_in_time_are_an_error_that_says_how_many_came(
    tmp_path: Path,
) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    sink = ZmqSink(endpoint, wait_for_subscribers=2, wait_s=0.5)
    with subscriber(endpoint), pytest.raises(NoSubscriber, match=r"waited for 2 .* 1 came"):
        sink.open()
    sink.close()


def test_waiting_for_subscribers_can_be_stopped_from_another_thread() -> None:
    stop = threading.Event()
    sink = ZmqSink(TCP, wait_for_subscribers=1, wait_s=60, stop=stop)
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    started_s = time.monotonic()
    sink.open()
    sink.close()
    timer.join()
    assert time.monotonic() - started_s < 10


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("tcp://192.0.2.1:5555", "not an address of this machine"),
        ("tcp://no-such-host.invalid:5555", "not an address of this machine"),
        ("tcp://127.0.0.1", "is not an endpoint; write tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:99999", "is not an endpoint"),
        ("tcp://127.0.0.1:port", "is not an endpoint"),
        ("tcp://127.0.0.1:²", "is not an endpoint"),
        (f"tcp://127.0.0.1:{'9' * 5000}", "is not an endpoint"),
        ("tcp://127.0.0.1:\udcff", "is not an endpoint"),
        ("127.0.0.1:5555", "is not an endpoint"),
        ("http://127.0.0.1:5555", "is not an endpoint"),
        ("inproc://here", "is not an endpoint"),
        ("", "is not an endpoint"),
        ("ipc:///no/such/folder/out", "No such file or directory"),
        (f"ipc:///tmp/{'long' * 40}", "is longer than 107 characters"),
    ],
)
def test_endpoint_that_can_not_be_bound_says_what_to_do(endpoint: str, fault: str) -> None:
    sink = ZmqSink(endpoint)
    with pytest.raises(EndpointUnavailable, match=fault) as caught:
        sink.open()
    sink.close()
    assert str(caught.value).startswith("zmq: ")
    assert "\n" not in str(caught.value)


def test_endpoint_in_use_says_what_to_do() -> None:
    with opened() as first:
        second = ZmqSink(first.bound_endpoint)
        with pytest.raises(EndpointUnavailable, match="in use; stop the run"):
            second.open()
        second.close()


def test_ipc_endpoint_of_a_running_publisher_is_not_taken_away(tmp_path: Path) -> None:
    with opened(f"ipc://{tmp_path}/out") as first:
        second = ZmqSink(f"ipc://{tmp_path}/out")
        with pytest.raises(EndpointUnavailable, match="in use"):
            second.open()
        second.close()
        with subscriber(first.bound_endpoint):
            wait_for(first, 1)


def test_ipc_endpoint_does_not_delete_a_file_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("precious", encoding="utf-8")
    sink = ZmqSink(f"ipc://{path}")
    with pytest.raises(EndpointUnavailable, match="a file that is no socket"):
        sink.open()
    sink.close()
    assert path.read_text(encoding="utf-8") == "precious"


def test_ipc_socket_left_behind_by_a_dead_run_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "out"))
    with opened(f"ipc://{tmp_path}/out") as sink, subscriber(sink.bound_endpoint):
        wait_for(sink, 1)


@pytest.mark.parametrize(("endpoint", "warnings"), [("tcp://0.0.0.0:*", 1), (TCP, 0)])
def test_endpoint_that_others_can_reach_is_warned_about_in_one_line(
    endpoint: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="sinks.zmq"), opened(endpoint):
        assert len(caplog.messages) == warnings
        assert all("anybody who can reach it" in line for line in caplog.messages)


class Reader(threading.Thread):
    """Reads everything as fast as it comes, and says which frames came."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.came: queue.Queue[int] = queue.Queue()
        self._endpoint = endpoint

    def run(self) -> None:
        """Until the source's end."""
        with subscriber(self._endpoint, "frame/cam1/", "end/cam1/") as sub:
            while (parts := sub.recv_multipart())[0] != b"end/cam1/":
                message = parse_message(parts[2])
                self.came.put(getattr(message, "frame_index", -1))


def test_slow_subscriber_loses_messages_and_is_counted_while_the_other_gets_them_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frames, padding = 400, 64_000
    with (
        opened(high_water_mark=50) as sink,
        subscriber(sink.bound_endpoint, "frame/cam1/", high_water_mark=1) as slow,
    ):
        reader = Reader(sink.bound_endpoint)
        reader.start()
        wait_for(sink, 3)
        with caplog.at_level(logging.WARNING, logger="sinks.zmq"):
            for index in range(frames):
                write(sink, frame_result(index), padding)
                assert reader.came.get(timeout=10) == index
        write(sink, source_end())
        reader.join(10)
        assert not reader.is_alive()
        slow.setsockopt(zmq.RCVTIMEO, 500)
        came = received_indices(slow)
        assert came == list(range(len(came)))
        assert 50 <= len(came) < frames
        assert sink.counts()["subscriber_behind"] == 1
        assert sink.counts()["not_sent"] == 0
        assert len(caplog.messages) == 1


def received_indices(sub: "zmq.Socket[bytes]") -> list[int]:
    """The frames that wait at the subscriber."""
    came = []
    with contextlib.suppress(zmq.Again):
        while True:
            came.append(getattr(parse_message(sub.recv_multipart()[2]), "frame_index", -1))
    return came


def test_subscriber_that_falls_behind_again_is_counted_again() -> None:
    with (
        opened(high_water_mark=50) as sink,
        subscriber(sink.bound_endpoint, "frame/cam1/", high_water_mark=1) as slow,
    ):
        wait_for(sink, 1)
        for times in (1, 2):
            index = 0
            while sink.counts()["subscriber_behind"] < times:
                write(sink, frame_result(index), 64_000)
                index += 1
                assert index < 2_000
            slow.setsockopt(zmq.RCVTIMEO, 200)
            received_indices(slow)
            # It has caught up when it gets a new one.
            while not slow.poll(10):
                write(sink, frame_result(0))


def test_message_for_which_there_is_no_memory_is_counted_and_logged_once_a_burst() -> None:
    code = textwrap.dedent("""
        import logging, resource
        from pathlib import Path
        from contracts.frame import Delivery
        from sinks.zmq import ZmqSink
        from tests.messages import frame_result

        logging.basicConfig(format="%(levelname)s %(message)s")
        sink = ZmqSink("tcp://127.0.0.1:*", max_message_bytes=2**30)
        sink.open()
        delivery, large = Delivery(frame_result()), bytes(2**29)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
        for payload in (large, large, b"{}", large):
            sink.write(delivery, payload)
        print(sink.counts())
        sink.close()
    """)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str({**NOTHING, "sent": 1, "not_sent": 3})
    assert ran.stderr.count("a message was not sent: Cannot allocate memory") == 2


def test_thousand_coming_and_going_subscribers_leave_nothing_behind() -> None:
    with opened() as sink, zmq.Context() as context:
        come_and_go(sink, context, 50)
        wait_for(sink, 0)
        before, memory_before = held(), resident_bytes()
        for _ in range(20):
            come_and_go(sink, context, 50)
        wait_for(sink, 0)
        assert released(before)
        assert resident_bytes() - memory_before < 16 * 2**20


def come_and_go(sink: ZmqSink, context: "zmq.Context[zmq.Socket[bytes]]", number: int) -> None:
    """So many subscribers come, are seen, and go."""
    with contextlib.ExitStack() as leaving:
        for _ in range(number):
            sub = leaving.enter_context(context.socket(zmq.SUB))
            sub.setsockopt(zmq.LINGER, 0)
            sub.subscribe(b"frame/cam1/")
            sub.connect(sink.bound_endpoint)
        wait_for(sink, number)


def test_close_does_not_wait_for_a_subscriber_that_never_reads() -> None:
    sink = ZmqSink(TCP)
    sink.open()
    with subscriber(sink.bound_endpoint, high_water_mark=1):
        wait_for(sink, 1)
        for index in range(200):
            write(sink, frame_result(index), 64_000)
        started_s = time.monotonic()
        sink.close()
        assert time.monotonic() - started_s < 5


def test_message_written_before_close_still_arrives() -> None:
    sink = ZmqSink(TCP)
    sink.open()
    with subscriber(sink.bound_endpoint, "end/") as sub:
        wait_for(sink, 1)
        write(sink, source_end())
        sink.close()
        assert parse_message(sub.recv_multipart()[2]) == source_end()


def test_writing_before_open_is_an_error() -> None:
    with pytest.raises(EndpointUnavailable, match="not open"):
        write(ZmqSink(TCP), source_end())


def test_close_is_safe_twice_and_after_a_failed_open() -> None:
    failed = ZmqSink("tcp://192.0.2.1:5555")
    with pytest.raises(EndpointUnavailable):
        failed.open()
    failed.close()
    failed.close()
    with opened() as sink:
        sink.close()


def test_fifty_sinks_leave_no_thread_and_no_file_open() -> None:
    with opened():
        pass
    before = held()
    for _ in range(50):
        with opened() as sink:
            write(sink, source_end())
    assert released(before)
