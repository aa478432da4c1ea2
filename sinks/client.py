"""Subscribes to a run: its messages typed, and every loss and restart told.

    for message in subscribe("tcp://127.0.0.1:5555", topics=["frame/cam1/"]):
        match message:
            case FrameResult(): ...

Needs pyzmq and pydantic only. It lies here, at the other end of `sinks/zmq.py`, and not among the
contracts, which import pydantic and nothing heavier: who only reads files needs no ZeroMQ.
"""

import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import zmq
import zmq.asyncio

from contracts.errors import BadSetting, NoPublisher, WireError
from contracts.messages import AnyMessage
from contracts.wire import HEARTBEAT_TOPIC, Header, Heartbeat, matches, read_header, read_payload
from sinks.client_catchup import Secure, fetch
from sinks.loss import LossWatch, OnGap, OnRestart, Position
from sinks.zmq_curve import secure_client

# Not an endless wait: a Ctrl-C just before it would be noticed only after it.
POLL_S = 0.2

OnUnreadable = Callable[[WireError], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A message, how it came, and its JSON."""

    topic: str
    header: Header
    message: AnyMessage
    payload: bytes


class BaseSubscription:
    """What is subscribed to, and who is told what does not come as messages."""

    def __init__(
        self,
        endpoint: str,
        topics: Sequence[str] = (),
        *,
        on_gap: OnGap | None = None,
        on_restart: OnRestart | None = None,
        on_unreadable: OnUnreadable | None = None,
        silence_s: float | None = None,
        high_water_mark: int = 1000,
        catchup: str | None = None,
        resume: Position | None = None,
        key: Path | None = None,
        publisher_key: Path | None = None,
    ) -> None:
        """Nothing is connected yet.

        `topics` are prefixes: `frame/` is every source's results, `frame/cam1/` those of one; none
        is everything. `on_gap` gets a topic and the sequences that were lost, `on_restart` the ids
        of the publisher before and now. `on_unreadable` gets an UnknownVersion or BrokenMessage,
        and the message is skipped; without it that is raised. `silence_s`: NoPublisher is raised
        where nothing came for so long, not even a heartbeat, which a run sends each second.
        `high_water_mark`: so many messages wait here, further ones at the publisher. `catchup`: the
        endpoint that is asked for what is missing before it is told as lost, and for each source's
        last event in the beginning. `resume`: the `position` of an earlier subscription; what was
        published since then is missing. `key` and `publisher_key`: where the run speaks CURVE, the
        own `.key_secret`, and the `.key` of the only publisher that is listened to.
        """
        self._endpoint = endpoint
        self._topics = tuple(topics) or ("",)
        self._loss = LossWatch(self._topics, on_gap or _ignore, on_restart or _ignore)
        self._on_unreadable = on_unreadable
        self._silence_s = silence_s
        self._high_water_mark = high_water_mark
        if (key is None) != (publisher_key is None):
            raise BadSetting("key, publisher_key: encryption needs both")
        self._secure: Secure = _ignore
        if key and publisher_key:
            self._secure = partial(secure_client, key=key, publisher_key=publisher_key)
        self._catchup = catchup
        if resume:
            self._loss.resume(resume)
        self._greets = catchup is not None and resume is None
        self._waiting: collections.deque[list[bytes]] = collections.deque()
        self._opened = contextlib.ExitStack()
        self._heard_ns = 0

    @property
    def position(self) -> Position:
        """How far it has come: a later subscription resumes there."""
        return self._loss.position

    def _connect(self, socket: zmq.Socket[Any]) -> None:
        """The socket gets what is wanted, as soon as somebody publishes it. BadSetting."""
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, self._high_water_mark)
        socket.setsockopt(zmq.IPV6, int("[" in self._endpoint))
        self._secure(socket)
        try:
            socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            raise BadSetting(
                f"{self._endpoint!r} is not an endpoint ({error.strerror}); "
                "write tcp://HOST:PORT or ipc://PATH"
            ) from error
        # The heartbeat last: what it then says was sent, was sent to us.
        for topic in self._topics:
            socket.subscribe(topic)
        if not matches(HEARTBEAT_TOPIC, self._topics):
            socket.subscribe(HEARTBEAT_TOPIC)
        self._heard_ns = time.monotonic_ns()

    def _to_fetch(self, parts: list[bytes]) -> list[tuple[str, str, range | None]]:
        """(publisher, topic, sequences) to ask for before these parts are taken."""
        if self._catchup is None:
            return []
        try:
            topic, header = read_header(parts)
            reached = {topic: header.sequence}
            if header.schema_name == "framewire.heartbeat":
                beat = read_payload(topic, header, parts[2])
                if isinstance(beat, Heartbeat):
                    reached = {name: latest + 1 for name, latest in beat.latest.items()}
        except WireError:
            return []  # Told when it is taken.
        wanted: list[tuple[str, str, range | None]] = []
        if self._greets:
            self._greets = False
            wanted += [(header.publisher, prefix, None) for prefix in self._event_topics()]
        holes = self._loss.holes(header, reached)
        return [*wanted, *((header.publisher, name, hole) for name, hole in holes.items())]

    def _event_topics(self) -> list[str]:
        """The topics as far as they bring events: `` and `ev` bring those of `event/`."""
        wanted = ["event/" if "event/".startswith(topic) else topic for topic in self._topics]
        return [topic for topic in wanted if topic.startswith("event/")]

    def _take(self, parts: list[bytes]) -> Received | None:
        """None where there is nothing to hand on: a heartbeat, a repetition, one to be skipped."""
        self._heard_ns = time.monotonic_ns()
        try:
            topic, header = read_header(parts)
            is_new = self._loss.came(topic, header)
            message = read_payload(topic, header, parts[2])
        except WireError as error:
            if self._on_unreadable is None:
                raise
            self._on_unreadable(error)
            return None
        if isinstance(message, Heartbeat):
            self._loss.beat(header, message)
            return None
        return Received(topic, header, message, parts[2]) if is_new else None

    def _check_silence(self) -> None:
        silent_s = (time.monotonic_ns() - self._heard_ns) / 1e9
        if self._silence_s is not None and silent_s >= self._silence_s:
            raise NoPublisher(
                f"{self._endpoint}: nothing came for {silent_s:.1f} s, not even a heartbeat; "
                "does a run publish there?"
            )


class Subscription(BaseSubscription):
    """Connected inside `with`, or while it is iterated. Owned by one thread."""

    _socket: zmq.Socket[bytes] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            context = opening.enter_context(zmq.Context())
            socket = opening.enter_context(context.socket(zmq.SUB))
            self._connect(socket)
            self._opened, self._socket = opening.pop_all(), socket
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket = None
        self._opened.close()

    def __iter__(self) -> Iterator[AnyMessage]:
        """Every message, without end."""
        with contextlib.nullcontext() if self._socket else self:
            while True:
                if received := self.receive():
                    yield received.message

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """The next message; None where none came in time. UnknownVersion, BrokenMessage, …"""
        if self._socket is None:
            raise RuntimeError("a subscription receives inside `with`")
        due_s = _due_s(timeout_s)
        while True:
            if self._waiting:
                if received := self._take(self._waiting.popleft()):
                    return received
            elif self._socket.poll(_poll_ms(due_s)):
                parts = self._socket.recv_multipart()
                for wanted in self._to_fetch(parts):
                    self._waiting += fetch(str(self._catchup), self._secure, *wanted)
                self._waiting.append(parts)
                continue
            else:
                self._check_silence()
            if time.monotonic() >= due_s:
                return None


class AsyncSubscription(BaseSubscription):
    """Connected inside `async with`, or while it is iterated. Owned by one event loop."""

    _socket: zmq.asyncio.Socket | None = None

    async def __aenter__(self) -> Self:
        with contextlib.ExitStack() as opening:
            context = opening.enter_context(zmq.asyncio.Context())
            socket = opening.enter_context(context.socket(zmq.SUB))
            self._connect(socket)
            self._opened, self._socket = opening.pop_all(), socket
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._socket = None
        self._opened.close()

    async def __aiter__(self) -> AsyncIterator[AnyMessage]:
        """Every message, without end."""
        async with contextlib.nullcontext() if self._socket else self:
            while True:
                if received := await self.receive():
                    yield received.message

    async def receive(self, timeout_s: float | None = None) -> Received | None:
        """The next message; None where none came in time. UnknownVersion, BrokenMessage, …"""
        if self._socket is None:
            raise RuntimeError("a subscription receives inside `async with`")
        due_s = _due_s(timeout_s)
        while True:
            if self._waiting:
                if received := self._take(self._waiting.popleft()):
                    return received
            elif await self._socket.poll(_poll_ms(due_s)):
                parts = await self._socket.recv_multipart()
                for wanted in self._to_fetch(parts):
                    self._waiting += await asyncio.to_thread(
                        fetch, str(self._catchup), self._secure, *wanted
                    )
                self._waiting.append(parts)
                continue
            else:
                self._check_silence()
            if time.monotonic() >= due_s:
                return None


subscribe = Subscription
asubscribe = AsyncSubscription


def _due_s(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else time.monotonic() + timeout_s


def _poll_ms(due_s: float) -> int:
    return max(int(min(POLL_S, due_s - time.monotonic()) * 1e3), 0)


def _ignore(*_told: object) -> None:
    """Nobody wants to know."""
