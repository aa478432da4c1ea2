"""Many sources under one supervisor: none waits for another, none is lost, no thread is left."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from contracts.errors import BadSetting, DecodeError, Refused, SourceLost, Stalled, TruncatedVideo
from contracts.frame import StreamItem
from contracts.messages import SourceEnd, SourceState
from stream.lifecycle import Lifecycle
from stream.reader import Reading, Skipped
from stream.supervise import Supervisor
from tests.sources import (
    TIMEOUT_S,
    Hang,
    Line,
    Opener,
    Script,
    capture_threads,
    end_of,
    events_in,
    frames_in,
    picture,
)


class Running:
    """A supervisor on its own thread, and lines to the sources that are added to it."""

    def __init__(self, keep_open: bool = False) -> None:
        self.supervisor = Supervisor(keep_open)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except BaseException as failure:
            self.failure = failure

    def add(
        self, name: str, *attempts: Script | Exception | Callable[[], Script], **line: Any
    ) -> Line:
        """A source of this name."""
        made = Line(source_id=name, **line)
        self.supervisor.add(Lifecycle(made.feed, Opener(*attempts), self.supervisor.ring))
        return made

    def end(self) -> None:
        """It has run to its end, and no thread of it is left."""
        self.thread.join(TIMEOUT_S)
        assert not self.thread.is_alive()
        assert capture_threads() == []

    def names(self) -> list[str]:
        """Of the sources, as the supervisor says."""
        return [status.source_id for status in self.supervisor.statuses()]

    def come_round(self) -> None:
        """Whatever it was about is done: it has looked at a source that is new, called `marker`."""
        self.add("marker", Script(), live=False).rest()


@contextmanager
def running(keep_open: bool = True) -> Iterator[Running]:
    """It runs inside, and is stopped after."""
    made = Running(keep_open)
    made.thread.start()
    try:
        yield made
    finally:
        made.supervisor.stop()
    made.end()
    assert made.failure is None


def take_until(line: Line, happened: Callable[[StreamItem], bool]) -> list[StreamItem]:
    """What comes, up to what the test waits for."""
    items: list[StreamItem] = []
    while not items or not happened(items[-1]):
        item = line.queue.take(TIMEOUT_S)
        assert item is not None, f"it never came, after {items}"
        items.append(item)
    return items


def is_state(state: SourceState) -> Callable[[StreamItem], bool]:
    """For `take_until`."""
    return lambda item: getattr(item, "state", None) == state


def test_it_runs_until_every_source_has_said_its_end() -> None:
    it = Running()
    lines = [it.add(name, Script(picture(), picture()), live=False) for name in ("a", "b", "c")]
    it.supervisor.run()
    for line in lines:
        items = line.rest()
        assert frames_in(items) == [0, 1]
        assert end_of(items).code is None
    assert [status.state for status in it.supervisor.statuses()] == ["ended"] * 3
    assert capture_threads() == []


def test_without_sources_it_is_over_at_once_unless_it_is_kept_open() -> None:
    Supervisor().run()
    with running(keep_open=True) as it:
        line = it.add("late", Script(picture()), live=False)
        assert frames_in(line.rest()) == [0]
        assert it.thread.is_alive()


def test_sources_that_hang_or_break_delay_no_other() -> None:
    with running() as it, Hang() as opening, Hang() as reading:

        def open_slowly() -> Script:
            opening()
            return Script()

        stuck = it.add("opening", open_slowly)
        it.add("reading", Script(reading))
        it.add("broken", ZeroDivisionError("by zero"))
        opening.wait_until_reached()
        reading.wait_until_reached()
        fine = it.add("fine", Script(*(picture() for _ in range(50))))
        items = fine.rest()
        assert frames_in(items) == list(range(50))
        assert [state for state, _ in events_in(items)] == ["connecting", "live", "ended"]
        assert events_in(stuck.held()) == [("connecting", None)]


def test_a_lost_camera_comes_back_without_anybody_ringing() -> None:
    with running() as it:
        line = it.add(
            "cam",
            Refused("nobody"),
            Script(picture(), SourceLost("gone")),
            Script(picture()),
            first_retry_s=0.001,
        )
        items = line.rest()
    assert frames_in(items) == [0, 1]
    assert [code for state, code in events_in(items) if state == "backing_off"] == [
        "refused",
        "source_lost",
    ]


def test_a_second_source_of_a_name_is_refused_while_the_first_one_runs() -> None:
    with running() as it, Hang() as hang:
        it.add("door", Script(hang))
        it.add("yard", Script(hang))
        with pytest.raises(BadSetting, match=r"source door: already there \(there is: door, yard"):
            it.add("door", Script(picture()))


def test_a_source_whose_name_has_ended_takes_its_place_at_the_end_of_the_list() -> None:
    with running() as it:
        for name in ("a", "b"):
            it.add(name, Script(), live=False).rest()
        it.come_round()
        again = it.add("a", Script(picture()), live=False)
        assert frames_in(again.rest()) == [0]
        assert it.names() == ["b", "marker", "a"]


@pytest.mark.parametrize("call", [Supervisor.pause, Supervisor.resume, Supervisor.remove])
def test_an_unknown_source_is_a_bad_setting_that_names_those_there_are(
    call: Callable[[Supervisor, str], None],
) -> None:
    with pytest.raises(BadSetting, match=r"source yard: no such source \(there is: none\)"):
        call(Supervisor(), "yard")
    it = Running()
    it.add("door", Script(), live=False)
    it.add("gate", Script(), live=False)
    with pytest.raises(BadSetting, match=r"source yard: no such source \(there is: door, gate\)"):
        call(it.supervisor, "yard")


def test_nothing_can_be_added_once_it_is_stopping_or_has_ended() -> None:
    it = Running()
    it.supervisor.run()
    with pytest.raises(BadSetting, match="source late: can't be added"):
        it.add("late", Script())
    stopping = Running(keep_open=True)
    stopping.supervisor.stop()
    with pytest.raises(BadSetting, match="source late: can't be added"):
        stopping.add("late", Script())
    stopping.supervisor.run()


def test_a_removed_source_ends_as_if_stopped_and_is_forgotten() -> None:
    with running() as it, Hang() as hang:
        line = it.add("door", Script(picture(), hang, picture()))
        yard = it.add("yard", Refused("nobody"), first_retry_s=3600, max_retry_s=3600)
        take_until(line, is_state("live"))
        hang.wait_until_reached()
        it.supervisor.remove("door")
        it.supervisor.remove("door")
        hang.go.set()
        items = line.rest()
        assert end_of(items).code is None
        it.supervisor.remove("yard")
        end_of(yard.rest())
        it.come_round()
        assert it.names() == ["marker"]
        with pytest.raises(BadSetting):
            it.supervisor.remove("door")


def test_a_camera_is_paused_and_resumed_while_it_runs() -> None:
    with running() as it, Hang() as first, Hang() as second:
        line = it.add("cam", Script(picture(), first, picture(), second, picture()))
        take_until(line, is_state("live"))
        it.supervisor.pause("cam")
        take_until(line, is_state("paused"))
        first.go.set()
        second.wait_until_reached()
        it.supervisor.resume("cam")
        take_until(line, is_state("live"))
        second.go.set()
        assert frames_in(line.rest()) == [2]
        assert line.ledger.counts().dropped == {"paused": 1}


def test_a_paused_file_ends_when_everything_is_stopped() -> None:
    with running() as it:
        line = Line(source_id="clip", live=False)
        lifecycle = Lifecycle(line.feed, Opener(Script(picture())), it.supervisor.ring)
        lifecycle.pause()
        it.supervisor.add(lifecycle)
        it.supervisor.stop()
        it.supervisor.pause("clip")
        assert frames_in(line.rest()) == []


@pytest.mark.parametrize("name", ["live", "backs off", "paused file"])
def test_sources_end_by_themselves_when_nobody_takes_frames_any_more(name: str) -> None:
    it, hang = Running(), Hang()
    if name == "live":
        line = it.add("cam", Script(picture(), hang, picture()))
    elif name == "backs off":
        line = it.add("cam", Refused("nobody"), first_retry_s=3600, max_retry_s=3600)
    else:
        line = it.add("cam", Script(picture()), live=False)
        it.supervisor.pause("cam")
    it.thread.start()
    if name == "live":
        take_until(line, is_state("live"))
    elif name == "backs off":
        take_until(line, is_state("backing_off"))
    line.queue.abandon()
    hang.go.set()
    it.end()
    assert it.failure is None


class Broken(Lifecycle):
    """One that a defect of framewire itself is in."""

    def step(self, now_s: float) -> float:
        """Never right."""
        raise ZeroDivisionError(now_s)


def test_a_defect_of_the_supervision_ends_every_source_and_is_raised() -> None:
    it, hang = Running(keep_open=True), Hang()
    lines = [
        it.add("cam", Script(picture(), hang, picture())),
        it.add("clip", Script(picture(), picture(), picture()), live=False, depth=1),
        it.add("paused", Script(picture()), live=False),
    ]
    it.supervisor.pause("paused")
    it.thread.start()
    take_until(lines[0], is_state("live"))
    assert lines[1].bell.someone_waits.wait(TIMEOUT_S)
    it.supervisor.add(Broken(Line(source_id="bad").feed, Opener(), it.supervisor.ring))
    it.thread.join(TIMEOUT_S)
    hang.go.set()
    for line in lines:
        line.rest()
    for thread in capture_threads():
        thread.join(TIMEOUT_S)
    it.end()
    assert isinstance(it.failure, ZeroDivisionError)
    with pytest.raises(BadSetting):
        it.add("late", Script())


def test_many_threads_may_ring_and_ask_while_it_steps() -> None:
    over = threading.Event()
    it = Running()

    def ask() -> int:
        n_asked = 0
        while not over.is_set():
            it.supervisor.ring()
            n_asked += len(it.supervisor.statuses())
        return n_asked

    lost = [Script(picture(), SourceLost("gone")) for _ in range(40)]
    line = it.add("cam", *lost, Script(), first_retry_s=0.001, max_retry_s=0.001)
    with ThreadPoolExecutor(3) as threads:
        askers = [threads.submit(ask) for _ in range(3)]
        it.thread.start()
        items = line.rest()
        it.end()
        over.set()
        assert all(asker.result(TIMEOUT_S) > 0 for asker in askers)
    assert frames_in(items) == list(range(40))
    states = [state for state, _ in events_in(items)]
    assert states == ["connecting", "live", "backing_off"] * 40 + ["connecting", "ended"]


class Steps:
    """How many readings there were, of all sources; a test waits for so many more."""

    def __init__(self) -> None:
        self._n = 0
        self._changed = threading.Condition()

    def one_more(self) -> None:
        """A reading."""
        with self._changed:
            self._n += 1
            self._changed.notify_all()

    def wait_for_more(self, n: int) -> None:
        """They have been read."""
        with self._changed:
            then = self._n + n
            assert self._changed.wait_for(lambda: self._n >= then, TIMEOUT_S)


class Flaky:
    """A reader that soon breaks in some way, after readings of every kind; never twice the same."""

    frame_count_hint = None

    def __init__(self, rng: random.Random, live: bool, steps: Steps) -> None:
        self.live = live
        self._rng = rng
        self._steps = steps

    def pictures(self) -> Iterator[Reading]:
        """A few, then an error; a file has many before that."""
        kinds: list[Reading] = [picture(), Skipped(), picture(lag_s=9.0), DecodeError("bad")]
        for _ in range(self._rng.randrange(1, 25) if self.live else 10_000):
            self._steps.one_more()
            yield self._rng.choice(kinds)
        if self.live:
            raise self._rng.choice([SourceLost("gone"), Stalled("silent"), TypeError("defect")])
        raise TruncatedVideo("cut short")

    def close(self) -> None:
        """Sometimes that goes wrong too."""
        if self._rng.random() < 0.1:
            raise OSError("can't be closed")


class Consumer:
    """A line's other end: settles what comes, and remembers it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.items: list[StreamItem] = []

    def run(self) -> None:
        """Until the line is closed and empty."""
        while not self.line.queue.closed_and_empty:
            if item := self.line.queue.take(TIMEOUT_S):
                self.items.append(item)
                self.line.settle([item])

    def check(self) -> None:
        """Nothing is lost, counted twice or out of order."""
        counts = self.line.ledger.counts()
        assert counts.balanced
        assert counts.in_flight == 0
        indices = [i for i in map(index_of, self.items) if i is not None]
        assert indices == sorted(set(indices))
        assert len(indices) == counts.delivered + sum(counts.failed.values())
        assert sum(self.line.ledger.drops_before(10**9).values()) == sum(counts.dropped.values())
        assert isinstance(self.items[-1], SourceEnd)
        assert end_of(self.items).code in (None, "truncated_video", "internal_error")
        states = [state for state, _ in events_in(self.items)]
        assert all(state != after for state, after in pairwise(states))


