"""Fetching from real servers on the loopback interface, with names that mean what a test says."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from contracts.errors import RequestError
from contracts.serve import ServeSettings
from sinks.http.addresses import Address
from sinks.http.fetch import Fetcher, Take
from sinks.http.pinned import Resolve, resolve
from tests.senders import Drive, Line

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
HERE = "127.0.0.1"
SECRET = "s3cr3t-of-an-internal-service"  # noqa: S105


class Names:
    """Who has which addresses: an answer for each time it is asked, the last one ever after."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[Address]:
        """The addresses. OSError where there are none."""
        self.asked.append(host)
        if host not in self._answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self._answers[host]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(each) for each in answer]


def settings(*ports: int, **changes: Any) -> ServeSettings:
    """Fetching is on, and this machine's first loopback address is allowed."""
    given = {"fetch_urls": True, "fetch_allow": [HERE], "fetch_ports": ports or None, **changes}
    return ServeSettings.model_validate(given)


async def fetch_all(
    urls: list[str],
    served: ServeSettings,
    names: Resolve = resolve,
    take: Take = lambda _n_bytes: None,
) -> list[bytes | RequestError]:
    """What each URL gives, or why it gives nothing."""

    async def one(url: str) -> bytes | RequestError:
        try:
            return await fetcher.fetch(url, take)
        except RequestError as error:
            return error

    async with Fetcher(served, names).request() as fetcher:
        return await asyncio.gather(*map(one, urls))


def fetch(url: str, served: ServeSettings, names: Resolve = resolve) -> bytes:
    """What the URL gives; raises what went wrong."""
    [fetched] = asyncio.run(fetch_all([url], served, names))
    if isinstance(fetched, RequestError):
        raise fetched
    return fetched


def answering(body: bytes = PICTURE, *headers: str, status: str = "200 OK") -> Drive:
    """The same answer to every request."""
    return lambda line: line.answer(status, body, *headers)


def sending_to(*locations: str) -> Drive:
    """A redirect to each of these in turn, and then the picture."""
    left = iter(locations)

    def answer(line: Line) -> None:
        location = next(left, None)
        if location is None:
            line.answer(body=PICTURE)
        else:
            line.answer("302 Found", SECRET.encode(), f"Location: {location}")

    return answer


@contextlib.contextmanager
def nobody_comes(address: str = HERE, port: int = 0) -> Iterator[int]:
    """A port that is open, and that nobody has connected to when the context ends."""
    with socket.create_server((address, port)) as listener:
        yield listener.getsockname()[1]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def raw(answer: bytes) -> Drive:
    """These bytes after a request."""

    def drive(line: Line) -> None:
        line.request()
        line.send(answer)

    return drive
