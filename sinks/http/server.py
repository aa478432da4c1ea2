"""uvicorn, with what it lacks: time limits for a request's header and for a reader that is stuck, a
number of connections, and problems in place of text.
"""

import asyncio
import errno
import math
import socket
import ssl

import h11
import uvicorn
from starlette.datastructures import Headers
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from contracts.errors import (
    BadParameter,
    BadSetting,
    EndpointUnavailable,
    FramewireError,
    Overloaded,
)
from contracts.serve import ServeSettings
from sinks.http.limits import HEADER_BYTES
from sinks.http.problems import answer_to
from sinks.http.shell import SECURITY_HEADERS
from sinks.http.trace import trace_of

BACKLOG = 512


class GuardedProtocol(H11Protocol):
    """One connection, which has so long to bring a whole header while no request is answered."""

    idle_timeout_s = 10.0
    max_connections = 512
    _timer: asyncio.TimerHandle | None = None
    _unread = 0
    _over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._close_with(Overloaded(f"{self.max_connections} connections are open already"))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if not self._over:
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        """Called when all of an answer is on its way."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Called for what is not HTTP, before or within a request."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._close_with(BadParameter(f"{msg} Headers have {HEADER_BYTES} bytes at most."))
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """Called when the server stops."""
        if self._over:
            self.transport.close()
        else:
            super().shutdown()

    def _watch(self) -> None:
        """The time runs from the end of the last answer, however slowly the next request comes."""
        if not self._over and self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.idle_timeout_s, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """Closed; but an answer that is still being read, however slowly, is read to its end."""
        self._timer = None
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        if self._unread and (not before or self._unread < before):
            self._watch()
        else:
            self.transport.abort()

    def _close_with(self, error: FramewireError) -> None:
        trace = trace_of(Headers())
        answer = answer_to(error, trace.trace_id)
        answer.headers.update({**dict(SECURITY_HEADERS), "traceparent": trace.traceparent})
        answer.headers["connection"] = "close"
        head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers)
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._over = True
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.can_write_eof():
            # What still comes is read and forgotten until the client closes, or its time is over:
            # closed at once, the system would take the answer back.
            self.transport.write_eof()
        else:
            self.transport.close()


def bind(settings: ServeSettings) -> socket.socket:
    """Holds the address; nobody can connect before it listens. Raises EndpointUnavailable."""
    where = f"http: {settings.host}:{settings.port}"
    try:
        addresses = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EndpointUnavailable(f"{where}: no such host: {error.strerror}") from error
    family, kind, protocol, _, address = addresses[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _unavailable(where, error) from error
    return listener


def listen(listener: socket.socket) -> None:
    """Connections are taken from now on. Raises EndpointUnavailable."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise _unavailable(url_of(listener), error) from error


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Where it can be reached."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def make_server(
    app: ASGIApp, settings: ServeSettings, tls: ssl.SSLContext | None
) -> uvicorn.Server:
    """`run(sockets=[…])` serves until `should_exit` is set and what was asked is answered."""
    guarded = {
        "idle_timeout_s": settings.idle_timeout_s,
        "max_connections": settings.max_connections,
    }
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=type("Protocol", (GuardedProtocol,), guarded),
        ws="none",
        lifespan="on",
        # Ours is the root's; of what strangers send wrong, nothing is logged.
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=math.ceil(settings.idle_timeout_s),
        timeout_graceful_shutdown=math.ceil(settings.max_timeout_ms / 1e3),
        h11_max_incomplete_event_size=HEADER_BYTES,
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
    )
    return uvicorn.Server(config)


def tls_of(settings: ServeSettings) -> ssl.SSLContext | None:
    """None where HTTP is spoken as it is. Raises BadSetting where the certificate can't be used."""
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(
            f"tls_certificate {settings.tls_certificate}, tls_key {settings.tls_key}: {error}"
        ) from error
    return context


def _unavailable(where: str, error: OSError) -> EndpointUnavailable:
    match error.errno:
        case errno.EADDRINUSE:
            return EndpointUnavailable(
                f"{where} is in use; stop what listens there, or take another"
            )
        case errno.EADDRNOTAVAIL:
            return EndpointUnavailable(f"{where} is not an address of this machine")
        case errno.EACCES:
            return EndpointUnavailable(
                f"{where} is not allowed to this user; take a port above 1023"
            )
    return EndpointUnavailable(f"{where} can't be bound: {error.strerror}")
