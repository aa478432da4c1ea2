"""One connection: numbers, times, failures, ends, and what becomes of a reader that hangs."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import (
    BadSetting,
    CorruptImage,
    DecodeError,
    SourceLost,
    SourceNotFound,
    Stalled,
    TruncatedVideo,
)
from contracts.frame import Frame
from contracts.messages import FrameFailure, LedgerCounts
from stream.capture import Connection, OpenReader
from stream.file import FileReader
from stream.reader import Picture, Reading, Skip, Skipped, Unreadable
from tests.clips import number_in, write_clip
from tests.sources import (
    TIMEOUT_S,
    Hang,
    Line,
    Opener,
    Script,
    Step,
    code_of,
    failures_in,
    frames_in,
    picture,
)

PATIENCE_S = 2.0
MUCH_LATER_S = 1000.0


def connection_to(
    line: Line, open_reader: OpenReader, ring: Callable[[], None] = lambda: None
) -> Connection:
    """A connection that begins now."""
    return Connection(line.feed, open_reader, ring, time.monotonic())


def run(line: Line, *steps: Step) -> tuple[Script, Connection]:
    """A reader that does all this has been read on this thread, and closed."""
    reader = Script(*steps, live=line.feed.live)
    connection = connection_to(line, Opener(reader))
    connection.run()
    assert connection.ended.is_set()
    assert reader.closed.is_set()
    return reader, connection


@contextmanager
def running(connection: Connection) -> Iterator[Connection]:
    """Its thread runs inside, and has gone after."""
    connection.start()
    yield connection
    connection.ask_to_stop(time.monotonic())
    assert connection.ended.wait(TIMEOUT_S)
    connection.join()


def later() -> float:
    """A time at which everybody's patience is over."""
    return time.monotonic() + MUCH_LATER_S


def test_frames_are_numbered_from_zero_to_the_end() -> None:
    line = Line(live=False)
    _, connection = run(line, picture(), picture(), picture())
    assert frames_in(line.held()) == [0, 1, 2]
    assert (connection.error, connection.n_frames) == (None, 3)
    assert line.ledger.counts() == LedgerCounts(captured=3, in_flight=3)


def test_the_next_connection_goes_on_with_the_numbers_of_the_last() -> None:
    line = Line()
    run(line, picture(), DecodeError("no"), SourceLost("gone"))
    run(line, picture(), picture())
    assert frames_in(line.held()) == [0, 2, 3]


def test_painted_numbers_and_times_of_a_real_clip_arrive_with_their_frames(tmp_path: Path) -> None:
    line, clip = Line(live=False, depth=2), write_clip(tmp_path / "clip.mp4", 40)
    frames: list[Frame] = []
    with running(connection_to(line, lambda _stop: FileReader(clip, 10**6))) as connection:
        for _ in range(40):
            frame = line.queue.take(TIMEOUT_S)
            assert isinstance(frame, Frame)
            frames.append(frame)
        assert connection.ended.wait(TIMEOUT_S)
    assert connection.error is None
    assert [number_in(frame.image_hwc) for frame in frames] == list(range(40))
    assert [frame.frame_index for frame in frames] == list(range(40))
    assert [frame.pts_s for frame in frames] == pytest.approx([i / 10 for i in range(40)])


def test_a_picture_without_a_name_is_named_by_its_source_and_number() -> None:
    line, named = Line(), Picture(np.zeros((4, 6, 3), np.uint8), image_id="door.jpg")
    run(line, picture(), named)
    names = [item.image_id for item in line.held() if isinstance(item, Frame)]
    assert names == ["cam/0", "door.jpg"]


def test_times_are_stamped_after_the_read_returned() -> None:
    began: list[int] = []
    came: list[int] = []

    def read_slowly() -> None:
        began.append(time.monotonic_ns())
        while time.monotonic_ns() < began[-1] + 2_000_000:
            pass
        came.append(time.monotonic_ns())

    line = Line(live=False)
    run(line, read_slowly, picture(), read_slowly, picture())
    frames = [item for item in line.held() if isinstance(item, Frame)]
    for frame, began_ns, came_ns in zip(frames, began, came, strict=True):
        assert frame.captured_ns >= came_ns
        assert frame.decode_ms >= (came_ns - began_ns) / 1e6
        assert frame.captured_at.utcoffset() is not None


