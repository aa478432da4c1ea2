"""How much of a request is taken, how long it may take to come, and how much memory all share."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import (
    BadParameter,
    Overloaded,
    RequestError,
    RequestTimeout,
    RequestTooLarge,
)

HEADER_BYTES = 16 * 1024
SMALL = 64 * 1024
"""Bytes that a request may have which brings no picture."""


class Room:
    """The memory that all requests share, in bytes. Used on the loop's thread only."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @contextlib.contextmanager
    def share(self) -> Iterator["Share"]:
        """Inside, one request's part; nothing of it is left afterwards."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.held
            share.held = 0


class Share:
    """What one request holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.held = 0

    def take(self, n_bytes: int) -> None:
        """So much more of the room. Raises Overloaded when it isn't there."""
        if self._room.held + n_bytes > self._room.limit:
            raise Overloaded(
                f"the pictures at work fill the memory: {self._room.held} bytes of "
                f"{self._room.limit}, {n_bytes} more are needed"
            )
        self.held += n_bytes
        self._room.held += n_bytes


class Most(NamedTuple):
    """How large a request's body may be, and what is said of a larger one."""

    n_bytes: int
    error: type[RequestError] = RequestTooLarge

    def check(self, n_bytes: int) -> None:
        """Raises the error where it is more."""
        if n_bytes > self.n_bytes:
            raise self.error(f"expected {self.n_bytes} bytes at most in the request")


class Limited:
    """A body comes within its time and its size, whatever its header says of it."""

    def __init__(
        self, app: ASGIApp, sizes: Mapping[str, Most], timeout_s: float, room: Room
    ) -> None:
        """`sizes` by path; other requests may have `SMALL` bytes."""
        self.app = app
        self._sizes = sizes
        self._timeout_s = timeout_s
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the layer outside for each request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        _check_head(scope)
        most = self._sizes.get(scope["path"], Most(SMALL))
        # The server has refused what is no number.
        most.check(int(Headers(scope=scope).get("content-length", "0")))
        with self._room.share() as share:
            body = _Body(receive, most, time.monotonic() + self._timeout_s, share)
            await self.app(scope, body.receive, send)


def _check_head(scope: Scope) -> None:
    """The server sees to it only where the header comes in pieces."""
    sizes = (len(name) + len(value) for name, value in scope["headers"])
    if sum(sizes) + len(scope["raw_path"]) + len(scope["query_string"]) > HEADER_BYTES:
        raise BadParameter(f"expected {HEADER_BYTES} bytes at most in the request's header")


class _Body:
    """Hands the body on as it comes."""

    def __init__(self, receive: Receive, most: Most, deadline_s: float, share: Share) -> None:
        self._receive = receive
        self._most = most
        self._deadline_s = deadline_s
        self._share = share
        self._complete = False

    async def receive(self) -> Message:
        """The next piece. Once all is there, what comes is only that the client leaves."""
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._deadline_s - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout("the request's body did not come in time") from None
        n_bytes = len(message.get("body", b""))
        self._share.take(n_bytes)
        self._most.check(self._share.held)
        self._complete = not message.get("more_body", False)
        return message
