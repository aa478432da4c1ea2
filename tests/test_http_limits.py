"""Time, size, memory and connections: none of them is anybody's to take as he likes."""

import contextlib
import io
import socket
import struct
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from contracts.errors import Overloaded
from sinks.http.limits import Room
from tests.frames import FixedDetector
from tests.http_corpus import sent
from tests.http_service import PATIENCE_S, Served, answer_on, code_of, serving, until
from tests.picture_corpus import JPEG, encoded, photo
from tests.resources import held, released
from tests.test_http_detect import GatedDetector

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
PIECES = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
ENDLESS = PIECES + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def impatient() -> Iterator[Served]:
    """Waits for a fifth of a second, and no longer."""
    with serving(FixedDetector(), {"upload_timeout_s": 0.2, "idle_timeout_s": 0.2}) as one:
        yield one


def closed(connection: socket.socket) -> bool:
    """True once the service has closed the connection, with nothing said."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "begin",
    [sent(JPEG[:100], length=len(JPEG)), ENDLESS, ENDLESS + b"5\r\nhello\r\n", sent(b"", length=9)],
)
def test_a_body_that_does_not_come_to_its_end_is_given_up(impatient: Served, begin: bytes) -> None:
    with impatient.connect() as connection:
        connection.sendall(begin)
        answer = answer_on(connection)
        assert (answer.status_code, code_of(answer)) == (408, "request_timeout")
        assert answer.headers["connection"] == "close"
        assert closed(connection)


def test_a_body_that_always_goes_on_is_given_up_too(impatient: Served) -> None:
    with impatient.connect() as connection:
        connection.sendall(ENDLESS)
        answered = threading.Event()

        def go_on() -> None:
            with contextlib.suppress(OSError):
                while not answered.wait(0.01):
                    connection.sendall(b"1\r\na\r\n")

        going_on = threading.Thread(target=go_on)
        going_on.start()
        answer = answer_on(connection)
        answered.set()
        going_on.join()
    assert code_of(answer) == "request_timeout"


@pytest.mark.parametrize("before", [b"", HEALTH], ids=["first", "second"])
@pytest.mark.parametrize(
    "begin", [b"", b"POST /detect HTTP/1.1\r\nHost: loc"], ids=["none", "half"]
)
def test_a_header_that_does_not_come_to_its_end_is_not_waited_for(
    impatient: Served, before: bytes, begin: bytes
) -> None:
    with impatient.connect() as connection:
        connection.sendall(before)
        if before:
            assert answer_on(connection).status_code == 200
        connection.sendall(begin)
        assert closed(connection)


def test_a_header_letter_by_letter_gets_no_more_time(impatient: Served) -> None:
    with impatient.connect() as connection:
        connection.settimeout(0.02)
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises(OSError, match=r".") as ended:  # noqa: PT012
            while True:
                connection.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    assert connection.recv(1) == b""
                    raise ConnectionError("closed in good order")
    assert not isinstance(ended.value, TimeoutError)


def test_what_is_sent_on_after_an_answer_is_read_for_a_while_and_then_cut(
    impatient: Served,
) -> None:
    with impatient.connect() as connection:
        connection.sendall(ENDLESS.replace(b"/detect", b"/nowhere"))
        assert code_of(answer_on(connection)) == "no_such_path"
        with pytest.raises(OSError, match=r"."):  # noqa: PT012
            while True:
                connection.sendall(b"400\r\n" + b"a" * 1024 + b"\r\n")


def big_answer(served: Served) -> tuple[socket.socket, int]:
    """A connection on which megabytes come, of which none is read yet; and the request's port."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (2000, 2000, 3), dtype=np.uint8))
    body = encoded(noise, quality=95)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE_S)
    connection.connect(served.address)
    connection.sendall(sent(body, start=b"POST /detect?annotated=1 HTTP/1.1"))
    return connection, connection.getsockname()[1]


