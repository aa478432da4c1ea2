"""What `framewire listen` prints, and how it ends."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zmq

from contracts.errors import BadSetting
from contracts.frame import Delivery
from contracts.messages import AnyMessage, Detection, LedgerCounts, parse_message
from scripts.listen import account, detected, end_line, failure_line, line_of, listen, result_line
from sinks.zmq import ZmqSink
from tests.messages import (
    BRASS,
    GEAR,
    NUT,
    frame_failure,
    frame_result,
    source_end,
    source_event,
    status,
)
from tests.resources import held, released

ROOT = Path(__file__).parents[1]
LEDGER = LedgerCounts(captured=3, delivered=2, failed={"decode_error": 1})
RUN: list[AnyMessage] = [
    frame_result(0),
    frame_failure(1),
    frame_result(2),
    source_end(ledger=LEDGER),
]


@contextlib.contextmanager
def published(endpoint: str, messages: list[AnyMessage]) -> Iterator[None]:
    """A run that waits for one subscriber and then publishes these messages."""

    def publish() -> None:
        sink = ZmqSink(endpoint, wait_for_subscribers=1)
        sink.open()
        for message in messages:
            sink.write(Delivery(message), message.model_dump_json().encode())
        sink.close()

    thread = threading.Thread(target=publish)
    thread.start()
    yield
    thread.join()


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """One that nobody else has."""
    return f"ipc://{tmp_path}/out"


def test_each_message_is_one_readable_line(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with published(endpoint, RUN):
        assert listen(endpoint, count=4) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("cam1 #0 0.000 s  1× gear (brass), 1× nut  ")
    assert lines[1] == "cam1 #1 0.040 s  decode_error: one packet is damaged"
    assert lines[3] == "cam1 ended  captured 3 = delivered 2 + failed 1 (decode_error 1)"


def test_count_of_messages_is_said_at_the_end(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with published(endpoint, RUN):
        listen(endpoint, count=2)
    errors = capsys.readouterr().err
    assert errors.splitlines() == [
        f"listening to {endpoint}, Ctrl-C ends",
        "2 messages (cam1 2)",
    ]


def test_json_is_printed_as_it_came(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with published(endpoint, RUN):
        listen(endpoint, as_json=True, count=4)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [message.model_dump_json() for message in RUN]


def test_topic_leaves_the_rest_out(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with published(endpoint, [frame_result(5, "cam10"), *RUN]):
        listen(endpoint, topic="frame/cam1/", as_json=True, count=2)
    lines = capsys.readouterr().out.splitlines()
    assert [parse_message(line) for line in lines] == [RUN[0], RUN[2]]


def test_until_end_stops_when_every_source_seen_has_ended(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first: list[AnyMessage] = [frame_result(0), frame_result(0, "cam2"), source_end()]
    with published(endpoint, [*first, source_end("cam2"), frame_result(9, "cam3")]):
        assert listen(endpoint, until_end=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["cam1", "cam2", "cam1", "cam2"]


def test_message_that_breaks_the_contract_is_named_counted_and_makes_the_status_1(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(endpoint)
        status: list[int] = []
        thread = threading.Thread(target=lambda: status.append(listen(endpoint, count=3)))
        thread.start()
        assert publisher.poll(10_000)
        publisher.send_multipart([b"frame/cam1/", b'{"schema_name":"framewire.failure"}'])
        publisher.send_multipart([b"only\x1b[31m topic"])
        publisher.send_multipart([b"end/cam1/", source_end().model_dump_json().encode()])
        thread.join(10)
    printed = capsys.readouterr()
    assert status == [1]
    assert "frame/cam1/: breaks the contract: framewire.failure.source_id: Field req" in printed.err
    assert "only�[31m topic: breaks the contract" in printed.err
    assert "1 messages (cam1 1); 2 broke the contract" in printed.err
    assert len(printed.out.splitlines()) == 1


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1", "5555", "http://127.0.0.1:1", ""])
def test_endpoint_that_is_none_is_a_bad_setting(endpoint: str) -> None:
    with pytest.raises(BadSetting, match="is not an endpoint"):
        listen(endpoint)


def test_ctrl_c_ends_with_the_count_and_status_0(endpoint: str) -> None:
    code = "import sys; from scripts.listen import listen; sys.exit(listen(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, endpoint],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as listener:  # fmt: skip
        assert listener.stdout
        with published(endpoint, RUN):
            seen = [listener.stdout.readline() for _ in RUN]
        listener.send_signal(signal.SIGINT)
        _, errors = listener.communicate(timeout=10)
    assert seen[0].startswith("cam1 #0")
    assert listener.returncode == 0
    assert errors.splitlines()[-1] == "4 messages (cam1 4)"
    assert "Traceback" not in errors


@pytest.mark.parametrize("as_json", [True, False])
def test_reader_of_the_output_that_goes_away_ends_it_quietly(endpoint: str, as_json: bool) -> None:
    code = (
        "import sys; from scripts.listen import listen; "
        f"sys.exit(listen(sys.argv[1], as_json={as_json}))"
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    with (
        subprocess.Popen(
            [sys.executable, "-c", code, endpoint],
            cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE, text=True,
        ) as listener,
        published(endpoint, RUN),
    ):  # fmt: skip
        os.close(write_end)
        _, errors = listener.communicate(timeout=20)
    assert listener.returncode == 0
    assert "Traceback" not in errors
    assert "Broken pipe" not in errors


def test_detections_are_summed_up_the_most_frequent_first() -> None:
    plain_gear = Detection(**{**GEAR.model_dump(), "score": 0.5})
    result = frame_result(detections=(GEAR, NUT, plain_gear, plain_gear), classifications=(BRASS,))
    assert detected(result) == "2× gear, 1× gear (brass), 1× nut"


def test_frame_in_which_nothing_was_found_says_so() -> None:
    line = result_line(frame_result(detections=(), classifications=(), pts_s=None))
    assert line.plain.startswith("cam1 #0  nothing  ")


def test_latency_is_shown_only_where_the_clocks_allow_it() -> None:
    now = datetime.now(UTC)
    old = result_line(frame_result(captured_at=now - timedelta(seconds=2))).plain
    assert 2000 <= float(old.split()[-4]) < 3000
    assert old.endswith(" ms after capture")
    ahead = result_line(frame_result(captured_at=now + timedelta(hours=1))).plain
    assert "after capture" not in ahead


def test_degraded_result_names_why() -> None:
    assert "degraded: no_classifier" in result_line(frame_result(degraded=("no_classifier",))).plain


def test_failure_is_red() -> None:
    line = failure_line(frame_failure(code="corrupt_image"))
    red = [line.plain[span.start : span.end] for span in line.spans if span.style == "red"]
    assert red == ["  corrupt_image: one packet is damaged"]


def test_end_says_the_whole_account() -> None:
    ledger = LedgerCounts(
        captured=120, delivered=110, dropped={"queue_full": 7}, failed={"b": 1, "a": 1}, in_flight=1
    )
    expected = "captured 120 = delivered 110 + dropped 7 (queue_full 7) + failed 2 (a 1, b 1)"
    assert account(ledger) == f"{expected} + in flight 1"


def test_end_says_how_many_messages_were_lost_on_the_way() -> None:
    end = source_end(ledger=LEDGER, code="source_lost", message="no frame for 10 s")
    assert "source_lost: no frame for 10 s" in end_line(end, 3).plain
    assert "did not come" not in end_line(end, 3).plain
    assert "2 of 3 messages did not come here" in end_line(end, 1).plain


def test_control_characters_of_a_message_do_not_reach_the_terminal() -> None:
    odd = GEAR.model_copy(update={"class_name": "gear\x1b]0;title\x07\n"})
    messages: list[AnyMessage] = [
        frame_result(detections=(odd,), classifications=()),
        frame_failure(message="\x1b[2Jgone\r\n"),
        source_end(code="source_lost", message="\x1b[2J"),
        source_event(message="\x1b[2J"),
    ]
    lines = [line_of(message, 0) for message in messages]
    assert all(line is not None and line.plain.isprintable() for line in lines)


def test_change_of_a_sources_state_is_a_line_and_a_status_is_none() -> None:
    line = line_of(source_event(), 0)
    assert line is not None
    assert line.plain == "cam1 backing_off  stalled: no frame for 5 s  next try in 0.5 s"
    assert line_of(status(), 0) is None


def test_listening_leaves_no_socket_behind(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = held()
    for _ in range(5):
        with published(endpoint, RUN):
            listen(endpoint, count=1)
    assert released(before)
