"""Keeps what was published a moment ago, and gives it to subscribers that ask for it."""

import collections
import threading
import time
from collections.abc import Iterator

import zmq
from pydantic import ValidationError

from contracts.errors import BrokenMessage, EndpointUnavailable
from contracts.wire import CatchupAnswer, CatchupRequest
from sinks.zmq_curve import Curve
from sinks.zmq_endpoint import bound

POLL_MS = 100
REQUEST_BYTES = 4096
ANSWER_BYTES = 1_000_000
ANSWERS_WAITING = 4

Parts = list[bytes]


class Window:
    """The messages of the last `seconds`, at most `max_bytes`, and each source's last event.

    Filled by the sink thread, read by the answering one.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._order: collections.deque[tuple[float, str, int]] = collections.deque()
        self._kept: dict[str, collections.deque[tuple[int, Parts]]] = {}
        self._last_events: dict[str, Parts] = {}
        self._bytes = 0

    def keep(self, topic: str, sequence: int, parts: Parts) -> None:
        """Kept, in place of the oldest ones where it is too much."""
        n_bytes = sum(map(len, parts))
        with self._lock:
            self._order.append((time.monotonic(), topic, n_bytes))
            self._kept.setdefault(topic, collections.deque()).append((sequence, parts))
            self._bytes += n_bytes
            if topic.startswith("event/"):
                self._last_events[topic] = parts
            self._forget()

    def since(self, topic: str, sequence: int) -> Iterator[Parts]:
        """The topic's messages from the sequence on, as far as they are kept."""
        with self._lock:
            self._forget()
            kept = list(self._kept.get(topic, ()))
        return (parts for number, parts in kept if number >= sequence)

    def last_events(self, prefix: str) -> Iterator[Parts]:
        """The last event of each source, however old it is."""
        with self._lock:
            return iter([it for topic, it in self._last_events.items() if topic.startswith(prefix)])

    def _forget(self) -> None:
        oldest_s = time.monotonic() - self._seconds
        while self._order and (self._bytes > self._max_bytes or self._order[0][0] < oldest_s):
            _at_s, topic, n_bytes = self._order.popleft()
            self._kept[topic].popleft()
            self._bytes -= n_bytes
            if not self._kept[topic]:
                del self._kept[topic]


class Catchup:
    """Answers on a ROUTER socket, on a thread of its own: publishing never waits for an answer.

    The thread owns the socket from `start` on; it meets the sink thread at the window only.
    """

    def __init__(self, endpoint: str, window: Window) -> None:
        self.window = window
        self.bound_endpoint = endpoint
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(
        self, context: zmq.Context[zmq.Socket[bytes]], publisher: str, curve: Curve | None
    ) -> None:
        """Bound and answering. EndpointUnavailable."""
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES)
        # For one that asks and doesn't read, few answers wait; further ones are not sent.
        socket.setsockopt(zmq.SNDHWM, ANSWERS_WAITING)
        if curve:
            curve.secure(socket)
        try:
            self.bound_endpoint = bound(socket, self.bound_endpoint)
        except EndpointUnavailable:
            socket.close()
            raise
        self._thread = threading.Thread(
            target=self._serve, args=(socket, publisher), name="framewire-catchup", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ended and closed. Safe to call twice, and without a start."""
        self._over.set()
        if self._thread:
            self._thread.join()

    def _serve(self, socket: zmq.Socket[bytes], publisher: str) -> None:
        with socket:
            while not self._over.is_set():
                if socket.poll(POLL_MS):
                    *envelope, request = socket.recv_multipart()
                    socket.send_multipart([*envelope, *self._answer(request, publisher)])

    def _answer(self, request: bytes, publisher: str) -> Parts:
        try:
            asked = CatchupRequest.model_validate_json(request, extra="ignore")
        except ValidationError as error:
            text = f"not a request: {error.error_count()} keys are wrong or missing"
            refused = CatchupAnswer(publisher=publisher, code=BrokenMessage.code, message=text)
            return [refused.model_dump_json().encode()]
        if asked.publisher not in (None, publisher):
            found: Iterator[Parts] = iter(())  # Sequences of another run.
        elif asked.from_sequence is None:
            found = self.window.last_events(asked.topic)
        else:
            found = self.window.since(asked.topic, asked.from_sequence)
        messages, more = _as_many_as_fit(found)
        answer = CatchupAnswer(publisher=publisher, count=len(messages), more=more)
        return [answer.model_dump_json().encode(), *(part for parts in messages for part in parts)]


def _as_many_as_fit(found: Iterator[Parts]) -> tuple[list[Parts], bool]:
    """At least one where there is one; True where there are more."""
    messages: list[Parts] = []
    n_bytes = 0
    for parts in found:
        if messages and n_bytes + sum(map(len, parts)) > ANSWER_BYTES:
            return messages, True
        messages.append(parts)
        n_bytes += sum(map(len, parts))
    return messages, False