def test_waiting_for_a_live_frame_is_not_decoding_it() -> None:
    never = threading.Event()
    line = Line(live=True)
    run(line, lambda: never.wait(0.5), picture())
    [frame] = [item for item in line.held() if isinstance(item, Frame)]
    assert frame.decode_ms < 250


def test_a_yielded_error_is_one_failed_frame_and_reading_goes_on() -> None:
    lost = Unreadable(CorruptImage("b.jpg: cut short"), pts_s=0.5, image_id="b.jpg")
    line = Line(live=False)
    _, connection = run(line, picture(), lost, DecodeError("no"), picture())
    items = line.held()
    assert frames_in(items) == [0, 3]
    assert failures_in(items) == [(1, "corrupt_image"), (2, "decode_error")]
    assert isinstance(items[1], FrameFailure)
    assert (items[1].image_id, items[1].pts_s) == ("b.jpg", 0.5)
    assert (connection.error, line.ledger.counts().captured) == (None, 4)


def test_a_file_that_breaks_off_has_one_more_frame_which_failed() -> None:
    line = Line(live=False)
    _, connection = run(line, picture(), TruncatedVideo("clip.mp4: cut short"))
    items = line.held()
    assert (frames_in(items), failures_in(items)) == ([0], [(1, "truncated_video")])
    assert code_of(connection.error) == "truncated_video"
    assert line.ledger.counts().captured == 2


def test_a_live_source_that_breaks_off_has_lost_no_frame_that_could_be_counted() -> None:
    line = Line()
    _, connection = run(line, picture(), SourceLost("cam: unplugged"))
    assert line.ledger.counts() == LedgerCounts(captured=1, in_flight=1)
    assert code_of(connection.error) == "source_lost"


@pytest.mark.parametrize("error", [SourceNotFound("cam: gone"), BadSetting("cam: odd")])
@pytest.mark.parametrize("live", [True, False])
def test_a_source_that_can_t_be_opened_has_no_frames(
    error: SourceNotFound | BadSetting, live: bool
) -> None:
    line = Line(live=live)
    connection = connection_to(line, Opener(error))
    connection.run()
    assert (connection.error, connection.opened, connection.n_frames) == (error, False, 0)
    assert line.ledger.counts() == LedgerCounts()


def test_reading_stops_at_max_frames_with_failed_ones_counted() -> None:
    line = Line(live=False, max_frames=3)
    _, connection = run(line, picture(), DecodeError("no"), picture(), picture())
    items = line.held()
    assert (frames_in(items), failures_in(items)) == ([0, 2], [(1, "decode_error")])
    assert (connection.error, line.ledger.counts().captured) == (None, 3)


@pytest.mark.parametrize("live", [True, False])
def test_asked_to_stop_it_reads_no_further(live: bool) -> None:
    line = Line(live=live)
    connections: list[Connection] = []
    stop = Opener(Script(picture(), lambda: connections[0].ask_to_stop(0.0), picture(), picture()))
    connections.append(connection_to(line, stop))
    connections[0].run()
    assert (frames_in(line.held()), connections[0].error) == ([0, 1], None)
    assert stop.stops[0].is_set()


def test_the_first_to_ask_it_to_stop_says_why() -> None:
    connection = connection_to(Line(), Opener())
    connection.ask_to_stop(1.0, stalled := Stalled("cam: no frame"))
    connection.ask_to_stop(2.0)
    assert connection.cause is stalled


def test_a_full_live_queue_drops_the_oldest_frames_and_the_ledger_counts_them() -> None:
    line = Line(depth=2, when_full="drop_oldest")
    run(line, *(picture(i) for i in range(10)))
    assert frames_in(line.held()) == [8, 9]
    assert line.ledger.counts() == LedgerCounts(captured=10, dropped={"queue_full": 8}, in_flight=2)


def test_the_frame_that_nobody_takes_any_more_is_dropped_as_shutdown() -> None:
    line = Line()
    _, connection = run(line, picture(), line.queue.abandon, picture(), picture())
    assert connection.error is None
    assert line.ledger.counts() == LedgerCounts(captured=2, dropped={"shutdown": 1}, in_flight=1)


