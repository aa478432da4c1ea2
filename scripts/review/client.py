"""Sends requests one after the other, and keeps what came back."""

import dataclasses
import functools
import json
import re
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from contracts.errors import BadSetting, ServiceUnreachable
from contracts.secrets import resolve_secrets

MAX_ANSWER_BYTES = 64_000_000
MAX_WAIT_S = 30.0
MAX_WAITS = 10
"""How often in all a service may ask to come later: with these it is at most 60 requests."""
MAX_HANGS = 3


@dataclasses.dataclass(frozen=True)
class Part:
    """Bytes to upload. `field` is given where it is another one than the service's."""

    data: bytes
    content_type: str
    file_name: str
    field: str | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What is sent; `name` tells a person. Without a `path` it goes to the service's."""

    name: str
    part: Part | None = None
    method: str = "POST"
    path: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    bare: bool = False
    """The part is the whole body, also where the service takes forms."""


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A request and its answer; where none came, `status` is None and `fault` the code of why."""

    request: Request
    status: int | None = None
    headers: httpx.Headers = dataclasses.field(default_factory=httpx.Headers)
    content: bytes = b""
    wall_ms: float = 0.0
    fault: str | None = None

    @functools.cached_property
    def json(self) -> Any:
        """The body as JSON, where Python lets NaN and Infinity pass; None where it isn't any."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None

    @property
    def good(self) -> bool:
        """True where the service says that all went well."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def failed(self) -> bool:
        """True where the service says that the mistake is its own."""
        return self.status is not None and self.status >= 500

    @property
    def html(self) -> bool:
        """True where the answer is a page for a browser."""
        start = self.content[:200].lstrip().lower()
        kind: str = self.headers.get("content-type", "")
        return "text/html" in kind.lower() or start.startswith((b"<!doctype html", b"<html"))


class CutShort(Exception):
    """There is no sense in sending more."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the service is and how it takes a picture."""

    url: str
    path: str = "/detect"
    """For a URL that has no path of its own."""
    field: str = "file"
    raw: bool = False
    """The picture is the body, not a field of a form."""
    headers: tuple[str, ...] = ()
    """`Name: value`; either may have `${NAME}` or `${file:PATH}` in it."""
    timeout_s: float = 10.0

    def url_of(self, request: Request) -> str:
        """Where the request goes. Raises BadSetting where the URL is not one of a service."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadSetting(f"{self.url}: not the URL of a service; write http://HOST:PORT")
        own = parts.path if parts.path.strip("/") else self.path
        path = own if request.path is None else request.path
        query = "&".join(filter(None, (parts.query, urlencode(request.query))))
        return parts._replace(path=path, query=query, fragment="").geturl()


class Client:
    """Speaks to one service: one request at a time, each on a connection of its own."""

    def __init__(self, target: Target) -> None:
        """Raises BadSetting where the target is not one, or a secret is not there."""
        self.target = target
        self.sent = 0
        self._spoke = self._served = self._gone = False
        self._waits = self._hangs = 0
        url = resolve_secrets(target.url_of(Request("")))
        self._http = httpx.Client(
            headers=[("User-Agent", "framewire-check"), *map(_header, target.headers)],
            timeout=target.timeout_s,
            # A connection that is closed after a bad upload must not fail the next request.
            limits=httpx.Limits(max_keepalive_connections=0),
            # A proxy can't reach what listens on this machine only.
            trust_env=_host_of(url) not in ("127.0.0.1", "localhost", "::1"),
        )

    def close(self) -> None:
        """Nothing more is sent."""
        self._http.close()

    def send(self, request: Request) -> Exchange:
        """What came back; where the service asks to come later, what came back then.

        Raises ServiceUnreachable where nobody answered ever, CutShort where nobody does any more.
        """
        exchange = self._send_once(request)
        while (wait_s := _asked_to_wait_s(exchange)) is not None and self._waits < MAX_WAITS:
            self._waits += 1
            time.sleep(wait_s)
            exchange = self._send_once(request)
        if exchange.status == 429 and self._served:
            raise CutShort("too many requests for this service")
        self._served |= exchange.good
        return exchange

    def _send_once(self, request: Request) -> Exchange:
        if self._gone or self._hangs == MAX_HANGS:
            why = "nobody listens any more" if self._gone else "too many requests had no answer"
            raise CutShort(why)
        self.sent += 1
        started_s = time.perf_counter()
        try:
            status, headers, content = self._exchange(request, started_s)
        except httpx.RequestError as error:
            return Exchange(request, fault=self._fault(error), wall_ms=_ms_since(started_s))
        self._spoke = True
        return Exchange(request, status, headers, content, _ms_since(started_s))

    def _fault(self, error: httpx.RequestError) -> str:
        """The code of what happened. Raises ServiceUnreachable where nobody was there ever."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            if not self._spoke:
                raise ServiceUnreachable(f"{self.target.url}: {error}") from error
            self._gone = True
            return "connection_broken"
        self._spoke = True
        if isinstance(error, httpx.TimeoutException):
            self._hangs += 1
            return "hangs"
        return "connection_broken"

    def _exchange(self, request: Request, started_s: float) -> tuple[int, httpx.Headers, bytes]:
        url = resolve_secrets(self.target.url_of(request))
        content = bytearray()
        with self._http.stream(request.method, url, **self._body_of(request)) as response:
            for chunk in response.iter_bytes():
                content += chunk
                # httpx's own timeout begins anew with each byte that comes.
                late = time.perf_counter() - started_s > self.target.timeout_s
                if late or len(content) > MAX_ANSWER_BYTES:
                    raise httpx.ReadTimeout("the answer does not end")
        return response.status_code, response.headers, bytes(content)

    def _body_of(self, request: Request) -> dict[str, Any]:
        part = request.part
        if part is None:
            return {}
        if self.target.raw or request.bare:
            return {"content": part.data, "headers": {"Content-Type": part.content_type}}
        field = part.field or self.target.field
        return {"files": {field: (part.file_name, part.data, part.content_type)}}


def _host_of(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise BadSetting(f"{url}: {error}") from error
    if not parts.hostname or port == 0:
        raise BadSetting(f"{url}: not the URL of a service; write http://HOST:PORT")
    return parts.hostname


def _header(given: str) -> tuple[str, str]:
    name, _, value = given.partition(":")
    resolved = resolve_secrets(value.strip())
    if not re.fullmatch(r"[\w-]+", name.strip(), re.ASCII) or not re.fullmatch(r"[ -~]+", resolved):
        # A value is not shown: it may be a secret.
        raise BadSetting(f"header {name!r}: write 'Name: value', in ASCII")
    return name.strip(), resolved


def _asked_to_wait_s(exchange: Exchange) -> float | None:
    asked: str = exchange.headers.get("retry-after", "")
    if exchange.status not in (429, 503) or not asked.isdecimal():
        return None
    return min(float(asked), MAX_WAIT_S)


def _ms_since(started_s: float) -> float:
    return (time.perf_counter() - started_s) * 1e3
