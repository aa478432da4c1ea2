"""What is fetched comes within its time and its size, and is a picture."""

import asyncio
import gzip
import threading
from ipaddress import ip_address

import pytest

from contracts.errors import Overloaded, UrlFetchFailed, UrlNotAllowed
from contracts.serve import ServeSettings
from sinks.http.addresses import Address
from sinks.http.fetch import AT_ONCE_OF_A_REQUEST
from tests.fetching import HERE, PICTURE, SECRET, answering, fetch, fetch_all, settings
from tests.senders import Drive, Line, serving


def drip(line: Line) -> None:
    """A byte now and then, without end."""
    line.request()
    line.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        line.send(PICTURE[:1])
        line.stall(0.01)


def mute(line: Line) -> None:
    """No answer."""
    line.request()
    line.stall()


@pytest.mark.parametrize("drive", [drip, mute, Line.stall])
def test_a_picture_that_does_not_come_in_time_is_given_up(drive: Drive) -> None:
    with serving(drive) as port, pytest.raises(UrlFetchFailed, match="did not come in time"):
        fetch(f"http://{HERE}:{port}/", settings(port, fetch_timeout_s=0.2))


def test_a_name_server_that_does_not_answer_is_given_up() -> None:
    async def never(host: str, port: int) -> list[Address]:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(UrlFetchFailed, match="did not come in time"):
        fetch("http://pictures.test/", settings(fetch_timeout_s=0.05), never)


def test_all_pictures_of_a_request_have_one_time_together() -> None:
    with serving(mute) as port:
        urls = [f"http://{HERE}:{port}/{number}" for number in range(2 * AT_ONCE_OF_A_REQUEST)]
        served = settings(port, upload_timeout_s=0.2, fetch_timeout_s=3600)
        fetched = asyncio.run(fetch_all(urls, served))
    assert [str(each) for each in fetched] == [
        f"{url}: the picture did not come in time" for url in urls
    ]


def test_a_few_pictures_of_a_request_are_fetched_at_once() -> None:
    started = 0

    async def look(urls: list[str], served: ServeSettings) -> None:
        go_on = asyncio.Event()

        async def held_up(_host: str, _port: int) -> list[Address]:
            nonlocal started
            started += 1
            await go_on.wait()
            return [ip_address(HERE)]

        fetching = asyncio.create_task(fetch_all(urls, served, held_up))
        # Every other task gets its turn so often that each is where it can't go on.
        for _ in range(100):
            await asyncio.sleep(0)
        assert started == AT_ONCE_OF_A_REQUEST
        go_on.set()
        assert await fetching == [PICTURE] * len(urls)

    with serving(answering()) as port:
        urls = [f"http://a.test:{port}/"] * (2 * AT_ONCE_OF_A_REQUEST)
        asyncio.run(look(urls, settings(port)))
    assert started == len(urls)


def test_one_failure_takes_no_other_picture_along() -> None:
    with serving(answering()) as port:
        good, bad = f"http://{HERE}:{port}/", f"http://127.0.0.2:{port}/"
        fetched = asyncio.run(fetch_all([bad, good, "", good], settings(port)))
    assert [fetched[1], fetched[3]] == [PICTURE, PICTURE]
    assert isinstance(fetched[0], UrlNotAllowed)
    assert isinstance(fetched[2], UrlNotAllowed)


def test_a_fetch_that_nobody_waits_for_any_more_hangs_up() -> None:
    asked, gone = threading.Event(), threading.Event()

    def answer(line: Line) -> None:
        line.request()
        asked.set()
        line.socket.recv(1)
        gone.set()

    async def leave(url: str, served: ServeSettings) -> None:
        fetching = asyncio.create_task(fetch_all([url], served))
        await asyncio.to_thread(asked.wait)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching

    with serving(answer) as port:
        asyncio.run(leave(f"http://{HERE}:{port}/", settings(port)))
        assert gone.wait(30)


def without_end(line: Line) -> None:
    """A picture's first bytes and then zeros, as long as somebody takes them."""
    line.request()
    line.send(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE)
    while True:
        line.send(bytes(1 << 16))


def lying(line: Line) -> None:
    """More than the header says: chunks without end."""
    line.request()
    line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        line.send(b"2800\r\n" + PICTURE[:8].ljust(0x2800) + b"\r\n")


