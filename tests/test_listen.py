"""What `framewire listen` prints, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zmq

from contracts.errors import BadSetting, NoPublisher
from contracts.messages import AnyMessage, Detection, LedgerCounts, parse_message
from scripts.listen import account, detected, end_line, failure_line, line_of, listen, result_line
from scripts.listen_stats import Figures, quantiles_of
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
from tests.wire import parts_of, published

ROOT = Path(__file__).parents[1]
LEDGER = LedgerCounts(captured=3, delivered=2, failed={"decode_error": 1})
RUN: list[AnyMessage] = [
    frame_result(0),
    frame_failure(1),
    frame_result(2),
    source_end(ledger=LEDGER),
]


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """One that nobody else has."""
    return f"ipc://{tmp_path}/out"


def test_each_message_is_one_readable_line(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with published(endpoint, *RUN):
        assert listen(endpoint, count=4) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("cam1 #0 0.000 s  1× gear (brass), 1× nut  ")
    assert lines[1] == "cam1 #1 0.040 s  decode_error: one packet is damaged"
    assert lines[3] == "cam1 ended  captured 3 = delivered 2 + failed 1 (decode_error 1)"


def test_count_of_messages_is_said_at_the_end(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with published(endpoint, *RUN):
        listen(endpoint, count=2)
    errors = capsys.readouterr().err
    assert errors.splitlines() == [
        f"listening to {endpoint}, Ctrl-C ends",
        "2 messages (cam1 2)",
    ]


def test_json_is_printed_as_it_came(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with published(endpoint, *RUN):
        listen(endpoint, as_json=True, count=4)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [message.model_dump_json() for message in RUN]


def test_topic_leaves_the_rest_out(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with published(endpoint, frame_result(5, "cam10"), *RUN):
        listen(endpoint, topic="frame/cam1/", as_json=True, count=2)
    lines = capsys.readouterr().out.splitlines()
    assert [parse_message(line) for line in lines] == [RUN[0], RUN[2]]


def test_until_end_stops_when_every_source_seen_has_ended(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first: list[AnyMessage] = [frame_result(0), frame_result(0, "cam2"), source_end()]
    with published(endpoint, *first, source_end("cam2"), frame_result(9, "cam3")):
        assert listen(endpoint, until_end=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["cam1", "cam2", "cam1", "cam2"]


def listened_to(endpoint: str, *sent: list[bytes], **how: Any) -> int:
    """The exit status of listening to somebody who sends these parts."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(endpoint)
        status: list[int] = []
        thread = threading.Thread(target=lambda: status.append(listen(endpoint, **how)))
        thread.start()
        assert publisher.poll(10_000)
        for parts in sent:
            publisher.send_multipart(parts)
        thread.join(10)
    return status[0]


def test_message_that_breaks_the_contract_is_named_counted_and_makes_the_status_1(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, header, payload = parts_of(frame_result(0), 0)
    sent = (
        [topic, header, b'{"schema_name":"framewire.failure"}'],
        [topic, header.replace(b'"v":1', b'"v":2'), payload],
        [b"only\x1b[31m topic"],
        parts_of(source_end(), 0),
    )
    assert listened_to(endpoint, *sent, count=4) == 1
    printed = capsys.readouterr()
    broken = "broken_message: frame/cam1/: breaks the contract: framewire.failure.source_id: Field"
    assert broken in printed.err
    assert (
        "unknown_version: frame/cam1/: the wire's version is 2, this reads up to 1" in printed.err
    )
    assert "only�[31m topic: expected topic, header and payload, got 1 parts" in printed.err
    assert "1 messages (cam1 1); 3 could not be read" in printed.err
    assert len(printed.out.splitlines()) == 1


def test_loss_and_restart_are_told_and_a_loss_makes_the_status_1(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = [parts_of(frame_result(i), i) for i in (0, 1, 5)]
    sent += [parts_of(frame_result(0), 0, publisher="f" * 16)]
    assert listened_to(endpoint, *sent, count=4) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[1:] == [
        "frame/cam1/: lost 3, numbers 2 to 4",
        f"the publisher has been restarted: now {'f' * 16}",
        "4 messages (cam1 4); 3 were lost",
    ]


def test_stats_are_figures_instead_of_messages(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = [parts_of(frame_result(i), i) for i in (0, 1, 5)]
    assert listened_to(endpoint, *sent, count=3, stats=True, as_json=True) == 1
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(each["messages"] for each in figures) == 3
    assert sum(each["missing"] for each in figures) == 3
    assert figures[-1]["wire_ms"]["p95"] >= figures[-1]["wire_ms"]["p50"]
    assert figures[-1]["capture_ms"]["p50"] > 0


def test_figures_are_one_readable_line() -> None:
    wire_ms = quantiles_of([float(n) for n in range(101)])
    figures = Figures(
        seconds=2.0, messages=101, bytes=4000, missing=1, wire_ms=wire_ms, capture_ms=None
    )
    assert str(figures) == "50.5 messages/s  2.0 kB/s  sent p50 50.0 p95 95.0 ms ago  lost 1"
    assert quantiles_of([]) is None


def test_silence_has_a_name(endpoint: str) -> None:
    with pytest.raises(NoPublisher, match="nothing came for"):
        listen(endpoint, silence_s=0.3)


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
        with published(endpoint, *RUN):
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
        published(endpoint, *RUN),
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
        with published(endpoint, *RUN):
            listen(endpoint, count=1)
    assert released(before)
