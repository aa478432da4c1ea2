"""Publishes each message on ZeroMQ as two parts, topic and JSON; subscribers see a PUB socket."""

import errno
import logging
import socket as sockets
import threading
import time
from pathlib import Path

import zmq

from contracts.errors import EndpointUnavailable, NoSubscriber
from contracts.frame import Delivery
from contracts.messages import topic_of

LINGER_MS = 1000
SUBSCRIPTION_BYTES = 4096
POLL_MS = 100

log = logging.getLogger("framewire.sinks")


class ZmqSink:
    """Owned by the sink thread: the socket is made, used and closed there.

    The socket is an XPUB, which tells who subscribes. It never waits for a subscriber: for one that
    has `high_water_mark` messages waiting, further ones are lost until it has read about half.
    `subscriber_behind` counts how often that happened, not how many messages were lost (libzmq
    tells only the former); a subscriber finds the latter by comparing what it received with the
    ledger in the source's end.
    """

    name = "zmq"

    def __init__(
        self,
        endpoint: str,
        wait_for_subscribers: int = 0,
        wait_s: float = 30.0,
        high_water_mark: int = 1000,
        stop: threading.Event | None = None,
    ) -> None:
        """`stop`, once set from any thread, ends the wait for subscribers: not an error."""
        self.bound_endpoint = endpoint
        self._endpoint = endpoint
        self._wanted = wait_for_subscribers
        self._wait_s = wait_s
        self._high_water_mark = high_water_mark
        self._stop = stop or threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._subscriptions = 0
        self._counts = {"sent": 0, "subscriber_behind": 0, "not_sent": 0}
        self._in_burst = False

    def open(self) -> None:
        """Bound; the subscribers have come, or `stop` is set. EndpointUnavailable, NoSubscriber.

        `bound_endpoint` then has the port that the system chose where the endpoint says `:*`.
        """
        _check(self._endpoint)
        self._context = zmq.Context()
        self._socket = self._make_socket(self._context)
        try:
            self._socket.bind(self._endpoint)
        except zmq.ZMQError as error:
            raise EndpointUnavailable(f"zmq: {self._endpoint} {_reason(error)}") from error
        self.bound_endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        log.info("publishing on %s", self.bound_endpoint)
        if not _is_local(self._endpoint):
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
        parts = [topic_of(delivery.message).encode(), payload]
        try:
            self._send(self._socket, parts)
        except zmq.ZMQError as error:
            self._count_not_sent(error)
        else:
            self._counts["sent"] += 1
            self._in_burst = False

    def close(self) -> None:
        """Closed. What is still queued gets a second to leave."""
        if self._socket is not None:
            self._socket.close(linger=LINGER_MS)
            self._socket = None
        if self._context is not None:
            self._context.term()
            self._context = None

    def counts(self) -> dict[str, int]:
        """For the summary: sent, subscriber_behind, not_sent."""
        return dict(self._counts)

    def _make_socket(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.XPUB)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, self._high_water_mark)
        # Every single subscription and its end is told, not only a topic's first and last.
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        # What comes in are subscriptions; nobody needs longer ones.
        socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES)
        socket.setsockopt(zmq.IPV6, int("[" in self._endpoint))
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
        """Nothing that subscribers said is left unread: it would pile up inside the socket."""
        try:
            while True:
                said = socket.recv(zmq.NOBLOCK)
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


def _check(endpoint: str) -> None:
    """EndpointUnavailable where libzmq would bind something else than what was meant."""
    transport, _, address = endpoint.partition("://")
    port = address.rpartition(":")[2]
    # libzmq takes port 99999 modulo 65536.
    too_large = port.isascii() and port.isdigit() and (len(port) > 5 or int(port) > 65535)
    known = transport in ("tcp", "ipc") and endpoint.isprintable()
    if not known or (transport == "tcp" and too_large):
        raise EndpointUnavailable(f"zmq: {endpoint!r} {_NOT_AN_ENDPOINT}")
    if transport == "ipc":
        _check_ipc_path(endpoint, Path(address))


def _check_ipc_path(endpoint: str, path: Path) -> None:
    """The path is free. libzmq unlinks whatever is there, be it a file or another run's socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise EndpointUnavailable(f"zmq: {endpoint} is a file that is no socket; take another path")
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return  # Left behind by a run that is over.
    raise EndpointUnavailable(f"zmq: {endpoint} {_IN_USE}")


def _is_local(endpoint: str) -> bool:
    local = ("tcp://127.", "tcp://localhost:", "tcp://[::1]:", "tcp://lo:", "ipc://")
    return endpoint.startswith(local)


_IN_USE = "is in use; stop the run that publishes there, or take another port"
_NOT_AN_ENDPOINT = "is not an endpoint; write tcp://127.0.0.1:5555 or ipc:///tmp/framewire"


def _reason(error: zmq.ZMQError) -> str:
    """What is wrong with the endpoint and what to do, to follow its name."""
    match error.errno:
        case errno.EADDRINUSE:
            return _IN_USE
        case errno.EADDRNOTAVAIL | errno.ENODEV:
            return "is not an address of this machine; take 127.0.0.1 or one that it has"
        case errno.EACCES:
            return "is not allowed to this user; take a port above 1023"
        case errno.EINVAL | zmq.EPROTONOSUPPORT:
            return _NOT_AN_ENDPOINT
    return f"can't be bound: {error.strerror}"
