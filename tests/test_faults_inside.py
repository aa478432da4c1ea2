"""Faults on our own side: a reader that hangs, a reader with a defect. No other source notices."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.settings import SourceSettings
from scripts.wiring import Run
from stream.reader import Reader
from tests.cameras import camera
from tests.clips import Look, write_clip
from tests.live_run import LiveRun
from tests.sources import Script, capture_threads, picture

pytestmark = pytest.mark.usefixtures("leaves_nothing")

Record = Callable[[str, object], None]
MJPEG = Look("mjpeg", "yuvj420p", {})
SHORT: dict[str, Any] = {"stall_timeout_s": 0.5, "open_timeout_s": 0.5}


def test_a_reader_that_hangs_is_left_behind_and_another_is_opened(
    tmp_path: Path, steady: dict[str, Any], record_property: Record
) -> None:
    clip = write_clip(tmp_path / "whole.mkv", 20, MJPEG).read_bytes()
    with (
        hanging_after(clip[: len(clip) * 3 // 4], tmp_path / "clip.mkv"),
        LiveRun(camera(str(tmp_path / "clip.mkv"), realtime=True, **SHORT), steady) as live,
        live.keeping(steady=15),
    ):
        live.wait_for_states("cam", ("connecting", "stalled"))
        status = live.status("cam")
        assert status.abandoned_threads == 1
        assert len(capture_threads()) >= 2 + 1
        live.run.supervisor.remove("cam")
        live.wait_for_states("cam", ("ended", None))
    assert live.states("cam") == [
        ("connecting", None),
        ("live", None),
        ("stalled", "stalled"),
        ("backing_off", "stalled"),
        ("connecting", "stalled"),
        ("ended", None),
    ]
    record_property(
        "outcome",
        f"stalled ({status.message}), one thread left behind, opened again; {live.kept}",
    )


@contextlib.contextmanager
def hanging_after(data: bytes, path: Path) -> Iterator[None]:
    """A file that gives these bytes, and then keeps whoever reads it, until the context ends."""
    os.mkfifo(path)
    # Opened for reading too, so that nobody who opens it waits for the other side.
    pipe = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(pipe, data)
        yield
    finally:
        os.close(pipe)


class Defective(Run):
    """There is a defect in the reader of the source `cam`: it shows at the third frame."""

    def _open(self, source: SourceSettings, stop: threading.Event) -> Reader:
        if source.id != "cam":
            return super()._open(source, stop)
        return Script(picture(), picture(), ZeroDivisionError("by zero"))


def test_a_defect_in_one_source_is_named_and_the_source_is_tried_again(
    steady: dict[str, Any], record_property: Record, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        LiveRun(camera("rtsp://127.0.0.1/cam"), steady, kind=Defective) as live,
        live.keeping(steady=15),
    ):
        live.wait_for_states("cam", *[("live", None), ("backing_off", "internal_error")] * 3)
    lines = [record for record in caplog.records if "by zero" in record.getMessage()]
    assert all(record.exc_info for record in lines)
    counts = live.status("cam").ledger
    assert counts.captured == 2 * live.status("cam").connections
    record_property(
        "outcome", f"internal_error, {live.status('cam').connections} attempts; {live.kept}"
    )
