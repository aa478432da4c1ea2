"""Publishes each message on ZeroMQ as docs/wire.md has it; subscribers see a PUB socket."""

import logging
import threading
import time
import uuid

import zmq

from contracts.errors import EndpointUnavailable, NoSubscriber
from contracts.frame import Delivery
from contracts.messages import AnyMessage, Status, topic_of
from contracts.wire import HEARTBEAT_TOPIC, Header, Heartbeat, is_local
from sinks.zmq_catchup import Catchup
from sinks.zmq_curve import Curve
from sinks.zmq_endpoint import bound

LINGER_MS = 1000
SUBSCRIPTION_BYTES = 4096
POLL_MS = 100
MAX_MESSAGE_BYTES = 16 * 10**6

log = logging.getLogger("framewire.sinks")


class ZmqSink:
    """Owned by the sink thread: the socket is made, used and closed there.

    The socket is an XPUB, which tells who subscribes. It never waits for a subscriber: for one that
    has `high_water_mark` messages waiting, further ones are lost until it has read about half.
    `subscriber_behind` counts how often that happened, not how many messages were lost (libzmq
    tells only the former); a subscriber finds the latter in the sequences of the headers.

    A message that is larger than `max_message_bytes` is not sent, to nobody: it would fill the
    queues of all. It is counted, logged, and its number is left out, so that it is missed.
    """

    name = "zmq"

    def __init__(
        self,
        endpoint: str,
        wait_for_subscribers: int = 0,
        wait_s: float = 30.0,
        high_water_mark: int = 1000,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        catchup: Catchup | None = None,
        curve: Curve | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """`stop`, once set from any thread, ends the wait for subscribers: not an error."""
        self.bound_endpoint = endpoint
        self._endpoint = endpoint
        self._wanted = wait_for_subscribers
        self._wait_s = wait_s
        self._high_water_mark = high_water_mark
        self._max_message_bytes = max_message_bytes
        self._catchup = catchup
        self._curve = curve
        self._stop = stop or threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._publisher = uuid.uuid4().hex[:16]
        self._latest: dict[str, int] = {}
        self._subscriptions = 0
        self._counts = {"sent": 0, "subscriber_behind": 0, "not_sent": 0, "message_too_large": 0}
        self._in_burst = False

    def open(self) -> None:
        """Bound; the subscribers have come, or `stop` is set. EndpointUnavailable, NoSubscriber.

        `bound_endpoint` then has the port that the system chose where the endpoint says `:*`.
        """
        self._context = zmq.Context()
        if self._curve:
            self._curve.start(self._context)
        self._socket = self._make_socket(self._context)
        self.bound_endpoint = bound(self._socket, self._endpoint)
        log.info("publishing on %s", self.bound_endpoint)
        if self._catchup:
            self._catchup.start(self._context, self._publisher, self._curve)
            log.info("giving again what was missed on %s", self._catchup.bound_endpoint)
        if not self._curve and not is_local(self._endpoint):
            log.warning(
                "%s: anybody who can reach it can read all results; it is not encrypted",
                self.bound_endpoint,
            )
        self._wait_for_subscribers(self._socket)

    def write(self, delivery: Delivery, payload: bytes) -> None:
        """Handed to ZeroMQ for every subscriber that keeps up. EndpointUnavailable: shut."""
        if self._socket is None:
            raise EndpointUnavailable(f"zmq: {self._endpoint} is not open")
        self._take_subscriptions(self._socket)
        message = delivery.message
        self._publish(self._socket, topic_of(message), message, payload)
        if isinstance(message, Status):
            self._beat(self._socket)

    def close(self) -> None:
        """Closed. What is still queued gets a second to leave; a last heartbeat tells what came."""
        if self._socket is not None:
            if self._latest:
                self._beat(self._socket)
            self._socket.close(linger=LINGER_MS)
            self._socket = None
        if self._catchup:
            self._catchup.stop()
        if self._curve:
            self._curve.stop()
        if self._context is not None:
            self._context.term()
            self._context = None

    def counts(self) -> dict[str, int]:
        """For the summary: sent, subscriber_behind, not_sent, message_too_large."""
        return dict(self._counts)

    def _beat(self, socket: zmq.Socket[bytes]) -> None:
        latest = {topic: n for topic, n in self._latest.items() if topic != HEARTBEAT_TOPIC}
        beat = Heartbeat(latest=latest)
        self._publish(socket, HEARTBEAT_TOPIC, beat, beat.model_dump_json().encode())

    def _publish(
        self,
        socket: zmq.Socket[bytes],
        topic: str,
        message: AnyMessage | Heartbeat,
        payload: bytes,
    ) -> None:
        """Sent whole, or counted. A number is used up in both cases: what isn't sent is missed."""
        sequence = self._latest[topic] = self._latest.get(topic, -1) + 1
        if len(payload) > self._max_message_bytes:
            self._refuse(topic, sequence, len(payload))
            return
        header = Header(
            publisher=self._publisher,
            sequence=sequence,
            sent_at_ns=time.time_ns(),
            schema_name=message.schema_name,
            schema_version=message.schema_version,
        )
        parts = [topic.encode(), header.model_dump_json().encode(), payload]
        if self._catchup and topic != HEARTBEAT_TOPIC:
            self._catchup.window.keep(topic, sequence, parts)
        try:
            self._send(socket, parts)
        except zmq.ZMQError as error:
            self._count_not_sent(error)
        else:
            self._counts["sent"] += topic != HEARTBEAT_TOPIC
            self._in_burst = False

    def _refuse(self, topic: str, sequence: int, n_bytes: int) -> None:
        self._counts["message_too_large"] += 1
        log.error(
            "message_too_large: %s number %d has %d bytes, zmq_max_message_megabytes allows %d",
            topic, sequence, n_bytes, self._max_message_bytes,
        )  # fmt: skip

    def _make_socket(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.XPUB)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, self._high_water_mark)
        # Every single subscription and its end is told, not only a topic's first and last.
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        # What comes in are subscriptions; nobody needs longer ones.
        socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES)
        if self._curve:
            self._curve.secure(socket)
        return socket

    def _wait_for_subscribers(self, socket: zmq.Socket[bytes]) -> None:
        deadline_s = time.monotonic() + self._wait_s
        while self._subscriptions < self._wanted and not self._stop.is_set():
            left_ms = (deadline_s - time.monotonic()) * 1000
            if left_ms <= 0:
                raise NoSubscriber(
                    f"zmq: waited for {self._wanted} subscriptions on {self.bound_endpoint}, "
                    f"{self._subscriptions} came; start the subscribers first, or wait for fewer"
                )
            if socket.poll(min(int(left_ms) + 1, POLL_MS), zmq.POLLIN):
                self._take_subscriptions(socket)

    def _take_subscriptions(self, socket: zmq.Socket[bytes]) -> None:
        """Nothing that subscribers said is left unread: it would pile up inside the socket.

        One who asks for the heartbeat beside a topic is one subscriber, not two.
        """
        try:
            while True:
                said = socket.recv(zmq.NOBLOCK)
                if said[1:] != HEARTBEAT_TOPIC.encode():
                    self._subscriptions += {b"\x01": 1, b"\x00": -1}.get(said[:1], 0)
        except zmq.Again:
            return

    def _send(self, socket: zmq.Socket[bytes], parts: list[bytes]) -> None:
        try:
            socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            self._counts["subscriber_behind"] += 1
            if self._counts["subscriber_behind"] == 1:
                log.warning("%s: a subscriber reads too slowly and loses messages", self._endpoint)
            # Those who keep up still get this one; only the full queue loses it.
            socket.setsockopt(zmq.XPUB_NODROP, 0)
            try:
                socket.send_multipart(parts, zmq.NOBLOCK)
            finally:
                socket.setsockopt(zmq.XPUB_NODROP, 1)

    def _count_not_sent(self, error: zmq.ZMQError) -> None:
        """Counted, and logged once a burst; a socket that is gone stops the run instead."""
        if error.errno in (zmq.ETERM, zmq.ENOTSOCK):
            raise EndpointUnavailable(f"zmq: {self._endpoint} was closed: {error}") from error
        self._counts["not_sent"] += 1
        if not self._in_burst:
            log.error("%s: a message was not sent: %s", self._endpoint, error)
        self._in_burst = True