def test_a_thread_that_waits_for_room_ends_when_the_consumer_goes() -> None:
    line, hang = Line(live=False, depth=1), Hang()
    with running(connection_to(line, Opener(Script(picture(), hang, picture())))), hang:
        hang.wait_until_reached()
        hang.go.set()
        line.queue.abandon()
    assert line.ledger.counts().dropped == {"shutdown": 1}


def test_a_defect_is_an_internal_error_that_knows_its_cause() -> None:
    defect = ZeroDivisionError("one\nby zero")
    _, connection = run(Line(), picture(), defect)
    assert code_of(connection.error) == "internal_error"
    assert str(connection.error) == "ZeroDivisionError: one by zero"
    assert connection.error is not None
    assert connection.error.__cause__ is defect


def test_what_goes_wrong_at_the_closing_does_not_hide_what_went_wrong_before() -> None:
    def fail() -> None:
        raise OSError("close")

    line = Line()
    lost = connection_to(line, Opener(Script(SourceLost("gone"), on_close=fail)))
    lost.run()
    fine = connection_to(line, Opener(Script(picture(), on_close=fail)))
    fine.run()
    assert [code_of(one.error) for one in (lost, fine)] == ["source_lost", "internal_error"]


def test_each_failed_frame_of_a_file_is_one_log_line_with_its_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "framewire.stream")
    run(Line(live=False), DecodeError("bad\npacket"), TruncatedVideo("cut"))
    assert [record.getMessage() for record in caplog.records] == [
        "cam#0: decode_error: bad packet",
        "cam#1: truncated_video: cut",
    ]


def test_it_rings_at_its_first_frame_and_at_its_end_only() -> None:
    line = Line()
    rings: list[int] = []
    steps = (DecodeError("no"), Skipped(), picture(), picture(), picture())
    reader = Script(*steps)
    connection_to(line, Opener(reader), lambda: rings.append(line.ledger.counts().captured)).run()
    assert rings == [3, 5]


def test_a_paused_file_is_not_read_until_it_is_resumed() -> None:
    line, hang = Line(live=False), Hang()
    with running(connection_to(line, Opener(Script(picture(), hang, picture())))) as it, hang:
        hang.wait_until_reached()
        line.feed.running.clear()
        hang.go.set()
        taken = [line.queue.take(TIMEOUT_S), line.queue.take(TIMEOUT_S)]
        assert not it.ended.is_set()
        line.feed.running.set()
        assert it.ended.wait(TIMEOUT_S)
    assert frames_in([item for item in taken if item]) == [0, 1]


