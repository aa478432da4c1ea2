"""`framewire status`: what a person sees of a running process."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from contracts.errors import BadSetting, NoPublisher
from contracts.messages import LedgerCounts, Status, parse_message
from scripts.status import show_status
from sinks.zmq import ZmqSink
from tests.messages import frame_result, source_status, status
from tests.wire import write


@contextmanager
def publishing(said: Status) -> Iterator[str]:
    """The endpoint of somebody who says this again and again, between other messages."""
    over, bound = threading.Event(), threading.Event()
    sink = ZmqSink("tcp://127.0.0.1:*")

    def publish() -> None:
        sink.open()
        bound.set()
        while not over.wait(0.02):
            write(sink, frame_result(), said)
        sink.close()

    thread = threading.Thread(target=publish)
    thread.start()
    assert bound.wait(10)
    try:
        yield sink.bound_endpoint
    finally:
        over.set()
        thread.join()


def shown(said: Status) -> tuple[int, str]:
    """The exit status, and what is printed."""
    console = Console(width=120, record=True, file=io.StringIO())
    with publishing(said) as endpoint:
        exit_status = show_status(endpoint, 10, as_json=False, console=console)
    return exit_status, console.export_text()


def test_each_source_is_a_row_with_its_state_rate_and_account() -> None:
    lost = source_status(
        "cam2",
        state="backing_off",
        code="auth_failed",
        connections=3,
        abandoned_threads=1,
        ledger=LedgerCounts(captured=5, failed={"decode_error": 5}),
    )
    exit_status, text = shown(status(source_status(), lost))
    rows = [line for line in text.splitlines() if "│" in line]
    assert exit_status == 0
    assert [cell.strip() for cell in rows[0].split("│")[1:-1]] == [
        "cam1", "live", "25.0", "1×",
        "captured 10 = delivered 8 + dropped 1 (queue_full 1) + in flight 1",
    ]  # fmt: skip
    assert [cell.strip() for cell in rows[1].split("│")[1:4]] == ["cam2", "backing_off", "25.0"]
    assert "auth_failed" in rows[2]
    assert "1 hung" in rows[2]


def test_process_that_is_not_ready_says_why_and_is_exit_status_1() -> None:
    exit_status, text = shown(status(ready=False, reasons=("the model fails: rebuilding",)))
    assert exit_status == 1
    assert "not ready" in text
    assert "the model fails: rebuilding" in text


def test_json_is_the_message_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with publishing(status()) as endpoint:
        show_status(endpoint, 10, as_json=True, console=Console())
    assert parse_message(capsys.readouterr().out) == status()


def test_silence_has_a_name_and_says_what_to_ask() -> None:
    with pytest.raises(NoPublisher, match=r"no status came within 0\.1 s"):
        show_status("tcp://127.0.0.1:9", 0.1, as_json=False, console=Console())


def test_endpoint_that_is_none_is_refused() -> None:
    with pytest.raises(BadSetting, match="not an endpoint"):
        show_status("cam1", 1, as_json=False, console=Console())
