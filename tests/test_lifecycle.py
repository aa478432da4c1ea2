"""What becomes of a source: each state once and in order, and whatever hangs is left behind.

Time is what a test says it is: `Lifecycle.step` is told. Threads, queues and ledgers are real.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.errors import (
    AuthFailed,
    BadSetting,
    DecodeError,
    Ended,
    FramewireError,
    NotFound,
    Refused,
    SourceLost,
    SourceNotFound,
    Stalled,
    Timeout,
    TruncatedVideo,
    UnsupportedCodec,
)
from contracts.frame import StreamItem
from contracts.messages import LedgerCounts, SourceEvent, SourceState
from stream.backoff import SLOWER
from stream.lifecycle import GRACE_S, LOOK_EVERY_S, MOST_LEFT_BEHIND, Lifecycle
from tests.sources import (
    TIMEOUT_S,
    Hang,
    Line,
    Opener,
    Script,
    capture_threads,
    end_of,
    events_in,
    failures_in,
    frames_in,
    picture,
)

HOUR_S = 3600.0
RETRIES: dict[str, float] = {"first_retry_s": 2.0, "max_retry_s": 8.0}


class Rig:
    """A source of which this thread is the supervisor, at times that the test chooses."""

    def __init__(self, *attempts: Script | Exception | Callable[[], Script], **line: Any) -> None:
        self.line = Line(**{**RETRIES, **line})
        self.opener = Opener(*attempts)
        self.ahead_s = 0.0
        self._rung = threading.Event()
        self.lifecycle = Lifecycle(self.line.feed, self.opener, self._rung.set, random.Random(4))

    def step(self, later_s: float = 0.0) -> float:
        """One step as if it were so much later; how long the supervisor may sleep then.

        The threads live in the present: for a connection made in such a step it's a long time ago.
        """
        now_s = time.monotonic() + self.ahead_s + later_s
        return self.lifecycle.step(now_s) - now_s

    def step_until(self, happened: Callable[[], bool]) -> None:
        """Steps whenever it rings, as the supervisor does, and at no other time."""
        while True:
            self._rung.clear()
            self.step()
            if happened():
                return
            assert self._rung.wait(TIMEOUT_S), f"it stays {self.state}"

    def step_until_it_is(self, state: SourceState) -> None:
        """The source has this state."""
        self.step_until(lambda: self.state == state)

    @property
    def state(self) -> SourceState:
        """As anybody sees it."""
        return self.lifecycle.status().state

    def stop(self) -> list[StreamItem]:
        """It has been stopped, and has ended; everything that was in its queue."""
        self.lifecycle.ask_to_stop()
        self.step_until(lambda: self.lifecycle.over)
        return self.line.rest()


@contextmanager
def hangs(number: int) -> Iterator[list[Hang]]:
    """So many; no thread is held any more after the test."""
    made = [Hang() for _ in range(number)]
    try:
        yield made
    finally:
        for hang in made:
            hang.go.set()


def retries_in(items: list[StreamItem]) -> list[float]:
    """What the events said of the wait until the next attempt."""
    events = [item for item in items if isinstance(item, SourceEvent)]
    return [event.retry_in_s for event in events if event.retry_in_s is not None]


def test_a_camera_is_connected_live_lost_and_connected_again_and_says_each_once() -> None:
    with hangs(1) as (hang,):
        rig = Rig(
            Script(picture(), picture(), SourceLost("cam: unplugged")),
            Script(picture(), hang, picture()),
        )
        rig.step_until_it_is("backing_off")
        rig.step(later_s=RETRIES["first_retry_s"])
        rig.step_until_it_is("live")
        hang.wait_until_reached()
        rig.lifecycle.ask_to_stop()
        rig.step()
        hang.go.set()
        items = rig.stop()
    assert events_in(items) == [
        ("connecting", None),
        ("live", None),
        ("backing_off", "source_lost"),
        ("connecting", "source_lost"),
        ("live", None),
        ("ended", None),
    ]
    assert frames_in(items) == [0, 1, 2, 3]
    assert end_of(items).code is None
    (wait_s,) = retries_in(items)
    assert 0.8 * RETRIES["first_retry_s"] <= wait_s <= RETRIES["first_retry_s"]
    assert rig.lifecycle.connections == 2


def test_the_live_event_follows_the_first_frame() -> None:
    with hangs(1) as (hang,):
        rig = Rig(Script(picture(), hang))
        rig.step_until_it_is("live")
        kinds = [type(item).__name__ for item in rig.line.held()]
        assert kinds == ["SourceEvent", "Frame", "SourceEvent"]
        hang.go.set()
        rig.stop()


def test_a_camera_that_can_t_be_opened_is_tried_again_and_again() -> None:
    rig = Rig(Refused("cam: nobody"), Timeout("cam: silent"), Refused("cam: nobody"))
    for _ in range(3):
        rig.step(later_s=HOUR_S)
        rig.step_until_it_is("backing_off")
    items = rig.stop()
    assert events_in(items) == [
        ("connecting", None),
        ("backing_off", "refused"),
        ("connecting", "refused"),
        ("backing_off", "timeout"),
        ("connecting", "timeout"),
        ("backing_off", "refused"),
        ("ended", None),
    ]
    assert end_of(items).ledger == LedgerCounts()


def test_it_was_live_even_where_it_was_lost_before_anybody_looked() -> None:
    rig = Rig(Script(picture(), Ended("cam: over")))
    rig.step()
    for thread in capture_threads():
        thread.join(TIMEOUT_S)
    rig.step()
    assert events_in(rig.line.held()) == [
        ("connecting", None),
        ("live", None),
        ("backing_off", "ended"),
    ]
    rig.stop()


def test_a_reader_that_says_stalled_makes_the_source_stalled_before_it_backs_off() -> None:
    rig = Rig(Script(picture(), Stalled("cam: no picture for 5 s")))
    rig.step_until_it_is("backing_off")
    assert events_in(rig.stop()) == [
        ("connecting", None),
        ("live", None),
        ("stalled", "stalled"),
        ("backing_off", "stalled"),
        ("ended", None),
    ]


def test_waits_double_and_stop_doubling_at_the_limit() -> None:
    rig = Rig(*(Refused("cam: nobody") for _ in range(5)))
    for _ in range(5):
        rig.step(later_s=HOUR_S)
        rig.step_until_it_is("backing_off")
    for wait_s, longest_s in zip(retries_in(rig.stop()), [2, 4, 8, 8, 8], strict=True):
        assert 0.8 * longest_s <= wait_s <= longest_s


def test_nothing_is_opened_before_the_wait_is_over() -> None:
    rig = Rig(Refused("cam: nobody"), Refused("cam: nobody"))
    rig.step_until_it_is("backing_off")
    (wait_s,) = retries_in(rig.line.held())
    rig.step(later_s=wait_s - 0.5)
    assert (rig.state, rig.lifecycle.connections) == ("backing_off", 1)
    rig.step(later_s=wait_s + 0.001)
    assert rig.lifecycle.connections == 2
    rig.step_until_it_is("backing_off")
    rig.stop()


@pytest.mark.parametrize("kind", [AuthFailed, NotFound, UnsupportedCodec])
def test_what_a_person_has_to_mend_waits_ten_times_as_long(kind: type[FramewireError]) -> None:
    rig = Rig(kind("cam: no"))
    rig.step_until_it_is("backing_off")
    (wait_s,) = retries_in(rig.stop())
    assert wait_s >= 0.8 * SLOWER * RETRIES["max_retry_s"]


@pytest.mark.parametrize(("lived_s", "longest_s"), [(50.0, 8.0), (70.0, 2.0)])
def test_waits_begin_anew_after_a_minute_of_frames(lived_s: float, longest_s: float) -> None:
    rig = Rig(Refused("no"), Refused("no"), Script(picture(), SourceLost("cam: unplugged")))
    for rig.ahead_s in (-2 * HOUR_S, -HOUR_S):
        rig.step_until_it_is("backing_off")
    rig.ahead_s = 0.0
    rig.step(-lived_s)
    rig.step_until_it_is("backing_off")
    wait_s = retries_in(rig.stop())[-1]
    assert 0.8 * longest_s <= wait_s <= longest_s


@pytest.mark.parametrize("where", ["open", "read"])
def test_a_reader_that_hangs_is_asked_to_stop_then_left_behind_and_another_is_opened(
    where: str,
) -> None:
    with hangs(2) as (hang, other):
        hung = Script(picture(), hang if where == "read" else other.go.set, picture())

        def open_it() -> Script:
            if where == "open":
                hang()
            return hung

        rig = Rig(open_it, Script(picture(), other, picture()))
        rig.step()
        hang.wait_until_reached()
        rig.step()
        limit_s = 10.0 if where == "open" else 5.0
        rig.step(later_s=limit_s + GRACE_S - 1.0)
        assert not rig.opener.stops[0].is_set()
        rig.step(later_s=limit_s + GRACE_S + 0.5)
        assert rig.opener.stops[0].is_set()
        assert rig.lifecycle.abandoned_threads == 0
        rig.step(later_s=limit_s + 2 * GRACE_S + 1.0)
        assert (rig.state, rig.lifecycle.abandoned_threads) == ("backing_off", 1)

        rig.step(later_s=HOUR_S)
        rig.step_until_it_is("live")
        other.wait_until_reached()
        captured = rig.line.ledger.counts().captured
        hang.go.set()
        assert hung.closed.wait(TIMEOUT_S)
        assert rig.line.ledger.counts().captured == captured
        other.go.set()
        rig.step_until_it_is("ended")
        items = rig.line.rest()
    assert frames_in(items) == list(range({"open": 2, "read": 3}[where]))
    expected = {
        "open": [("connecting", None), ("backing_off", "timeout"), ("connecting", "timeout")],
        "read": [
            ("connecting", None),
            ("live", None),
            ("stalled", "stalled"),
            ("backing_off", "stalled"),
            ("connecting", "stalled"),
        ],
    }[where]
    assert events_in(items) == [*expected, ("live", None), ("ended", None)]
    rig.line.settle(items)
    assert rig.line.ledger.counts() == LedgerCounts(
        captured=len(frames_in(items)), delivered=len(frames_in(items))
    )


def test_a_reader_that_ends_when_it_is_asked_to_is_not_left_behind() -> None:
    def wait_for_stop() -> Script:
        assert rig.opener.stops[0].wait(TIMEOUT_S)
        raise Timeout("cam: gave up")

    rig = Rig(wait_for_stop)
    rig.step()
    rig.step(later_s=10.0 + GRACE_S + 1.0)
    rig.step_until_it_is("backing_off")
    assert rig.lifecycle.abandoned_threads == 0
    assert events_in(rig.stop())[1] == ("backing_off", "timeout")


def test_a_reader_that_gives_nothing_but_damaged_frames_is_stalled() -> None:
    with hangs(2) as (first, second):
        rig = Rig(Script(picture(), DecodeError("bad"), first, DecodeError("bad"), second))
        rig.step()
        first.wait_until_reached()
        rig.step(later_s=5.0 + GRACE_S + 1.0)
        first.go.set()
        rig.step_until_it_is("backing_off")
        items = rig.stop()
    assert rig.lifecycle.abandoned_threads == 0
    assert failures_in(items) == [(1, "decode_error"), (2, "decode_error")]
    assert ("stalled", "stalled") in events_in(items)


@pytest.mark.parametrize("error", [SourceLost("cam: unplugged"), None])
def test_a_reader_that_hangs_in_its_closing_is_left_behind_with_what_ended_it(
    error: SourceLost | None,
) -> None:
    with hangs(1) as (hang,):
        rig = Rig(Script(picture(), error or (lambda: None), on_close=hang))
        rig.step()
        hang.wait_until_reached()
        rig.step()
        assert rig.lifecycle.abandoned_threads == 0
        rig.step(later_s=GRACE_S + 1.0)
        assert rig.lifecycle.abandoned_threads == 1
        assert rig.state == ("backing_off" if error else "ended")
        items = rig.stop() if error else rig.line.rest()
    assert frames_in(items) == [0]
    assert events_in(items)[1] == ("live", None)


def test_of_a_source_whose_readers_all_hang_a_few_are_left_behind_and_no_more() -> None:
    with hangs(MOST_LEFT_BEHIND) as held:
        rig = Rig(*(Script(hang, picture()) for hang in held), Script(picture()))
        for number, hang in enumerate(held, start=1):
            rig.ahead_s += HOUR_S
            rig.step()
            hang.wait_until_reached()
            rig.step()
            rig.step(later_s=GRACE_S + 1.0)
            assert rig.lifecycle.abandoned_threads == number
        assert 0 < rig.step(later_s=HOUR_S) <= LOOK_EVERY_S
        assert (rig.state, rig.lifecycle.connections) == ("backing_off", MOST_LEFT_BEHIND)
        rig.ahead_s += HOUR_S
        held[0].go.set()
        rig.step_until(lambda: rig.lifecycle.connections == MOST_LEFT_BEHIND + 1)
        rig.ahead_s = 0.0
        rig.step_until_it_is("ended")
    assert frames_in(rig.line.rest()) == [0]


def open_slowly(hang: Hang, script: Script) -> Callable[[], Script]:
    """What is opened once the hang is over."""

    def open_it() -> Script:
        hang()
        return script

    return open_it


@pytest.mark.parametrize("live", [True, False])
def test_stopped_while_it_connects_it_closes_what_it_opened_and_reads_nothing(live: bool) -> None:
    with hangs(1) as (hang,):
        script = Script(picture(), live=live)
        rig = Rig(open_slowly(hang, script), live=live)
        rig.step()
        hang.wait_until_reached()
        rig.lifecycle.ask_to_stop()
        rig.step()
        hang.go.set()
        items = rig.stop()
    assert frames_in(items) == []
    assert end_of(items).code is None
    assert script.closed.is_set()


def test_stopped_before_its_first_step_it_only_ends() -> None:
    rig = Rig()
    items = rig.stop()
    assert events_in(items) == [("ended", None)]
    assert end_of(items).ledger == LedgerCounts()


def test_stopped_while_it_backs_off_it_ends_at_once_and_without_a_code() -> None:
    rig = Rig(Refused("cam: nobody"))
    rig.step_until_it_is("backing_off")
    items = rig.stop()
    assert rig.lifecycle.connections == 1
    assert end_of(items).code is None


@pytest.mark.parametrize("where", ["open", "read"])
@pytest.mark.parametrize("live", [True, False])
def test_stopped_while_its_reader_hangs_it_ends_after_a_grace(where: str, live: bool) -> None:
    with hangs(1) as (hang,):
        if where == "open":
            rig = Rig(open_slowly(hang, Script(live=live)), live=live)
        else:
            rig = Rig(Script(picture(), hang, picture(), live=live), live=live)
        rig.step()
        hang.wait_until_reached()
        rig.lifecycle.ask_to_stop()
        rig.step()
        rig.step(later_s=GRACE_S - 1.0)
        assert not rig.lifecycle.over
        rig.step(later_s=GRACE_S + 1.0)
        items = rig.line.rest()
        assert (rig.lifecycle.abandoned_threads, end_of(items).code) == (1, None)
        assert frames_in(items) == ([0] if where == "read" else [])
        assert rig.step() == math.inf


@pytest.mark.parametrize("live", [True, False])
def test_stopped_while_it_waits_for_room_it_still_delivers_what_it_read(live: bool) -> None:
    rig = Rig(Script(picture(), picture(), picture(), live=live), live=live, depth=1)
    rig.step()
    assert rig.line.bell.someone_waits.wait(TIMEOUT_S)
    rig.lifecycle.ask_to_stop()
    rig.step()
    rig.step(later_s=HOUR_S)
    assert not rig.lifecycle.over
    first = rig.line.held()
    rig.step_until(lambda: rig.lifecycle.over)
    assert frames_in([*first, *rig.line.rest()]) == [0, 1]
    assert rig.lifecycle.abandoned_threads == 0


def test_a_paused_camera_s_frames_are_dropped_and_its_states_are_not_told() -> None:
    with hangs(2) as (first, second):
        rig = Rig(
            Script(picture(), first, picture(), SourceLost("cam: unplugged")),
            Script(picture(), second, picture()),
        )
        rig.step_until_it_is("live")
        first.wait_until_reached()
        rig.lifecycle.pause()
        rig.lifecycle.pause()
        rig.step()
        first.go.set()
        rig.step_until(lambda: rig.lifecycle.status().code == "source_lost")
        assert rig.state == "paused"
        rig.step(later_s=HOUR_S)
        second.wait_until_reached()
        rig.step()
        rig.lifecycle.resume()
        rig.step()
        second.go.set()
        rig.step_until_it_is("ended")
        items = rig.line.rest()
    assert events_in(items) == [
        ("connecting", None),
        ("live", None),
        ("paused", None),
        ("live", None),
        ("ended", None),
    ]
    assert frames_in(items) == [0, 3]
    assert rig.line.ledger.counts().dropped == {"paused": 2}


def test_resumed_while_it_backs_off_it_says_how_long_it_still_will() -> None:
    rig = Rig(NotFound("cam: no such path"))
    rig.lifecycle.pause()
    rig.step_until(lambda: rig.lifecycle.status().code == "not_found")
    rig.lifecycle.resume()
    rig.step(later_s=50.0)
    items = rig.line.held()
    assert events_in(items) == [("paused", None), ("backing_off", "not_found")]
    (left_s,) = retries_in(items)
    assert 0.8 * 80 - 51 <= left_s <= 80 - 50
    rig.lifecycle.pause()
    rig.step()
    assert events_in(rig.stop()) == [("paused", None), ("ended", None)]


@pytest.mark.parametrize("live", [True, False])
def test_stopped_while_it_is_paused_it_ends_and_is_shown_so(live: bool) -> None:
    with hangs(1) as (hang,):
        rig = Rig(Script(picture(), hang, picture(), picture(), live=live), live=live)
        rig.step_until_it_is("live")
        hang.wait_until_reached()
        rig.lifecycle.pause()
        rig.step()
        shown = [rig.state]
        rig.lifecycle.ask_to_stop()
        rig.lifecycle.pause()
        rig.step()
        hang.go.set()
        rig.step_until(lambda: rig.lifecycle.over)
        items = rig.line.rest()
    assert [*shown, rig.state] == ["paused", "ended"]
    assert frames_in(items) == ([0] if live else [0, 1])
    assert events_in(items)[2:] == ([("paused", None), ("ended", None)] if live else [])


def test_a_paused_file_loses_nothing_and_goes_on_where_it_was() -> None:
    with hangs(1) as (hang,):
        rig = Rig(Script(picture(), hang, picture(), picture(), live=False), live=False)
        rig.step_until_it_is("live")
        hang.wait_until_reached()
        rig.lifecycle.pause()
        hang.go.set()
        rig.step(later_s=HOUR_S)
        rig.step(later_s=2 * HOUR_S)
        assert (rig.state, rig.lifecycle.over) == ("paused", False)
        rig.lifecycle.resume()
        rig.step_until_it_is("ended")
    items = rig.line.rest()
    assert frames_in(items) == [0, 1, 2]
    assert end_of(items).code is None


def test_a_file_sends_its_frames_and_its_end_and_no_events() -> None:
    rig = Rig(Script(picture(), picture(), live=False), live=False)
    rig.step_until(lambda: rig.lifecycle.over)
    items = rig.line.rest()
    assert (frames_in(items), events_in(items)) == ([0, 1], [])
    assert (end_of(items).code, rig.state) == (None, "ended")


def test_a_file_that_breaks_off_has_failed_with_the_code_of_its_last_frame() -> None:
    rig = Rig(Script(picture(), TruncatedVideo("clip.mp4: cut short"), live=False), live=False)
    rig.step_until(lambda: rig.lifecycle.over)
    items = rig.line.rest()
    assert (frames_in(items), failures_in(items)) == ([0], [(1, "truncated_video")])
    assert (end_of(items).code, end_of(items).message) == ("truncated_video", "clip.mp4: cut short")
    assert rig.state == "failed"


@pytest.mark.parametrize(
    "error", [SourceNotFound("gone"), BadSetting("odd"), SourceLost("gone"), OSError("what?")]
)
def test_a_file_is_never_tried_again(error: Exception) -> None:
    rig = Rig(error, live=False)
    rig.step_until(lambda: rig.lifecycle.over)
    expected = error.code if isinstance(error, FramewireError) else "internal_error"
    assert end_of(rig.line.rest()).code == expected


@pytest.mark.parametrize("error", [SourceNotFound("no camera"), BadSetting("no such option")])
def test_a_camera_or_a_setting_that_never_was_right_fails_at_once(error: FramewireError) -> None:
    rig = Rig(error)
    rig.step_until_it_is("failed")
    items = rig.line.rest()
    assert events_in(items) == [("connecting", None), ("failed", error.code)]
    assert end_of(items).code == error.code


@pytest.mark.parametrize("error", [SourceNotFound("no camera"), BadSetting("no such secret")])
def test_a_camera_that_was_there_once_is_waited_for(error: FramewireError) -> None:
    rig = Rig(Script(picture(), SourceLost("cam: unplugged")), error, Script(picture()))
    rig.step_until_it_is("backing_off")
    rig.step(later_s=HOUR_S)
    rig.step_until_it_is("backing_off")
    rig.step(later_s=HOUR_S)
    rig.step_until_it_is("ended")
    items = rig.line.rest()
    assert ("backing_off", error.code) in events_in(items)
    assert frames_in(items) == [0, 1]


def test_a_file_played_as_a_camera_ends_where_it_ends_and_fails_where_it_is_cut() -> None:
    whole, cut = Rig(Script(picture())), Rig(Script(picture(), TruncatedVideo("cut short")))
    whole.step_until_it_is("ended")
    cut.step_until_it_is("failed")
    assert events_in(whole.line.rest())[-1] == ("ended", None)
    assert events_in(cut.line.rest())[-1] == ("failed", "truncated_video")


def test_a_defect_of_a_camera_s_reader_is_named_and_the_camera_is_tried_again() -> None:
    rig = Rig(ZeroDivisionError("by zero"), Script(picture()))
    rig.step_until_it_is("backing_off")
    assert rig.lifecycle.status().code == "internal_error"
    rig.step(later_s=HOUR_S)
    rig.step_until_it_is("ended")
    assert frames_in(rig.line.rest()) == [0]


def test_a_camera_ends_when_max_frames_have_come() -> None:
    rig = Rig(
        Script(picture(), SourceLost("cam: unplugged")),
        Script(picture(), picture(), picture()),
        max_frames=3,
    )
    rig.step_until_it_is("backing_off")
    rig.step(later_s=HOUR_S)
    rig.step_until_it_is("ended")
    items = rig.line.rest()
    assert frames_in(items) == [0, 1, 2]
    assert events_in(items)[-2:] == [("live", None), ("ended", None)]


def test_a_camera_that_has_given_max_frames_is_not_opened_again_whatever_its_closing_does() -> None:
    def fail() -> None:
        raise OSError("can't be closed")

    rig = Rig(Script(picture(), on_close=fail), max_frames=1)
    rig.step_until_it_is("ended")
    assert end_of(rig.line.rest()).code is None
    assert rig.lifecycle.connections == 1


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_a_source_whose_consumer_has_gone_ends(live: bool, paused: bool) -> None:
    with hangs(1) as (hang,):
        rig = Rig(Script(picture(), hang, picture(), live=live), live=live)
        rig.step_until_it_is("live")
        hang.wait_until_reached()
        if paused:
            rig.lifecycle.pause()
        rig.line.settle(rig.line.queue.abandon())
        rig.step()
        hang.go.set()
        rig.step_until(lambda: rig.lifecycle.over)
    counts = rig.line.ledger.counts()
    assert (counts.delivered, counts.in_flight) == (1, 0)
    assert rig.state == "ended"


def test_a_source_whose_consumer_has_gone_ends_while_it_backs_off() -> None:
    rig = Rig(Refused("cam: nobody"))
    rig.step_until_it_is("backing_off")
    assert rig.step() <= LOOK_EVERY_S
    rig.line.queue.abandon()
    rig.step()
    assert rig.state == "ended"


def test_broken_off_its_queue_is_closed_and_its_thread_ends() -> None:
    rig = Rig(Script(picture(), picture(), picture(), live=False), live=False, depth=1)
    rig.step_until_it_is("live")
    assert rig.line.bell.someone_waits.wait(TIMEOUT_S)
    rig.lifecycle.pause()
    rig.lifecycle.break_off()
    for thread in capture_threads():
        thread.join(TIMEOUT_S)
    assert capture_threads() == []
    assert rig.line.queue.closed
    assert rig.line.ledger.counts().balanced


def test_the_status_shows_what_anybody_needs_to_know_and_no_password() -> None:
    before = datetime.now(UTC)
    with hangs(1) as (hang,):
        rig = Rig(Refused("rtsp://admin:secret@cam/1: nobody"), Script(picture(), hang))
        rig.step_until_it_is("backing_off")
        status = rig.lifecycle.status()
        assert (status.state, status.code, status.connections) == ("backing_off", "refused", 1)
        assert "secret" not in status.model_dump_json()
        rig.step(later_s=HOUR_S)
        rig.step_until_it_is("live")
        hang.wait_until_reached()
        rig.line.held()
        live = rig.lifecycle.status()
        assert (live.code, live.message, live.connections) == (None, "", 2)
        assert (live.queued, live.ledger.captured, live.fps) == (0, 1, 1.0)
        assert before <= status.since <= live.since <= datetime.now(UTC)
        rig.lifecycle.pause()
        paused = rig.lifecycle.status()
        assert paused.since >= live.since
        rig.lifecycle.resume()
        assert rig.lifecycle.status().since == live.since
        hang.go.set()
        rig.stop()


def test_a_cause_that_comes_again_is_said_once_until_the_source_is_live_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "framewire.stream")
    refused, silent = Refused("cam: nobody"), Timeout("cam: silent")
    attempts: list[Script | Exception] = [refused, silent, refused, silent]
    attempts += [Script(picture(), SourceLost("cam: out")), refused]
    rig = Rig(*attempts)
    for _ in attempts:
        rig.step(later_s=HOUR_S)
        rig.step_until_it_is("backing_off")
    rig.stop()
    said = [record.getMessage().partition("; trying")[0] for record in caplog.records]
    assert said == [
        "cam: refused: cam: nobody",
        "cam: timeout: cam: silent",
        "cam: live",
        "cam: source_lost: cam: out",
        "cam: refused: cam: nobody",
        "cam: ended",
    ]


@pytest.mark.parametrize("live", [True, False])
def test_a_defect_is_said_once_with_its_traceback(
    live: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "framewire.stream")
    defects = [ZeroDivisionError("by zero") for _ in range(3)]
    rig = Rig(*defects, live=live)
    for _ in defects:
        rig.step(later_s=HOUR_S)
        rig.step_until(lambda: rig.state in ("backing_off", "failed"))
    record = caplog.records[0]
    assert "internal_error: ZeroDivisionError: by zero" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is defects[0]
    assert len(caplog.records) == 1
    rig.lifecycle.break_off()


@pytest.mark.parametrize("live", [True, False])
def test_what_a_source_fails_with_is_one_log_line(
    live: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "framewire.stream")
    rig = Rig(Script(picture(), TruncatedVideo("a.mp4: cut"), live=live), live=live)
    rig.step_until(lambda: rig.lifecycle.over)
    other = Rig(SourceNotFound("b.mp4: not there"), live=live)
    other.step_until(lambda: other.lifecycle.over)
    assert [record.getMessage() for record in caplog.records] == [
        f"cam{'' if live else '#1'}: truncated_video: a.mp4: cut",
        "cam: source_not_found: b.mp4: not there",
    ]


def test_the_supervisor_may_sleep_until_something_is_due() -> None:
    rig = Rig(Refused("cam: nobody"), first_retry_s=0.4)
    rig.step_until_it_is("backing_off")
    assert 0.2 < rig.step() <= 0.4
    rig.stop()
    assert rig.step() == math.inf


def test_connections_that_decode_in_software_after_all_are_counted() -> None:
    class WithoutItsDevice(Script):
        """Its hardware was not there, or did not take the stream."""

        hardware_failed = True

    with hangs(2) as (hang, other):
        rig = Rig(WithoutItsDevice(picture(), hang), Script(picture(), other))
        rig.step_until_it_is("live")
        assert rig.lifecycle.status().software_fallbacks == 1
        hang.go.set()
        rig.step_until(lambda: rig.lifecycle.over)
        assert rig.lifecycle.status().software_fallbacks == 1
