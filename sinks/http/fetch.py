"""Fetches the pictures whose URLs a request gives: only from where it may, and within limits.

httpcore is used as it is, below httpx's client: there are no redirects, cookies, proxies of the
environment and decompression that would have to be switched off.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator

import httpcore
import httpx

from contracts.errors import UnsupportedMediaType, UrlFetchFailed, UrlNotAllowed
from contracts.serve import ServeSettings
from sinks.http.kinds import kind_of
from sinks.http.pinned import PinnedBackend, Resolve, resolve
from sinks.http.urls import read_url, redirected, shown

Take = Callable[[int], None]

MAX_REDIRECTS = 3
CONNECT_TIMEOUT_S = 3.0
"""For one address, so that there is time for the host's next one."""
AT_ONCE = 32
AT_ONCE_OF_A_REQUEST = 4
KIND_BYTES = 1024
"""By so many bytes it shows whether it is a picture at all."""

_HEADERS = (
    ("User-Agent", "framewire"),
    ("Accept", "image/jpeg, image/png, image/webp"),
    ("Accept-Encoding", "identity"),
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Fetcher:
    """What all requests share: who may be asked, how many at once, and the trusted certificates."""

    def __init__(self, settings: ServeSettings, resolve: Resolve = resolve) -> None:
        self._settings = settings
        self._backend = PinnedBackend(settings.fetch_allow or (), resolve)
        # The system's and certifi's; OpenSSL reads SSL_CERT_FILE for a company's own.
        self._tls = httpcore.default_ssl_context()
        self._at_once = asyncio.Semaphore(AT_ONCE)

    @contextlib.asynccontextmanager
    async def request(self) -> AsyncIterator["RequestFetcher"]:
        """Fetches for one request, whose time and bytes are counted from here."""
        async with httpcore.AsyncConnectionPool(
            ssl_context=self._tls, network_backend=self._backend
        ) as pool:
            yield RequestFetcher(self._settings, pool, self._at_once)


class RequestFetcher:
    """Fetches the pictures of one request: a few at once, within one time and one sum of bytes."""

    def __init__(
        self,
        settings: ServeSettings,
        pool: httpcore.AsyncConnectionPool,
        at_once: asyncio.Semaphore,
    ) -> None:
        self._ports = (80, 443) if settings.fetch_ports is None else settings.fetch_ports
        self._most_bytes = int(settings.max_upload_megabytes * 1e6)
        self._bytes_left = int(settings.max_request_megabytes * 1e6)
        self._timeout_s = settings.fetch_timeout_s
        self._ends_at = asyncio.get_running_loop().time() + settings.upload_timeout_s
        self._pool = pool
        self._at_once = (asyncio.Semaphore(AT_ONCE_OF_A_REQUEST), at_once)

    async def fetch(self, url: str, take: Take) -> bytes:
        """The bytes of the picture, which begin as one does.

        `take` is told how many bytes each piece has before it is kept, and may refuse them.
        UrlNotAllowed, UrlFetchFailed: the message names the URL as it was given, and nothing of
        what was answered, which may come from where whoever asks can't look.
        """
        ours, everybodys = self._at_once
        try:
            async with (
                asyncio.timeout_at(self._ends_at),
                ours,
                everybodys,
                # Its own time begins when it is its turn.
                asyncio.timeout(self._timeout_s),
            ):
                return await self._follow(url, take)
        except TimeoutError as error:
            raise UrlFetchFailed(f"{shown(url)}: the picture did not come in time") from error

    async def _follow(self, url: str, take: Take) -> bytes:
        """Through redirects, each of which is looked at as the first URL is."""
        step = shown(url)
        try:
            hop = read_url(url, self._ports)
            for _ in range(1 + MAX_REDIRECTS):
                answer = await self._get(hop, take)
                if isinstance(answer, bytes):
                    return answer
                step = f"{shown(url)}: its redirect"
                hop = redirected(hop, answer, self._ports)
        except (UrlNotAllowed, UrlFetchFailed) as error:
            raise type(error)(f"{step}: {error}") from error
        raise UrlFetchFailed(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    async def _get(self, url: httpx.URL, take: Take) -> bytes | str:
        """The bytes of the picture, or where else it is said to be."""
        asked = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        headers = [("Host", url.netloc.decode("ascii")), *_HEADERS]
        extensions = {"timeout": {"connect": CONNECT_TIMEOUT_S}}
        with _named_failures():
            async with self._pool.stream(
                "GET", asked, headers=headers, extensions=extensions
            ) as response:
                answered = httpx.Headers(response.headers)
                if response.status in _REDIRECTS and "location" in answered:
                    return answered["location"]
                self._check(response.status, answered)
                return await self._read(response, take)

    def _check(self, status: int, headers: httpx.Headers) -> None:
        if status != 200:
            raise UrlFetchFailed(f"answered {status}, expected 200")
        # Never decompressed here: a kilobyte may become a gigabyte.
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise UrlFetchFailed("answered in an encoding, expected the bytes as they are")
        promised = headers.get("content-length", "")
        if promised.isdecimal() and int(promised) > self._most_bytes:
            raise self._too_large()

    async def _read(self, response: httpcore.Response, take: Take) -> bytes:
        """All of it, unless its first bytes already show that it is none."""
        body = bytearray()
        async for chunk in response.aiter_stream():
            take(len(chunk))
            self._bytes_left -= len(chunk)
            if len(body) + len(chunk) > self._most_bytes:
                raise self._too_large()
            if self._bytes_left < 0:
                raise UrlFetchFailed("the pictures of one request have too many bytes together")
            shows_kind = len(body) < KIND_BYTES <= len(body) + len(chunk)
            body += chunk
            if shows_kind:
                _check_kind(body)
        _check_kind(body)
        return bytes(body)

    def _too_large(self) -> UrlFetchFailed:
        return UrlFetchFailed(f"has more than {self._most_bytes / 1e6:g} MB")


def _check_kind(body: bytearray) -> None:
    try:
        kind_of(bytes(body[:KIND_BYTES]))
    except UnsupportedMediaType as error:
        raise UrlFetchFailed("gave no JPEG, PNG or WebP picture") from error


@contextlib.contextmanager
def _named_failures() -> Iterator[None]:
    """httpcore's errors as ours, without their texts, which tell what the other side said."""
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        # The backend names what happens before TLS.
        if isinstance(error.__context__, ssl.SSLCertVerificationError):
            raise UrlFetchFailed("the host has no certificate that is trusted") from error
        raise UrlFetchFailed("the host does not answer in TLS") from error
    except httpcore.ProtocolError as error:
        raise UrlFetchFailed("did not answer in HTTP, or not to the end") from error
    # TLS that breaks in the middle comes as it is, an OSError.
    except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as error:
        raise UrlFetchFailed("the connection broke") from error
