"""A subscriber's side of the catch-up: asks for what it missed, and gets it if it is still kept."""

from collections.abc import Callable, Iterator
from typing import Any

import zmq

from contracts.wire import CatchupAnswer, CatchupRequest, Header

TIMEOUT_MS = 2000


Secure = Callable[[zmq.Socket[Any]], None]


def fetch(
    endpoint: str, secure: Secure, publisher: str, topic: str, missing: range | None
) -> list[list[bytes]]:
    """The messages' parts, as far as they are kept; none where nobody answers in time.

    `missing`: which sequences of that very topic; None: the last event of each topic that begins
    so. What is not had is told as lost, so that nothing is hidden here. `secure` sets the keys.
    """
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        secure(socket)
        socket.connect(endpoint)
        try:
            return list(_fetched(socket, publisher, topic, missing))
        except zmq.Again:
            return []


def _fetched(
    socket: zmq.Socket[bytes], publisher: str, topic: str, missing: range | None
) -> Iterator[list[bytes]]:
    position = None if missing is None else missing.start
    while True:
        request = CatchupRequest(topic=topic, publisher=publisher, from_sequence=position)
        socket.send(request.model_dump_json().encode())
        first, *parts = socket.recv_multipart()
        answer = CatchupAnswer.model_validate_json(first, extra="ignore")
        for at in range(0, 3 * answer.count, 3):
            yield parts[at : at + 3]
        if not answer.more or position is None or missing is None:
            return
        position = Header.model_validate_json(parts[-2], extra="ignore").sequence + 1
        if position >= missing.stop:
            return
