"""What may be damaged in a stream: from packets on that are marked, undecodable or lost."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from hypothesis import given
from hypothesis import strategies as st

from stream.damage import LONGEST_FRAMES, Damage, Gaps
from stream.decode import Decoder
from stream.reader import Latent
from tests.clips import Look, number_in, write_clip

FRAME_S = 1 / 25
GOP = 10
H264 = Look(options={"g": str(GOP), "bf": "0", "sc_threshold": "0"})


def packet(key: bool = False, corrupt: bool = False) -> "av.Packet[Any]":
    made: av.Packet[Any] = av.Packet(b"picture")
    made.is_keyframe, made.is_corrupt = key, corrupt
    return made


def group(damage: Damage, n_packets: int = GOP) -> list[bool]:
    """What it says of a keyframe and of those that follow it."""
    return [damage.shows(packet(key=number == 0), None) for number in range(n_packets)]


def gaps(times_s: Sequence[float | None]) -> list[bool]:
    measured = Gaps()
    return [measured.before(time_s) for time_s in times_s]


def test_nothing_is_damaged_in_a_whole_stream() -> None:
    assert not any(group(Damage()) + group(Damage(lossy=True)))


def test_a_packet_that_is_marked_damages_all_up_to_the_next_keyframe() -> None:
    damage = Damage()
    group(damage)
    assert damage.shows(packet(corrupt=True), None)
    assert damage.shows(packet(), None)
    assert not any(group(damage))


def test_the_mark_may_stand_at_the_packet_before_a_damaged_keyframe() -> None:
    damage = Damage()
    assert damage.shows(packet(corrupt=True), None)
    assert all(group(damage))
    assert not any(group(damage))


def test_what_the_decoder_found_damages_all_after_it_up_to_the_next_keyframe() -> None:
    damage = Damage()
    group(damage)
    damage.found()
    assert damage.shows(packet(), None)
    assert not any(group(damage))


def test_a_stream_without_keyframes_is_whole_again_after_some_time() -> None:
    damage = Damage()
    damage.found()
    shown = [damage.shows(packet(), None) for _ in range(LONGEST_FRAMES + 10)]
    assert LONGEST_FRAMES - 10 < sum(shown) < LONGEST_FRAMES + 10
    assert not shown[-1]


def test_pictures_built_upon_a_frame_that_was_lost_are_damaged(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", 60, H264, time_base=Fraction(1, 25))
    lost = {13, 27, 28}
    wrong, marked = set(), set()
    damage = Damage(lossy=True)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        decoder = Decoder(stream.codec_context, stream.time_base, "cam", 10**6)
        packets = [packet for packet in container.demux(stream) if packet.size]
        for number, came in enumerate(packets):
            if number in lost:
                continue
            if damage.shows(came, decoder.seconds(came.dts)):
                marked.add(number)
            for latent in decoder.decode(came):
                assert isinstance(latent, Latent)
                if number_in(latent.develop()) != number:
                    wrong.add(number)
    assert wrong
    assert wrong <= marked == {*range(14, 20), 29}


def test_a_keyframe_after_a_gap_is_whole() -> None:
    damage = Damage(lossy=True)
    times_s = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert not any(damage.shows(packet(), time_s) for time_s in times_s)
    assert not damage.shows(packet(key=True), 0.9)
    assert not damage.shows(packet(), 1.0)
    assert damage.shows(packet(), 1.2)


@given(st.floats(-1e5, 1e5), st.floats(0.005, 2), st.lists(st.floats(-0.1, 0.1), max_size=60))
def test_a_steady_stream_has_no_gaps(start_s: float, step_s: float, jitter: list[float]) -> None:
    assert not any(gaps([start_s + step_s * (i + by) for i, by in enumerate(jitter)]))


@given(st.sets(st.integers(8, 100)))
def test_each_gap_is_told_at_the_frame_after_it(lost: set[int]) -> None:
    numbers = [number for number in range(400) if number not in {4 * one for one in lost}]
    told = gaps([number * FRAME_S for number in numbers])
    after = {4 * one + 1 for one in lost if 4 * one + 1 < 400}
    assert {number for number, gap in zip(numbers, told, strict=True) if gap} == after


def test_a_stream_that_slows_down_has_a_gap_for_a_short_while_only() -> None:
    slower = [4 + i * 3 * FRAME_S for i in range(100)]
    told = gaps([i * FRAME_S for i in range(100)] + slower)
    assert 0 < sum(told) < 20
    assert not any(told[-80:])


@given(st.lists(st.none() | st.floats(-1e5, 1e5), max_size=5), st.floats(1, 1e5))
def test_times_that_are_missing_stand_still_or_jump_back_tell_nothing(
    first: list[float | None], back_s: float
) -> None:
    assert not any(gaps(first))
    assert not any(gaps([None] * 50))
    assert not any(gaps([7.0] * 50))
    steady: list[float | None] = [i * FRAME_S for i in range(50)]
    assert not any(gaps([*steady, *(i * FRAME_S - back_s for i in range(50))]))
