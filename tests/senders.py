"""Whoever sends a stream over TCP or HTTP, well or badly, on the loopback interface."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator


class Line:
    """One connection, as its server sees it."""

    def __init__(self, connection: socket.socket, over: threading.Event) -> None:
        self.socket = connection
        self._over = over

    def send(self, data: bytes) -> None:
        """All of it is on its way."""
        self.socket.sendall(data)

    def request(self) -> str:
        """The head of an HTTP request."""
        head = b""
        while b"\r\n\r\n" not in head:
            received = self.socket.recv(4096)
            if not received:
                break
            head += received
        return head.decode("latin-1")

    def answer(self, status: str = "200 OK", body: bytes = b"", *headers: str) -> None:
        """An HTTP answer to a request, that ends with the connection."""
        self.request()
        head = "\r\n".join([f"HTTP/1.0 {status}", *headers, "", ""])
        self.send(head.encode() + body)

    def stall(self, at_most_s: float | None = None) -> None:
        """Keeps the connection and sends nothing; without a limit, until the test is over."""
        self._over.wait(at_most_s)

    def reset(self) -> None:
        """The other side gets a reset and no end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Drive = Callable[[Line], None]


def sending(*pieces: bytes) -> Drive:
    """Sends these bytes and hangs up in good order."""
    return lambda line: line.send(b"".join(pieces))


@contextlib.contextmanager
def serving(drive: Drive, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port of 127.0.0.1; each connection is driven by a thread, and closed when that returns."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        # The client may leave in the middle, or not like the certificate.
        with contextlib.suppress(OSError), connection:
            secured = tls.wrap_socket(connection, server_side=True) if tls else connection
            with secured:
                drive(Line(secured, over))

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=serve, args=(listener.accept()[0],))
                threads.append(thread)
                thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, args=(listener,))
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()
