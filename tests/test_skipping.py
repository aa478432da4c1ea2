"""When the decoder is told to leave frames out, and when to decode them all again."""

from collections.abc import Iterator
from itertools import count

from stream.reader import Skipped
from stream.skipping import FEW, LOOK_EVERY_S, MOST, Skipping
from tests.sources import Line, picture


class Stretch:
    """Stretches of 100 frames, each as long as `Skipping` takes to look."""

    def __init__(self, live: bool = True) -> None:
        self.line = Line(live=live)
        self.skipping = Skipping(self.line.feed, 0.0)
        self._indices: Iterator[int] = count()
        self._now_s = 0.0

    def level_after(self, n_full: int) -> str:
        """The level when so many of the next 100 frames were dropped because the queue was full."""
        for number in range(100):
            index = next(self._indices)
            self.line.ledger.captured(index)
            if number < n_full:
                self.line.ledger.dropped(index, "queue_full")
        self._now_s += LOOK_EVERY_S
        return self.skipping.level(self._now_s)


def test_everything_is_decoded_at_first() -> None:
    assert Skipping(Line().feed, 0.0).level(0.0) == "none"


def test_frames_that_no_other_needs_are_left_out_while_most_are_dropped() -> None:
    stretch = Stretch()
    shares = [int(100 * MOST), int(100 * MOST) + 1, int(100 * FEW), int(100 * FEW) - 1]
    assert [stretch.level_after(n) for n in shares] == ["none", "nonref", "nonref", "none"]


def test_only_the_frames_since_the_last_look_count() -> None:
    stretch = Stretch()
    assert [stretch.level_after(n) for n in (0, 0, 90)] == ["none", "none", "nonref"]


def test_it_looks_every_two_seconds() -> None:
    stretch = Stretch()
    stretch.level_after(0)
    stretch.line.ledger.captured(100)
    stretch.line.ledger.dropped(100, "queue_full")
    assert stretch.skipping.level(2 * LOOK_EVERY_S - 0.01) == "none"
    assert stretch.skipping.level(2 * LOOK_EVERY_S) == "nonref"


def test_a_paused_live_source_has_its_keyframes_decoded_and_goes_on_as_before() -> None:
    stretch = Stretch()
    assert stretch.level_after(90) == "nonref"
    stretch.line.feed.running.clear()
    assert stretch.level_after(50) == "nonkey"
    stretch.line.feed.running.set()
    assert stretch.level_after(50) == "nonref"


def test_frames_dropped_for_other_reasons_are_no_reason_to_skip() -> None:
    line = Line()
    skipping = Skipping(line.feed, 0.0)
    for _ in range(20):
        line.feed.take_in(Skipped(), 0)
        line.feed.take_in(picture(lag_s=9.0), 0)
    assert skipping.level(LOOK_EVERY_S) == "none"


def test_nothing_of_a_file_is_left_out() -> None:
    stretch = Stretch(live=False)
    stretch.line.feed.running.clear()
    assert stretch.level_after(90) == "none"
