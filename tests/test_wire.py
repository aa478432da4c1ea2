"""Headers of this version, of newer ones and of none; and what is told of what did not come."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BrokenMessage, UnknownVersion
from contracts.messages import FrameResult
from contracts.wire import Header, Heartbeat, matches, read_header, read_payload
from sinks.loss import LossWatch
from tests.messages import frame_result
from tests.wire import header_of, heartbeat_parts, parts_of

OTHER = "f" * 16


def changed(parts: list[bytes], **header: Any) -> list[bytes]:
    """The same with another header."""
    return [parts[0], json.dumps({**json.loads(parts[1]), **header}).encode(), parts[2]]


def test_header_and_payload_are_read_as_they_were_sent() -> None:
    parts = parts_of(frame_result(3), 7)
    topic, header = read_header(parts)
    assert (topic, header.sequence, header.schema_version) == ("frame/cam1/", 7, 1)
    assert read_payload(topic, header, parts[2]) == frame_result(3)


def test_header_begins_with_the_version() -> None:
    assert parts_of(frame_result(), 0)[1].startswith(b'{"v":1,')


def test_keys_that_are_added_within_a_version_are_ignored() -> None:
    topic, header, payload = changed(parts_of(frame_result(), 0), priority=3)
    later = json.loads(payload)
    later["weather"] = "rain"
    later["detections"][0]["depth_m"] = 4.2
    read = read_payload(
        "frame/cam1/", read_header([topic, header, b""])[1], json.dumps(later).encode()
    )
    assert isinstance(read, FrameResult)
    assert read == frame_result()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"v": 2}, "the wire's version is 2, this reads up to 1"),
        ({"v": 2, "publisher": {"id": 5}}, "the wire's version is 2"),
        ({"schema_version": 2}, "framewire.frame version 2 is not known here"),
        ({"schema_name": "framewire.audio"}, "framewire.audio version 1 is not known here"),
    ],
)
def test_what_is_newer_is_named_so(header: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownVersion, match=said):
        read_header(changed(parts_of(frame_result(), 0), **header))


def test_newer_version_is_told_whatever_number_of_parts_it_has() -> None:
    with pytest.raises(UnknownVersion, match="version is 9"):
        read_header([b"frame/cam1/", b'{"v":9}', b"", b""])


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"frame/cam1/"],
        [b"frame/cam1/", b'{"schema_name":"framewire.frame"}'],
        [b"frame/cam1/", b"\xff", b"{}"],
        [b"frame/cam1/", b"[]", b"{}"],
        [*parts_of(frame_result(), 0), b"more"],
        changed(parts_of(frame_result(), 0), sequence=-1),
        changed(parts_of(frame_result(), 0), publisher="me"),
    ],
)
def test_what_is_not_as_its_version_promises_is_named_so(parts: list[bytes]) -> None:
    with pytest.raises(BrokenMessage):
        read_header(parts)


def test_payload_that_breaks_the_contract_says_where() -> None:
    topic, header = read_header(parts_of(frame_result(), 0))
    with pytest.raises(BrokenMessage, match=r"frame/cam1/: breaks the contract: .*Invalid JSON"):
        read_payload(topic, header, b"{")


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_are_refused_by_name(parts: list[bytes]) -> None:
    with pytest.raises((BrokenMessage, UnknownVersion)):
        read_header(parts)


def test_matching_is_that_of_prefixes() -> None:
    assert matches("frame/cam1/", ["event/", "frame/"])
    assert matches("frame/cam1/", [""])
    assert not matches("frame/cam10/", ["frame/cam1/"])


class Watched:
    """A LossWatch, and what it told."""

    def __init__(self, *topics: str) -> None:
        self.lost: list[tuple[str, int]] = []
        self.restarts: list[tuple[str, str]] = []
        self.watch = LossWatch(
            topics or ("",),
            lambda topic, missing: self.lost.extend((topic, n) for n in missing),
            lambda before, now: self.restarts.append((before, now)),
        )

    def came(self, sequence: int, publisher: str = "0" * 16, topic: str = "frame/cam1/") -> bool:
        header = header_of(frame_result(), sequence, publisher)
        return self.watch.came(topic, header)

    def beat(self, latest: dict[str, int], publisher: str = "0" * 16) -> None:
        header = Header.model_validate_json(heartbeat_parts(latest, 0, publisher)[1])
        self.watch.beat(header, Heartbeat(latest=latest))


def test_who_comes_late_has_lost_nothing() -> None:
    watched = Watched()
    watched.came(500)
    watched.beat({"frame/cam1/": 500, "frame/cam2/": 90})
    watched.came(91, topic="frame/cam2/")
    assert watched.lost == []


def test_topic_that_is_new_since_the_first_heartbeat_counts_from_0() -> None:
    watched = Watched()
    watched.beat({})
    watched.came(2)
    assert watched.lost == [("frame/cam1/", 0), ("frame/cam1/", 1)]


def test_loss_at_the_end_is_told_by_the_heartbeat_once() -> None:
    watched = Watched()
    watched.came(4)
    watched.beat({"frame/cam1/": 6})
    watched.beat({"frame/cam1/": 6})
    watched.came(7)
    assert watched.lost == [("frame/cam1/", 5), ("frame/cam1/", 6)]


def test_topics_that_are_not_wanted_are_not_missed() -> None:
    watched = Watched("frame/cam1/")
    watched.beat({})
    watched.beat({"frame/cam10/": 5, "event/cam1/": 2})
    assert watched.lost == []


def test_message_that_comes_again_is_not_new() -> None:
    watched = Watched()
    assert [watched.came(n) for n in (0, 1, 1, 0, 2)] == [True, True, False, False, True]
    assert watched.lost == []


def test_restart_is_told_and_everything_of_the_new_publisher_counts() -> None:
    watched = Watched()
    watched.came(40)
    assert watched.came(2, OTHER)
    watched.came(3, OTHER)
    assert watched.restarts == [("0" * 16, OTHER)]
    assert watched.lost == [("frame/cam1/", 0), ("frame/cam1/", 1)]


@given(st.lists(st.tuples(st.sampled_from(["frame/a/", "frame/b/", "heartbeat/"]), st.booleans())))
def test_what_came_and_what_was_told_lost_is_everything_and_nothing_twice(
    sent: list[tuple[str, bool]],
) -> None:
    watched = Watched("frame/a/")
    watched.beat({})
    latest: dict[str, int] = {}
    came: list[tuple[str, int]] = []
    for topic, arrives in [*sent, ("heartbeat/", True)]:
        if topic == "heartbeat/":
            if arrives:
                watched.beat(latest)
            continue
        latest[topic] = latest.get(topic, -1) + 1
        if arrives and topic == "frame/a/" and watched.came(latest[topic], topic=topic):
            came.append((topic, latest[topic]))
    everything = [("frame/a/", n) for n in range(latest.get("frame/a/", -1) + 1)]
    assert sorted(came + watched.lost) == everything