class SkippingScript(Script):
    """A reader that can leave frames undecoded; remembers what it was told at each read."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(*steps)
        self.skip: Skip = "none"
        self.told: list[Skip] = []

    def pictures(self) -> Iterator[Reading]:
        """As its script."""
        for reading in super().pictures():
            self.told.append(self.skip)
            yield reading


def test_a_paused_live_source_is_told_to_decode_its_keyframes_only() -> None:
    line = Line()
    pause, resume = line.feed.running.clear, line.feed.running.set
    reader = SkippingScript(picture(), pause, picture(), picture(), resume, picture(), picture())
    connection_to(line, Opener(reader)).run()
    assert reader.told == ["none", "none", "nonkey", "nonkey", "none"]


def test_it_lived_from_its_start_to_its_last_frame() -> None:
    line = Line()
    connection = Connection(
        line.feed, Opener(Script(picture())), lambda: None, time.monotonic() - 100
    )
    assert connection.lived_s() == 0.0
    connection.run()
    assert 100 <= connection.lived_s() < 100 + TIMEOUT_S


@pytest.mark.parametrize("step", [picture(), Skipped()])
def test_it_is_silent_while_the_library_gives_no_frame(step: Step) -> None:
    line, first, second = Line(), Hang(), Hang()
    reader = Script(first, DecodeError("no"), second, step)
    with running(connection_to(line, Opener(reader))) as connection, first, second:
        first.wait_until_reached()
        began_s = time.monotonic()
        assert connection.silent_s(began_s + 3.0) == pytest.approx(3.0, abs=1.0)
        while time.monotonic() < began_s + 0.02:
            pass
        held_s = time.monotonic() - began_s
        first.go.set()
        second.wait_until_reached()
        so_far_s = connection.silent_s(time.monotonic())
        assert so_far_s >= held_s
        assert connection.silent_s(time.monotonic() + 3.0) == pytest.approx(so_far_s + 3.0, abs=1.0)
        second.go.set()
        assert connection.ended.wait(TIMEOUT_S)
        assert connection.silent_s(later()) < 1.0


def test_it_is_not_silent_while_it_waits_for_room() -> None:
    line = Line(depth=1)
    reader = Script(picture(), picture(), picture())
    with running(connection_to(line, Opener(reader))) as connection:
        assert line.bell.someone_waits.wait(TIMEOUT_S)
        assert connection.silent_s(later()) < TIMEOUT_S
        connection.ask_to_stop(time.monotonic())
        assert not connection.leave_behind_if_stuck(later(), PATIENCE_S)
        line.queue.take(TIMEOUT_S)
    assert frames_in(line.held()) == [1]


def test_only_a_reader_that_was_asked_to_stop_can_be_stuck() -> None:
    hang = Hang()
    with running(connection_to(Line(), Opener(Script(hang)))) as connection, hang:
        hang.wait_until_reached()
        assert not connection.leave_behind_if_stuck(later(), PATIENCE_S)
        asked_s = later()
        connection.ask_to_stop(asked_s)
        assert not connection.leave_behind_if_stuck(asked_s + PATIENCE_S - 0.1, PATIENCE_S)
        assert connection.leave_behind_if_stuck(asked_s + PATIENCE_S + 0.1, PATIENCE_S)


@pytest.mark.parametrize("where", ["open", "read", "close"])
@pytest.mark.parametrize("live", [True, False])
def test_what_a_reader_that_was_left_behind_brings_counts_nowhere(
    where: str, live: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "framewire.stream")
    line, hang = Line(live=live), Hang()
    reader = Script(
        picture(),
        hang if where == "read" else lambda: None,
        picture(),
        on_close=hang if where == "close" else lambda: None,
    )

    def open_it() -> Script:
        if where == "open":
            hang()
        return reader

    connection = connection_to(line, Opener(open_it))
    with hang:
        connection.start()
        hang.wait_until_reached()
        connection.ask_to_stop(time.monotonic())
        assert connection.leave_behind_if_stuck(later(), PATIENCE_S)
        counts = line.ledger.counts()
        hang.go.set()
        connection.join()
    assert line.ledger.counts() == counts
    assert counts.captured == {"open": 0, "read": 1, "close": 2}[where]
    assert len(frames_in(line.held())) == counts.captured
    assert reader.closed.is_set()
    assert [record.getMessage() for record in caplog.records] == [
        "cam: a reader that hung has come back"
    ]


@pytest.mark.parametrize("error", [SourceLost("too late"), ValueError("too late")])
@pytest.mark.parametrize("live", [True, False])
def test_an_error_that_a_reader_brings_after_it_was_left_behind_counts_nowhere(
    error: Exception, live: bool
) -> None:
    line, hang = Line(live=live), Hang()
    reader = Script(hang, error)
    connection = connection_to(line, Opener(reader))
    with hang:
        connection.start()
        hang.wait_until_reached()
        connection.ask_to_stop(time.monotonic())
        assert connection.leave_behind_if_stuck(later(), PATIENCE_S)
        hang.go.set()
        connection.join()
    assert line.ledger.counts() == LedgerCounts()
    assert connection.error is None
    assert reader.closed.is_set()


class ClosesInItsGenerator(Script):
    """A reader whose generator closes what it has open, as the real ones do, and hangs in it."""

    def __init__(self, hang: Hang) -> None:
        super().__init__()
        self._hang = hang

    def pictures(self) -> Iterator[Reading]:
        """Pictures without end."""
        try:
            while True:
                yield picture()
        finally:
            self._hang()


def test_a_reader_that_hangs_when_its_generator_is_closed_can_be_left_behind() -> None:
    line, hang = Line(max_frames=3), Hang()
    with running(connection_to(line, Opener(ClosesInItsGenerator(hang)))) as connection, hang:
        hang.wait_until_reached()
        assert connection.leave_behind_if_stuck(later(), PATIENCE_S)
    assert frames_in(line.held()) == [0, 1, 2]