def index_of(item: StreamItem) -> int | None:
    """Of a frame or a failure."""
    return getattr(item, "frame_index", None)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_while_sources_fail_are_paused_removed_and_added(seed: int) -> None:
    rng, steps = random.Random(seed), Steps()
    consumers: list[Consumer] = []
    over = threading.Event()

    def watch() -> int:
        n_looks = 0
        while not over.wait(0.001):
            assert all(consumer.line.ledger.counts().balanced for consumer in list(consumers))
            assert all(status.ledger.balanced for status in it.supervisor.statuses())
            n_looks += 1
        return n_looks

    def add(name: str) -> None:
        live = name != "file"
        line = Line(
            live=live,
            source_id=name,
            depth=3,
            when_full="drop_oldest" if live else "block",
            first_retry_s=0.001,
            max_retry_s=0.004,
        )
        own = random.Random(rng.random())

        def open_it(_stop: threading.Event) -> Flaky:
            if live and own.random() < 0.2:
                raise own.choice([Refused("nobody"), SourceLost("gone"), OSError("defect")])
            return Flaky(own, live, steps)

        it.supervisor.add(Lifecycle(line.feed, open_it, it.supervisor.ring, own))
        consumers.append(Consumer(line))
        threads.submit(consumers[-1].run)

    def act(name: str) -> None:
        action = rng.choice(["pause", "resume", "resume", "remove"])
        try:
            getattr(it.supervisor, action)(name)
        except BadSetting:
            add(name)

    names = ["a", "b", "c", "file"]
    with ThreadPoolExecutor(64) as threads, running() as it:
        for name in names:
            add(name)
        watcher = threads.submit(watch)
        for _ in range(60):
            steps.wait_for_more(40)
            act(rng.choice(names[1:]))
        it.supervisor.stop()
        it.end()
        over.set()
        assert watcher.result(TIMEOUT_S) > 0
    assert len(consumers) > len(names)
    for consumer in consumers:
        consumer.check()
