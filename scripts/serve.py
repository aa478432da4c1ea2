"""`framewire serve`: a run that stays open, and the HTTP service beside it.

main thread: the run, as `framewire run` has it ◄── its uploads ── HTTP thread: uvicorn's loop
"""

import contextlib
import functools
import logging
import socket
import ssl
import threading
from collections.abc import Callable

from contracts.errors import FramewireError, InternalError
from contracts.messages import Models, Status
from contracts.secrets import resolve_secrets
from contracts.settings import Settings, SourceSettings
from contracts.upload import Upload
from pipeline.inference import Pipeline
from pipeline.load import load_pipeline
from scripts.console import console
from scripts.report import check_writable
from scripts.run import stop_on_signals, tell
from scripts.wiring import Run
from scripts.worker import Worker
from sinks.http.app import make_app
from sinks.http.keys import Key, read_keys
from sinks.http.server import bind, listen, make_server, tls_of, url_of
from stream.source import identify

log = logging.getLogger("framewire")


def serve(settings: Settings) -> int:
    """The service was stopped, and everything asked of it is answered; the exit status.

    Raises the FramewireError that kept it from starting, or that broke it off.
    """
    asked_to_stop = threading.Event()
    keys, tls = read_keys_of(settings), tls_of(settings.serve)
    with stop_on_signals(asked_to_stop), contextlib.closing(bind(settings.serve)) as listener:
        for source in settings.sources:
            identify(resolve_secrets(source.uri))
        if settings.summary:
            check_writable(settings.summary)
        lowest = settings.serve.lowest_min_score
        run = open_run(settings, functools.partial(load_pipeline, settings, lowest))
        broken_off = None
        try:
            run_and_serve(run, listener, asked_to_stop, keys, tls)
        except FramewireError as error:
            broken_off = error
    counts = [f"{name} {count}" for name, count in run.uploads.counts().items() if count]
    console.print(f"pictures: {', '.join(counts) or 'none'}")
    if run.feeds or settings.summary:
        tell(run, broken_off)
    if broken_off:
        raise broken_off
    return 0


def read_keys_of(settings: Settings) -> tuple[Key, ...] | None:
    """None where everybody may do everything. Raises BadSetting."""
    file = settings.serve.api_keys
    return read_keys(file) if file else None


def open_run(settings: Settings, load: Callable[[], Pipeline]) -> Run:
    """A run that needs no source, and takes single pictures."""
    depth = settings.serve.upload_queue_depth
    return Run(settings, load, threading.Event(), keep_open=True, uploads_depth=depth)


def run_and_serve(
    run: Run,
    listener: socket.socket,
    asked_to_stop: threading.Event,
    keys: tuple[Key, ...] | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Returns once it was asked to stop, what was asked is answered, and all sources have ended.

    Raises what broke the run or the service off.
    """
    settings = run.settings.serve
    server = make_server(make_app(RunService(run), keys), settings, tls)
    listen(listener)
    log.info("serving on %s", url_of(listener, "https" if tls else "http"))
    # Whatever ends the service ends the run: nobody could ask it any more.
    http = Worker("http", lambda: server.run(sockets=[listener]), run.stop.set)
    http.start()

    def tick() -> None:
        if asked_to_stop.is_set():
            server.should_exit = True

    try:
        run.execute(tick)
    finally:
        server.should_exit = True
        # After a run that broke off, what was asked is answered by its deadline at the latest.
        http.join(settings.timeout_ms / 1e3 + 1)
    if http.failure:
        raise InternalError(f"the HTTP service ended: {http.failure!r}") from http.failure


class RunService:
    """What the HTTP service asks of a run. Used on the HTTP thread."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.settings = run.settings.serve
        self.max_pixels = int(run.settings.max_frame_megapixels * 1e6)
        self.max_detections = run.settings.max_detections
        self.masks = run.settings.masks

    def models(self) -> Models:
        """Which weights speak."""
        return self._run.pipeline.models

    def status(self) -> Status:
        """The whole process at this moment."""
        return self._run.status()

    def announce(self) -> None:
        """A picture is on its way."""
        self._run.uploads.announce()

    def withdraw(self) -> None:
        """One that was announced will not come."""
        self._run.uploads.withdraw()

    def offer(self, upload: Upload) -> None:
        """One that was announced waits for the models. Raises Overloaded."""
        self._run.uploads.offer(upload)

    def add(self, source: SourceSettings) -> None:
        """Its frames are read from now on. Raises BadSetting, SourceNotFound."""
        self._run.add(source)

    def pause(self, source_id: str) -> None:
        """Nothing of it is looked at. Raises BadSetting."""
        self._run.supervisor.pause(source_id)

    def resume(self, source_id: str) -> None:
        """It is looked at again. Raises BadSetting."""
        self._run.supervisor.resume(source_id)

    def remove(self, source_id: str) -> None:
        """It ends, and is forgotten. Raises BadSetting."""
        self._run.supervisor.remove(source_id)
