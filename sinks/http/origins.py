"""Web pages: a browser sends what anybody's page tells it to, so it is asked whose page it was."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.errors import Forbidden


class Origins:
    """Requests of pages that are not named are refused, even those whose answer none could read.

    A page could else pause a camera with a form. One that lets its own name point at this machine
    (DNS rebinding) is of the same origin as we are, and shows by the name in `Host`.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str], local_names_only: bool) -> None:
        """`local_names_only`: `Host` has to be this machine, as nothing else tells who asks."""
        self.app = app
        self._allowed = frozenset(allowed)
        self._local_names_only = local_names_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the layer outside for each request."""
        if scope["type"] == "http":
            self._check(Headers(scope=scope), scope["scheme"])
        await self.app(scope, receive, send)

    def _check(self, headers: Headers, scheme: str) -> None:
        host = headers.get("host", "")
        if self._local_names_only and not _is_local(host):
            raise Forbidden(
                "without api_keys only requests to localhost or an address of it are answered"
            )
        origin = headers.get("origin")
        if origin not in (None, f"{scheme}://{host}", *self._allowed):
            raise Forbidden("web pages of this origin may not use the service (allowed_origins)")


def _is_local(host: str) -> bool:
    """True for localhost and addresses of it, with whatever port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
