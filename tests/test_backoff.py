"""How long a lost source waits: doubled, spread, capped, and anew after a good minute."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.backoff import SLOW_CODES, SLOWER, STABLE_S, Backoff

waits_s = st.floats(0.01, 3600)
BEFORE_S = STABLE_S - 0.1


@given(waits_s, waits_s, st.integers(1, 200), st.integers())
def test_waits_double_up_to_the_limit_each_spread_by_a_fifth(
    first_s: float, max_s: float, n: int, seed: int
) -> None:
    backoff = Backoff(first_s, max_s, random.Random(seed))
    for failure in range(n):
        wait_s = backoff.after("refused", lived_s=0.0)
        longest_s = min(first_s * 2.0**failure, max_s)
        assert 0.8 * longest_s <= wait_s <= longest_s


@given(waits_s, waits_s, st.integers(0, 30), st.floats(0, 1e6), st.sampled_from(sorted(SLOW_CODES)))
def test_what_time_does_not_heal_waits_ten_times_the_limit_from_the_first_time(
    first_s: float, max_s: float, n: int, lived_s: float, code: str
) -> None:
    backoff = Backoff(first_s, max_s)
    for _ in range(n):
        backoff.after("refused", lived_s=0.0)
    assert 0.8 * SLOWER * max_s <= backoff.after(code, lived_s) <= SLOWER * max_s


@pytest.mark.parametrize(
    ("lived_s", "longest_s"), [(BEFORE_S, 8.0), (STABLE_S, 1.0)], ids=["too short", "long enough"]
)
def test_a_connection_that_gave_frames_for_a_minute_starts_from_the_beginning(
    lived_s: float, longest_s: float
) -> None:
    backoff = Backoff(1.0, 100.0)
    for _ in range(3):
        backoff.after("refused", lived_s=BEFORE_S)
    assert 0.8 * longest_s <= backoff.after("source_lost", lived_s) <= longest_s
    assert 0.8 * 2 * longest_s <= backoff.after("refused", lived_s=0.0) <= 2 * longest_s


def test_sources_that_were_lost_together_are_opened_apart() -> None:
    waits_s = {Backoff(1.0, 30.0).after("refused", lived_s=0.0) for _ in range(20)}
    assert len(waits_s) == 20


def test_wrong_credentials_unknown_paths_and_codecs_are_the_slow_ones() -> None:
    assert {"auth_failed", "not_found", "unsupported_codec"} == SLOW_CODES
