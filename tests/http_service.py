"""The HTTP service as it runs, with small models: real run, real uvicorn, real connections."""

import contextlib
import dataclasses
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import torch

from contracts.settings import Settings
from pipeline.inference import Pipeline
from scripts.serve import open_run, read_keys_of, run_and_serve
from scripts.wiring import Run
from sinks.http.server import bind, listen, tls_of, url_of
from tests.frames import BrightnessClassifier, FixedDetector
from tests.picture_corpus import JPEG

PATIENCE_S = 60.0
BOX = (4.0, 4.0, 60.0, 60.0)
FORM = {"file": ("photo.jpg", JPEG, "image/jpeg")}


@dataclasses.dataclass(frozen=True)
class Served:
    """A service that runs: where, what runs there, and how to end it."""

    url: str
    address: tuple[str, int]
    run: Run
    client: httpx.Client
    stop: threading.Event
    thread: threading.Thread

    def connect(self) -> socket.socket:
        """A connection of its own, to say on it what no client would."""
        return socket.create_connection(self.address, PATIENCE_S)

    def say(self, request: bytes) -> httpx.Response:
        """The first answer to what is sent, byte for byte, on a connection of its own."""
        with self.connect() as connection:
            connection.sendall(request)
            return answer_on(connection)

    def detect(self, data: bytes = JPEG, **options: Any) -> httpx.Response:
        """Sends a picture as the body."""
        headers = {"content-type": "application/octet-stream", **options.pop("headers", {})}
        return self.client.post("/detect", content=data, headers=headers, **options)


def answer_on(connection: socket.socket) -> httpx.Response:
    """The next answer that comes."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def until(fact: Callable[[], bool]) -> None:
    """The fact has come true, which nothing else tells."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def code_of(answer: httpx.Response) -> str | None:
    """The problem's code; None where it is no problem."""
    if answer.headers["content-type"] != "application/problem+json":
        return None
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:framewire:{problem['code']}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["trace_id"] in answer.headers["traceparent"]
    return str(problem["code"])


@contextlib.contextmanager
def serving(
    detector: FixedDetector | None = None,
    serve: dict[str, Any] | None = None,
    pipeline: Pipeline | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """A service on a port that is free; at the end it was stopped, and nothing went wrong."""
    given = {"zmq": "none", "max_frame_megapixels": 1, **settings}
    settled = Settings.model_validate({**given, "serve": {"port": 0, **(serve or {})}})
    small = pipeline or Pipeline(
        detector or FixedDetector(BOX),
        BrightnessClassifier(),
        torch.device("cpu"),
        settled.min_score,
    )
    failures: list[BaseException] = []
    stop = threading.Event()
    with bind(settled.serve) as listener:
        run = open_run(settled, lambda: small)
        keys, tls = read_keys_of(settled), tls_of(settled.serve)

        def work() -> None:
            try:
                run_and_serve(run, listener, stop, keys, tls)
            except BaseException as failure:
                failures.append(failure)
                # Nobody is to wait for an answer that won't come.
                listener.close()

        # Whoever connects from now on waits until it is taken.
        listen(listener)
        url, address = url_of(listener, "https" if tls else "http"), listener.getsockname()[:2]
        thread = threading.Thread(target=work)
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE_S, verify=_trust(settled)) as client:
                yield Served(url, address, run, client, stop, thread)
        finally:
            stop.set()
            thread.join(PATIENCE_S)
            if failures:
                raise failures[0]
    assert not thread.is_alive()


def _trust(settings: Settings) -> ssl.SSLContext | bool:
    certificate = settings.serve.tls_certificate
    return ssl.create_default_context(cafile=str(certificate)) if certificate else True
