"""The gate before a live stream's decoder, with clips whose frames say which they are."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import pytest

from stream.decode import Decoder
from stream.gate import Gate
from stream.reader import Latent, Skip, Skipped, Unreadable
from tests.clips import Look, number_in, write_clip

N = 60
FPS = 25
ALL_REFERENCES = Look(options={"g": "10", "bf": "0"})
B_FRAMES = Look(options={"g": "10", "bf": "3", "b_strategy": "0", "flags": "+cgop"})
OPEN_GOPS = Look("libx265", options={"g": "10", "x265-params": "bframes=3:b-adapt=0:log-level=0"})
PLAIN_265 = Look("libx265", options={"g": "10", "x265-params": "bframes=0:log-level=0"})
LOOKS = {"264": ALL_REFERENCES, "264-b": B_FRAMES, "265": PLAIN_265, "265-open": OPEN_GOPS}


class Told:
    """What the gate told of a clip: numbers of frames by what became of them."""

    def __init__(self, path: Path, plan: Mapping[int, Skip], first: int = 0) -> None:
        """`plan` says at which packet what is skipped from then on; `first` packets are missed."""
        self.decoded: list[int] = []
        self.skipped: list[int] = []
        self.corrupt: list[int] = []
        self.refused: list[Unreadable] = []
        self.held_back = 0
        for reading in self._readings(path, plan, first):
            number = -1 if reading.pts_s is None else round((reading.pts_s - self._start_s) * FPS)
            if isinstance(reading, Latent):
                assert number_in(reading.develop()) == number
                (self.corrupt if reading.degraded else self.decoded).append(number)
            elif isinstance(reading, Skipped):
                self.skipped.append(number)
            else:
                self.refused.append(reading)

    def _readings(
        self, path: Path, plan: Mapping[int, Skip], first: int
    ) -> Iterator[Latent | Skipped | Unreadable]:
        skip: Skip = "none"
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            gate = Gate(Decoder(stream.codec_context, stream.time_base, "cam", 10**6))
            packets = [packet for packet in container.demux(stream) if packet.size]
            self._start_s = min(float((packet.pts or 0) * packet.time_base) for packet in packets)
            for number, packet in enumerate(packets):
                skip = plan.get(number, skip)
                if number >= first:
                    yield from gate.decode(packet, skip)
            for reading in gate.finish():
                self.held_back += 1
                yield reading


def clip(tmp_path: Path, name: str) -> Path:
    return write_clip(tmp_path / "a.ts", N, LOOKS[name], time_base=Fraction(1, FPS))


@pytest.mark.parametrize("name", LOOKS)
def test_each_frame_is_decoded_where_nothing_is_skipped(tmp_path: Path, name: str) -> None:
    told = Told(clip(tmp_path, name), {})
    assert told.decoded == list(range(N))
    assert told.skipped == told.corrupt == []
    assert told.refused == []


@pytest.mark.parametrize("plan", [{0: "nonref"}, {7: "nonref"}, {7: "nonref", 31: "none"}])
@pytest.mark.parametrize("name", LOOKS)
def test_frames_that_no_other_needs_are_told_one_by_one(
    tmp_path: Path, name: str, plan: dict[int, Skip]
) -> None:
    told = Told(clip(tmp_path, name), plan)
    assert sorted(told.decoded + told.skipped) == list(range(N))
    assert told.decoded == sorted(told.decoded)
    assert told.corrupt == []
    assert bool(told.skipped) == (name in ("264-b", "265-open"))


@pytest.mark.parametrize("plan", [{0: "nonkey"}, {13: "nonkey"}, {13: "nonkey", 36: "none"}])
@pytest.mark.parametrize("name", LOOKS)
def test_keyframes_come_at_once_and_the_others_are_told(
    tmp_path: Path, name: str, plan: dict[int, Skip]
) -> None:
    told = Told(clip(tmp_path, name), plan)
    assert sorted(told.decoded + told.skipped) == list(range(N))
    assert told.decoded == sorted(told.decoded)
    assert told.corrupt == []
    if len(plan) == 1:
        assert told.held_back == 0
        assert len(told.skipped) > 30
    else:
        assert told.decoded[-1] == N - 1


@pytest.mark.parametrize("first", [1, 14])
@pytest.mark.parametrize("name", LOOKS)
def test_a_stream_joined_in_the_middle_begins_with_a_whole_picture(
    tmp_path: Path, name: str, first: int
) -> None:
    told = Told(clip(tmp_path, name), {}, first)
    assert told.corrupt == []
    assert len(told.decoded) + len(told.skipped) == N - first
    assert 25 < len(told.decoded) < N - first