def promising(line: Line) -> None:
    """Says at once how much it would be, and keeps it."""
    line.request()
    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n")
    line.stall()


@pytest.mark.parametrize("drive", [without_end, lying, promising])
def test_a_picture_that_is_too_large_is_not_taken(drive: Drive) -> None:
    with serving(drive) as port, pytest.raises(UrlFetchFailed, match="has more than 1 MB"):
        fetch(f"http://{HERE}:{port}/", settings(port, max_upload_megabytes=1))


def test_a_picture_may_be_as_large_as_the_largest_upload() -> None:
    body = PICTURE.ljust(1_000_000, b"\0")
    with serving(answering(body)) as port:
        assert fetch(f"http://{HERE}:{port}/", settings(port, max_upload_megabytes=1)) == body
    with serving(answering(body + b"\0")) as port, pytest.raises(UrlFetchFailed, match="1 MB"):
        fetch(f"http://{HERE}:{port}/", settings(port, max_upload_megabytes=1))


def test_pictures_of_a_request_are_not_larger_together_than_a_request_may_be() -> None:
    body = PICTURE.ljust(600_000, b"\0")
    with serving(answering(body)) as port:
        served = settings(port, max_upload_megabytes=1, max_request_megabytes=1)
        fetched = asyncio.run(fetch_all([f"http://{HERE}:{port}/"] * 3, served))
    failed = [each for each in fetched if isinstance(each, UrlFetchFailed)]
    assert len(failed) >= 2
    assert all("too many bytes together" in str(each) for each in failed)


def test_memory_is_asked_for_before_bytes_are_kept_and_may_be_refused() -> None:
    taken: list[int] = []

    def take(n_bytes: int) -> None:
        taken.append(n_bytes)
        if sum(taken) > 500_000:
            raise Overloaded("no room")

    with serving(without_end) as port:
        [failed] = asyncio.run(fetch_all([f"http://{HERE}:{port}/"], settings(port), take=take))
    assert isinstance(failed, Overloaded)
    assert sum(taken[:-1]) <= 500_000


def test_a_picture_that_ends_too_early_is_a_failure() -> None:
    drive = answering(PICTURE, f"Content-Length: {len(PICTURE) + 1}")
    with serving(drive) as port, pytest.raises(UrlFetchFailed, match="not to the end"):
        fetch(f"http://{HERE}:{port}/", settings(port))


def test_of_a_picture_that_is_longer_than_it_says_the_rest_is_left() -> None:
    with serving(answering(PICTURE + b"more", f"Content-Length: {len(PICTURE)}")) as port:
        assert fetch(f"http://{HERE}:{port}/", settings(port)) == PICTURE


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"])
def test_a_compressed_answer_is_refused_unread(encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    drive = answering(bomb, f"Content-Encoding: {encoding}")
    with serving(drive) as port, pytest.raises(UrlFetchFailed, match="in an encoding"):
        fetch(f"http://{HERE}:{port}/", settings(port))


def test_the_encoding_that_was_asked_for_is_taken() -> None:
    with serving(answering(PICTURE, "Content-Encoding: Identity")) as port:
        assert fetch(f"http://{HERE}:{port}/", settings(port)) == PICTURE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x89P",
        SECRET.encode(),
        SECRET.encode() * 1000,
        b"<html>" + SECRET.encode(),
        gzip.compress(PICTURE),
        b"\x1f\x8b" + SECRET.encode() * 100,
    ],
)
@pytest.mark.parametrize("kind", ["image/png", "text/html"])
def test_what_is_no_picture_is_refused_whatever_it_says_it_is(body: bytes, kind: str) -> None:
    with (
        serving(answering(body, f"Content-Type: {kind}")) as port,
        pytest.raises(UrlFetchFailed) as failure,
    ):
        fetch(f"http://{HERE}:{port}/", settings(port))
    assert str(failure.value) == f"http://{HERE}:{port}/: gave no JPEG, PNG or WebP picture"


def test_of_what_is_no_picture_only_the_beginning_is_read() -> None:
    def answer(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\n\r\n" + SECRET.encode() * 100)
        line.stall()

    with serving(answer) as port, pytest.raises(UrlFetchFailed, match="gave no JPEG"):
        fetch(f"http://{HERE}:{port}/", settings(port))
