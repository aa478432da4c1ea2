"""A forwarder between publisher and subscribers that loses the messages it is told to lose."""

import threading
from collections.abc import Callable

import zmq

Loses = Callable[[list[bytes]], bool]


class LossyForwarder:
    """Between XSUB and XPUB; subscribers connect to `endpoint`. Ended by `with`."""

    def __init__(self, publisher: str, endpoint: str, loses: Loses) -> None:
        self.endpoint = endpoint
        self._publisher = publisher
        self._loses = loses
        self._over = threading.Event()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._forward)

    def __enter__(self) -> "LossyForwarder":
        self._thread.start()
        assert self._bound.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _forward(self) -> None:
        with (
            zmq.Context() as context,
            context.socket(zmq.XSUB) as inward,
            context.socket(zmq.XPUB) as outward,
        ):
            inward.setsockopt(zmq.LINGER, 0)
            outward.setsockopt(zmq.LINGER, 0)
            inward.connect(self._publisher)
            outward.bind(self.endpoint)
            self._bound.set()
            poller = zmq.Poller()
            poller.register(inward, zmq.POLLIN)
            poller.register(outward, zmq.POLLIN)
            while not self._over.is_set():
                ready = dict(poller.poll(50))
                if outward in ready:
                    inward.send(outward.recv())
                if inward in ready and not self._loses(parts := inward.recv_multipart()):
                    outward.send_multipart(parts)
