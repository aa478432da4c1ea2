"""The outermost layer of a request: its trace, what becomes of its errors, its answer's headers."""

import logging
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import FramewireError, InternalError
from sinks.http.problems import Refusal, answer_to
from sinks.http.trace import trace_of

SECURITY_HEADERS = (
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
)
STRICT_TRANSPORT = ("strict-transport-security", "max-age=31536000")

log = logging.getLogger("framewire.http")


class Shell:
    """Whatever is raised inside, the answer is a problem with a code, and no traceback.

    What is inside finds its `Trace` in `request.state.trace`.
    """

    def __init__(self, app: ASGIApp, headers: Sequence[tuple[str, str]]) -> None:
        """`headers` go with every answer."""
        self.app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server for each request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        trace = trace_of(Headers(scope=scope))
        scope.setdefault("state", {})["trace"] = trace
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in (*self._headers, ("traceparent", trace.traceparent)):
                    headers[name] = value
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.debug("trace %s: who asked has left", trace.trace_id)
        except Exception as error:
            said = _named(error, trace.trace_id)
            if started:
                # Half an answer can't be taken back; the server breaks the connection off.
                raise
            await answer_to(said, trace.trace_id)(scope, receive, send_with_headers)


def _named(error: Exception, trace_id: str) -> FramewireError | Refusal:
    if isinstance(error, Refusal) or (
        isinstance(error, FramewireError) and not isinstance(error, InternalError)
    ):
        log.debug("trace %s: %s", trace_id, error)
        return error
    log.error("%s: trace %s: %s", InternalError.code, trace_id, error, exc_info=error)
    return InternalError("a defect of the service; its log has more under this trace_id")
