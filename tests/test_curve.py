"""Who is let in where ZeroMQ is encrypted, and who is not."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import BadSetting
from contracts.messages import AnyMessage
from contracts.settings import Settings
from scripts.keys import new_keys
from sinks.client import Subscription, subscribe
from sinks.zmq import ZmqSink
from sinks.zmq_catchup import Catchup, Window
from sinks.zmq_curve import Curve
from tests.messages import source_event, status
from tests.resources import held, released
from tests.wire import write


class Place:
    """A run's key, a folder of those allowed in, and a run that says its status again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.allowed = folder / "allowed"
        self.allowed.mkdir()
        self.public, self.secret = new_keys(folder / "run")
        self.viewer_public, self.viewer_secret = new_keys(folder / "viewer")

    @contextlib.contextmanager
    def publishing(self) -> Iterator[ZmqSink]:
        catchup = Catchup("tcp://127.0.0.1:*", Window(60, 10**6))
        curve = Curve(self.secret, self.allowed)
        sink = ZmqSink("tcp://127.0.0.1:*", catchup=catchup, curve=curve)
        over, bound = threading.Event(), threading.Event()

        def publish() -> None:
            sink.open()
            write(sink, source_event())
            bound.set()
            while not over.wait(0.02):
                write(sink, status())
            sink.close()

        thread = threading.Thread(target=publish)
        thread.start()
        assert bound.wait(10)
        try:
            self.catchup = catchup.bound_endpoint
            yield sink
        finally:
            over.set()
            thread.join()

    def allow(self) -> None:
        shutil.copy(self.viewer_public, self.allowed)

    def viewer(self, sink: ZmqSink, **how: Any) -> Subscription:
        keys = {"key": self.viewer_secret, "publisher_key": self.public}
        return subscribe(sink.bound_endpoint, **{**keys, **how})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """With nobody allowed yet."""
    return Place(tmp_path)


def first(subscription: Subscription, timeout_s: float) -> AnyMessage | None:
    with subscription:
        received = subscription.receive(timeout_s)
    return received.message if received else None


def test_key_in_the_folder_is_let_in_and_catches_up_with_it(place: Place) -> None:
    place.allow()
    before = held()
    with place.publishing() as sink:
        assert first(place.viewer(sink), 10) == status()
        events = place.viewer(sink, topics=["event/"], catchup=place.catchup)
        assert first(events, 10) == source_event()
    assert released(before)


def test_key_that_is_added_is_let_in_without_a_restart_and_one_that_is_removed_is_not(
    place: Place,
) -> None:
    with place.publishing() as sink:
        assert first(place.viewer(sink), 0.5) is None
        place.allow()
        assert first(place.viewer(sink), 10) == status()
        (place.allowed / "viewer.key").unlink()
        assert first(place.viewer(sink), 0.5) is None


def test_who_shows_no_key_or_expects_another_publisher_gets_nothing(place: Place) -> None:
    place.allow()
    other, _ = new_keys(place.folder / "other")
    with place.publishing() as sink:
        assert first(subscribe(sink.bound_endpoint), 0.5) is None
        assert first(place.viewer(sink, publisher_key=other), 0.5) is None


def test_keys_are_private_and_are_not_replaced(tmp_path: Path) -> None:
    _, secret = new_keys(tmp_path / "run")
    assert secret.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadSetting, match="File exists"):
        new_keys(tmp_path / "run")


def test_key_that_is_none_says_which_file_is_expected(place: Place) -> None:
    with pytest.raises(BadSetting, match=r"\.key_secret beside it is expected"):
        Curve(place.public, place.allowed)
    with pytest.raises(BadSetting, match="no key can be read"):
        Curve(place.folder / "nothing", place.allowed)
    with pytest.raises(BadSetting, match="is no folder"):
        Curve(place.secret, place.folder / "nowhere")
    with pytest.raises(BadSetting, match="needs both"):
        subscribe("tcp://127.0.0.1:5555", key=place.secret)


@pytest.mark.parametrize("name", ["zmq", "zmq_catchup"])
def test_endpoint_that_others_can_reach_needs_keys_or_consent(name: str) -> None:
    given = {"sources": ["0"], name: "tcp://*:5555"}
    with pytest.raises(ValueError, match=f"{name}: other machines can reach tcp://"):
        Settings.model_validate(given)
    Settings.model_validate({**given, "zmq_open": True})
    Settings.model_validate({**given, "zmq_key": "run.key_secret", "zmq_allowed": "allowed"})
    with pytest.raises(ValueError, match="encryption needs both"):
        Settings.model_validate({**given, "zmq_key": "run.key_secret"})
