"""The capture thread: numbers, times, failures, the end, and that the ledger agrees with it all."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import BadSetting, CorruptImage, DecodeError, SourceNotFound, TruncatedVideo
from contracts.frame import Frame, StreamItem
from contracts.ledger import Ledger
from contracts.messages import FrameFailure, LedgerCounts, SourceEnd
from contracts.settings import SourceSettings, WhenFull
from stream.capture import capture
from stream.file import FileReader
from stream.queue import BoundedQueue
from stream.reader import Picture, Reading, Unreadable
from tests.clips import number_in, write_clip

TIMEOUT_S = 10.0
CAM = SourceSettings(uri="cam", id="cam")
Step = Reading | BaseException | Callable[[], None]


def picture(number: int = 0) -> Picture:
    """Grey, named by nobody."""
    return Picture(np.full((4, 6, 3), number, np.uint8), pts_s=number / 10)


class ListReader:
    """Yields what is in a list, raises the exceptions in it and calls the functions in it."""

    live = False
    frame_count_hint = None

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self.is_closed = False

    def pictures(self) -> Iterator[Reading]:
        """In the order of the list."""
        for step in self._steps:
            if isinstance(step, DecodeError | Picture | Unreadable):
                yield step
            elif isinstance(step, BaseException):
                raise step
            else:
                assert callable(step)
                step()

    def close(self) -> None:
        """Remembers it."""
        self.is_closed = True


class Line:
    """A queue and a ledger, wired as one source has them."""

    def __init__(self, depth: int = 64, when_full: WhenFull = "block") -> None:
        self.ledger = Ledger()
        self.stop = threading.Event()
        self.queue: BoundedQueue[StreamItem] = BoundedQueue(
            depth=depth,
            max_bytes=1 << 30,
            when_full=when_full,
            size_of=lambda item: item.image_hwc.nbytes if isinstance(item, Frame) else 0,
            may_drop=lambda item: isinstance(item, Frame),
            on_drop=self._on_drop,
        )

    def _on_drop(self, item: StreamItem) -> None:
        assert isinstance(item, Frame)
        self.ledger.dropped(item.frame_index, "queue_full")

    def capture(self, reader: ListReader, max_frames: int | None = None) -> list[StreamItem]:
        """Captures on this thread; then what the queue holds."""
        capture(CAM, lambda: reader, self.queue, self.ledger, self.stop, max_frames)
        return self.drain()

    def drain(self) -> list[StreamItem]:
        """Everything up to the end, waited for."""
        items: list[StreamItem] = []
        while (item := self.queue.take(TIMEOUT_S)) is not None:
            items.append(item)
        return items


def frames_in(items: Sequence[StreamItem]) -> list[int]:
    """The indices of the frames."""
    return [item.frame_index for item in items if isinstance(item, Frame)]


def failures_in(items: Sequence[StreamItem]) -> list[tuple[int, str]]:
    """The indices and codes of the failures."""
    return [(item.frame_index, item.code) for item in items if isinstance(item, FrameFailure)]


def end_of(items: Sequence[StreamItem]) -> SourceEnd:
    """The last item, which is the only end."""
    assert [isinstance(item, SourceEnd) for item in items] == [False] * (len(items) - 1) + [True]
    assert isinstance(items[-1], SourceEnd)
    return items[-1]


def test_frames_are_numbered_from_zero_and_followed_by_the_end() -> None:
    line, reader = Line(), ListReader([picture(), picture(), picture()])
    items = line.capture(reader)
    assert frames_in(items) == [0, 1, 2]
    assert end_of(items).code is None
    assert end_of(items).ledger == LedgerCounts(captured=3, in_flight=3)
    assert line.queue.closed_and_empty
    assert reader.is_closed


def test_painted_numbers_and_times_of_a_real_clip_arrive_with_their_frames(tmp_path: Path) -> None:
    line, clip = Line(depth=2), write_clip(tmp_path / "clip.mp4", 40)
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(
            capture, CAM, lambda: FileReader(clip, 10**6), line.queue, line.ledger, line.stop
        )
        items = line.drain()
        done.result(TIMEOUT_S)
    frames = [item for item in items if isinstance(item, Frame)]
    assert [number_in(frame.image_hwc) for frame in frames] == list(range(40))
    assert frames_in(items) == list(range(40))
    assert [frame.pts_s for frame in frames] == pytest.approx([i / 10 for i in range(40)])


def test_a_picture_without_a_name_is_named_by_its_source_and_number() -> None:
    named = Picture(np.zeros((4, 6, 3), np.uint8), image_id="door.jpg")
    items = Line().capture(ListReader([picture(), named]))
    assert [item.image_id for item in items if isinstance(item, Frame)] == ["cam/0", "door.jpg"]


def test_times_are_stamped_after_the_read_returned() -> None:
    began: list[int] = []
    came: list[int] = []

    def read_slowly() -> None:
        began.append(time.monotonic_ns())
        while time.monotonic_ns() < began[-1] + 2_000_000:
            pass
        came.append(time.monotonic_ns())

    items = Line().capture(ListReader([read_slowly, picture(), read_slowly, picture()]))
    frames = [item for item in items if isinstance(item, Frame)]
    for frame, began_ns, came_ns in zip(frames, began, came, strict=True):
        assert frame.captured_ns >= came_ns
        assert frame.decode_ms >= (came_ns - began_ns) / 1e6
        assert frame.captured_at.utcoffset() is not None


def test_a_yielded_error_is_one_failed_frame_and_reading_goes_on() -> None:
    lost = Unreadable(CorruptImage("b.jpg: cut short"), pts_s=0.5, image_id="b.jpg")
    line = Line()
    items = line.capture(ListReader([picture(), lost, DecodeError("no"), picture()]))
    assert frames_in(items) == [0, 3]
    assert failures_in(items) == [(1, "corrupt_image"), (2, "decode_error")]
    failure = items[1]
    assert isinstance(failure, FrameFailure)
    assert (failure.image_id, failure.pts_s) == ("b.jpg", 0.5)
    assert failure.message == "b.jpg: cut short"
    assert end_of(items).code is None
    assert line.ledger.counts().captured == 4


def test_a_raised_error_is_one_failed_frame_and_the_code_of_the_end() -> None:
    line, reader = Line(), ListReader([picture(), TruncatedVideo("clip.mp4: cut short")])
    items = line.capture(reader)
    assert frames_in(items) == [0]
    assert failures_in(items) == [(1, "truncated_video")]
    assert end_of(items).code == "truncated_video"
    assert end_of(items).message == "clip.mp4: cut short"
    assert line.ledger.counts().captured == 2
    assert reader.is_closed


@pytest.mark.parametrize("error", [SourceNotFound("cam: gone"), BadSetting("cam: odd")])
def test_a_source_that_never_opened_gives_only_its_end(error: SourceNotFound | BadSetting) -> None:
    def open_nothing() -> ListReader:
        raise error

    line = Line()
    capture(CAM, open_nothing, line.queue, line.ledger, line.stop)
    items = line.drain()
    assert len(items) == 1
    assert end_of(items).code == error.code
    assert line.ledger.counts() == LedgerCounts()


def test_reading_stops_at_max_frames_with_failed_ones_counted() -> None:
    line = Line()
    readings: list[Step] = [picture(), DecodeError("no"), picture(), picture()]
    items = line.capture(ListReader(readings), max_frames=3)
    assert frames_in(items) == [0, 2]
    assert failures_in(items) == [(1, "decode_error")]
    assert end_of(items).code is None
    assert line.ledger.counts().captured == 3


def test_stop_ends_the_source_without_a_code() -> None:
    line = Line()
    reader = ListReader([picture(), line.stop.set, picture(), picture()])
    items = line.capture(reader)
    assert frames_in(items) == [0, 1]
    assert end_of(items).code is None
    assert reader.is_closed


def test_full_live_queue_drops_the_oldest_frames_and_the_ledger_counts_them() -> None:
    line = Line(depth=2, when_full="drop_oldest")
    read_all = threading.Event()
    steps: list[Step] = [picture(i) for i in range(10)]
    steps.append(read_all.set)
    reader = ListReader(steps)
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(capture, CAM, lambda: reader, line.queue, line.ledger, line.stop)
        assert read_all.wait(TIMEOUT_S)
        items = line.drain()
        done.result(TIMEOUT_S)
    assert frames_in(items) == [8, 9]
    assert end_of(items).code is None
    assert line.ledger.counts() == LedgerCounts(captured=10, dropped={"queue_full": 8}, in_flight=2)


def test_the_frame_that_nobody_takes_any_more_is_dropped_as_shutdown() -> None:
    line = Line()

    def consumer_goes() -> None:
        line.queue.abandon()

    reader = ListReader([picture(), consumer_goes, picture(), picture()])
    assert line.capture(reader) == []
    assert line.ledger.counts() == LedgerCounts(captured=2, dropped={"shutdown": 1}, in_flight=1)
    assert reader.is_closed


def test_capture_that_waits_for_room_returns_when_the_consumer_goes() -> None:
    line, second_read = Line(depth=1), threading.Event()
    reader = ListReader([picture(), picture(), second_read.set, picture()])
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(line.capture, reader)
        assert isinstance(line.queue.take(TIMEOUT_S), Frame)
        assert second_read.wait(TIMEOUT_S)
        for item in line.queue.abandon():
            assert isinstance(item, Frame)
        assert done.result(TIMEOUT_S) == []
    assert line.ledger.counts().dropped == {"shutdown": 1}
    assert reader.is_closed


def test_a_defect_ends_the_source_by_name_and_is_raised_to_the_owner(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line, reader = Line(), ListReader([picture(), ZeroDivisionError("one\nby zero")])
    with pytest.raises(ZeroDivisionError):
        line.capture(reader)
    items = line.drain()
    assert frames_in(items) == [0]
    assert end_of(items).code == "internal_error"
    assert end_of(items).message == "ZeroDivisionError: one by zero"
    assert reader.is_closed
    (record,) = caplog.records
    assert record.name == "framewire.stream"
    assert record.exc_info is not None


def test_each_source_error_is_one_log_line_with_its_code(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "framewire.stream")
    Line().capture(ListReader([DecodeError("bad\npacket"), TruncatedVideo("cut")]))
    assert [record.getMessage() for record in caplog.records] == [
        "cam#0: decode_error: bad packet",
        "cam#1: truncated_video: cut",
    ]