def test_a_reader_that_is_stuck_is_cut_off_and_a_slow_one_is_not() -> None:
    serve = {"idle_timeout_s": 0.2}
    with serving(FixedDetector(), serve, max_frame_megapixels=8) as served:
        stuck, port = big_answer(served)
        until(lambda: holds_connection_to(port))
        until(lambda: not holds_connection_to(port))
        stuck.close()
        slow, _ = big_answer(served)
        with slow:
            read = io.BytesIO()
            while piece := slow.recv(2**18):
                read.write(piece)
                head, _, body = read.getvalue().partition(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                if length and len(body) >= int(length):
                    break
                time.sleep(0.002)  # This is what makes it slow.
        assert Image.open(io.BytesIO(body)).size == (2000, 2000)


def holds_connection_to(port: int) -> bool:
    """Whether the service, in this process, has one to the client's port."""
    connections = psutil.Process().net_connections("tcp")
    return any(one.raddr and one.raddr.port == port for one in connections)


def test_connections_beyond_the_most_are_turned_away_and_come_again_later() -> None:
    with serving(serve={"max_connections": 3}) as served, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(served.connect()) for _ in range(3)]
        for connection in connections:
            connection.sendall(HEALTH)
            assert answer_on(connection).status_code == 200
        with served.connect() as one_more:
            answer = answer_on(one_more)
            assert (answer.status_code, code_of(answer)) == (503, "overloaded")
            assert closed(one_more)
        connections.pop().close()

        def taken() -> bool:
            with served.connect() as again:
                again.sendall(HEALTH)
                return answer_on(again).status_code == 200

        until(taken)


def test_idle_connections_keep_nobody_from_being_answered_and_leave_nothing() -> None:
    before = held()
    with serving(FixedDetector()) as served, contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(served.connect()).sendall(b"POST /detect HTTP/1.1\r\n")
        for _ in range(5):
            assert served.detect().status_code == 200
    assert released(before)


def test_clients_that_die_in_the_middle_leave_nothing() -> None:
    """Neither threads nor files, nor a byte of the memory that requests share."""
    before = held()
    serve = {"max_upload_megabytes": 1, "max_request_megabytes": 1, "max_memory_megabytes": 1}
    with serving(FixedDetector(), serve) as served:
        for _ in range(30):
            connection = served.connect()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(sent(bytes(500_000), length=900_000))
            connection.close()
        until(lambda: served.detect(encoded(photo(500, 500))).status_code == 200)
        assert served.run.uploads.counts()["failed"] == 0
    assert released(before)


def test_pictures_that_fill_the_memory_are_refused_until_others_are_answered() -> None:
    gated = GatedDetector()
    serve = {"max_upload_megabytes": 1, "max_request_megabytes": 1, "max_memory_megabytes": 2}
    picture = encoded(photo(500, 500))
    with serving(gated, serve) as served:
        waiting = [
            threading.Thread(
                target=lambda: httpx.post(
                    f"{served.url}/detect", content=picture, headers={"content-type": "image/jpeg"}
                )
            )
            for _ in range(2)
        ]
        for thread in waiting:
            thread.start()
        until(lambda: served.run.uploads.counts()["accepted"] == 2)
        answer = served.detect(picture)
        assert (answer.status_code, code_of(answer)) == (503, "overloaded")
        assert "memory" in answer.json()["detail"]
        gated.gate.set()
        for thread in waiting:
            thread.join(PATIENCE_S)
        until(lambda: served.detect(picture).status_code == 200)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=40))
def test_the_room_never_holds_more_than_it_has_and_is_empty_at_the_end(
    takes: list[tuple[int, int]],
) -> None:
    room = Room(100)
    with contextlib.ExitStack() as stack:
        shares = [stack.enter_context(room.share()) for _ in range(4)]
        for index, n_bytes in takes:
            with contextlib.suppress(Overloaded):
                shares[index].take(n_bytes)
            assert room.held == sum(share.held for share in shares) <= 100
    assert room.held == 0
