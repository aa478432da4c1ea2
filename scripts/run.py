"""The wiring: readers → queues → inference → outbox → sinks, with one thread for each arrow's head.

                    a thread a source     inference thread          sink thread
    readers ──────► capture ──► queue ──► run_inference ──► outbox ──► deliver ──► sinks

Threads meet at the queues only. A normal end flows downstream: a source ends, its queue is closed
and drained, the last one closes the outbox. A failure flows upstream: a thread that ends abandons
the queue in front of it, so whoever fills that queue ends too, and nothing hangs.
"""

import dataclasses
import functools
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from contracts.errors import FramewireError, InternalError
from contracts.frame import Delivery, Frame, StreamItem
from contracts.ledger import Ledger
from contracts.settings import Settings, SourceSettings
from pipeline.batcher import Batcher
from pipeline.inference import Pipeline, run_inference
from pipeline.load import load_pipeline
from scripts.console import console, progress_bars
from scripts.report import Report, check_writable, show, summarise, write_summary
from scripts.worker import Worker
from sinks.deliver import deliver
from sinks.jsonl import JsonlSink
from sinks.sink import Sink
from sinks.video import VideoSink
from sinks.zmq import ZmqSink
from stream.capture import capture
from stream.queue import BoundedQueue, QueueClosed, QueueCounts
from stream.reader import Reader
from stream.source import SourceKind, identify, open_reader

log = logging.getLogger("framewire")

DEPTH_OF_FILES = 16
DEPTH_OF_LIVE = 2
REFRESH_S = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One source with its queue and its account."""

    settings: SourceSettings
    queue: BoundedQueue[StreamItem]
    ledger: Ledger
    length: list[int] = dataclasses.field(default_factory=list)
    """What the container claims, once it is open; for the progress bar only."""


class Run:
    """One run from start to summary. Made and used by the main thread."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        kinds: Mapping[str, SourceKind],
        stop: threading.Event,
    ) -> None:
        """`kinds` goes by source id. `stop`, set from anywhere, ends the reading."""
        self.settings = settings
        self.pipeline = pipeline
        self.stop = stop
        self.report = Report()
        bell = threading.Condition()
        self.sources = [
            _make_source(source, settings, kinds[source.id] == "webcam", bell)
            for source in settings.sources
        ]
        self.sinks = _make_sinks(settings, self.stop)
        max_bytes = _queue_bytes(settings)
        self._outbox: BoundedQueue[Delivery] = BoundedQueue(
            depth=2 * settings.max_batch,
            max_bytes=max_bytes,
            when_full="block",
            size_of=lambda delivery: delivery.n_bytes,
        )
        self._batcher = Batcher(
            [source.queue for source in self.sources],
            bell,
            settings.max_batch,
            settings.max_wait_ms,
            max_bytes,
        )

    def execute(self, tick: Callable[[], None] = lambda: None) -> None:
        """Every frame is accounted for. `tick` is called about ten times a second meanwhile.

        Raises what broke the run off: a SinkError, or InternalError for a defect.
        """
        opened = threading.Event()
        sinks = Worker("sinks", lambda: self._deliver(opened.set), self._sinks_ended)
        sinks.start()
        while sinks.is_alive() and not opened.wait(REFRESH_S):
            tick()
        workers = [*self._readers(), sinks] if opened.is_set() else [sinks]
        self.report.start()
        for worker in workers[:-1]:
            worker.start()
        for worker in workers:
            _join(worker, tick)
        self._raise_failures([sinks, *workers[:-1]])

    @property
    def captured(self) -> int:
        """Frames of all sources so far."""
        return sum(source.ledger.counts().captured for source in self.sources)

    def queues(self) -> dict[str, QueueCounts]:
        """What went through each queue: the sources', by id, and the one to the sinks."""
        counts = {source.settings.id: source.queue.counts() for source in self.sources}
        return {**counts, "outbox": self._outbox.counts()}

    def _readers(self) -> list[Worker]:
        """The capture threads and the inference thread, in flow order."""
        inference = Worker(
            "inference",
            lambda: run_inference(self._batcher, self.pipeline, self._outbox),
            self._inference_ended,
        )
        return [
            *(
                Worker(f"capture-{source.settings.id}", functools.partial(self._capture, source))
                for source in self.sources
            ),
            inference,
        ]

    def _capture(self, source: Source) -> None:
        def open_it() -> Reader:
            pixels = int(self.settings.max_frame_megapixels * 1e6)
            reader = open_reader(source.settings.uri, pixels)
            claimed, limit = reader.frame_count_hint, self.settings.max_frames
            source.length.extend([min(claimed, limit or claimed)] if claimed else [])
            return reader

        capture(
            source.settings,
            open_it,
            source.queue,
            source.ledger,
            self.stop,
            self.settings.max_frames,
        )

    def _deliver(self, opened: Callable[[], None]) -> None:
        ledgers = {source.settings.id: source.ledger for source in self.sources}
        deliver(self._outbox, self.sinks, ledgers, self.report.observe, opened)

    def _sinks_ended(self) -> None:
        self._outbox.abandon()

    def _inference_ended(self) -> None:
        for source in self.sources:
            source.queue.abandon()

    def _raise_failures(self, workers: Sequence[Worker]) -> None:
        """The failure nearest to the exit is the cause; it settles the frames still in flight."""
        failures = [
            w.failure for w in workers if w.failure and not isinstance(w.failure, QueueClosed)
        ]
        if not failures:
            return
        cause = failures[0]
        if not isinstance(cause, FramewireError):
            cause = InternalError(f"{type(cause).__name__}: {cause}")
        for source in self.sources:
            source.ledger.fail_all_in_flight(cause.code)
        raise cause from failures[0]


def run(settings: Settings) -> int:
    """The run has ended, its summary is shown and written; the exit status.

    Raises the FramewireError that kept it from starting, or that broke it off.
    """
    stop = threading.Event()
    with stop_on_signals(stop):
        kinds = {source.id: identify(source.uri) for source in settings.sources}
        if settings.summary:
            check_writable(settings.summary)
        this_run = Run(settings, load_pipeline(settings), kinds, stop)
        broken_off = _execute(this_run)
    summary = _summary(this_run, broken_off)
    show(summary, console)
    if settings.summary:
        write_summary(summary, settings.summary)
    if broken_off:
        raise broken_off
    return _conclude(this_run)


def _execute(this_run: Run) -> FramewireError | None:
    """Runs to the end, with progress bars; what broke it off, if anything did."""
    try:
        with _bars(this_run) as tick:
            this_run.execute(tick)
    except FramewireError as error:
        if this_run.captured:
            # Whatever it is called, it did start.
            error.exit_status = 1
        return error
    return None


def _conclude(this_run: Run) -> int:
    """0, or the last lines that say what failed: 1, and 3 where no frame came from any source."""
    failed: Counter[str] = Counter()
    for source in this_run.sources:
        failed.update(source.ledger.counts().failed)
    ends = [end for end in this_run.report.ends.values() if end.code]
    for end in ends:
        console.print(f"framewire: {end.code}: {end.message}", soft_wrap=True)
    if failed and not ends:
        console.print(
            "framewire: " + ", ".join(f"{code}: {n} frames" for code, n in failed.items())
        )
    if not ends and not failed:
        return 0
    return 1 if this_run.captured else 3


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM set `stop`; the second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = (signal.SIGINT, signal.SIGTERM)

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for name in names:
            signal.signal(name, _quit_at_once)
        log.warning("stopping: finishing what was read; once more to quit at once")

    before = {name: signal.signal(name, ask_to_stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _quit_at_once(number: int, _frame: FrameType | None) -> None:
    """As if nobody had ever handled the signal, but the terminal has its cursor back."""
    console.show_cursor()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def _bars(this_run: Run) -> Iterator[Callable[[], None]]:
    """Hands out the tick that brings the progress bars up to date."""
    with progress_bars(source.settings.id for source in this_run.sources) as update:

        def tick() -> None:
            for source in this_run.sources:
                counts = source.ledger.counts()
                settled = counts.captured - counts.in_flight
                update(source.settings.id, settled, source.length[0] if source.length else None)

        yield tick
        tick()


def _join(worker: Worker, tick: Callable[[], None]) -> None:
    while worker.is_alive():
        worker.join(REFRESH_S)
        tick()


def _summary(this_run: Run, broken_off: FramewireError | None) -> dict[str, object]:
    settings = this_run.settings
    outputs = {name: getattr(settings, name) for name in ("jsonl", "video", "summary")}
    for sink in this_run.sinks:
        if isinstance(sink, ZmqSink):
            outputs[sink.name] = sink.bound_endpoint
    return summarise(
        this_run.report,
        {source.settings.id: source.ledger.counts() for source in this_run.sources},
        {sink.name: sink.counts() for sink in this_run.sinks},
        this_run.queues(),
        this_run.pipeline.models,
        {name: str(place) for name, place in outputs.items() if place},
        broken_off,
    )


def _make_source(
    source: SourceSettings, settings: Settings, live: bool, bell: threading.Condition
) -> Source:
    """A live source drops its oldest frame when the queue is full; files wait."""
    ledger = Ledger()
    queue: BoundedQueue[StreamItem] = BoundedQueue(
        depth=source.queue_depth or (DEPTH_OF_LIVE if live else DEPTH_OF_FILES),
        max_bytes=_queue_bytes(settings),
        when_full=source.when_full or ("drop_oldest" if live else "block"),
        size_of=lambda item: item.image_hwc.nbytes if isinstance(item, Frame) else 0,
        may_drop=lambda item: isinstance(item, Frame),
        on_drop=lambda item: ledger.dropped(_frame_index(item), "queue_full"),
        bell=bell,
    )
    return Source(source, queue, ledger)


def _frame_index(item: StreamItem) -> int:
    if not isinstance(item, Frame):
        raise InternalError(f"only frames may be dropped, not {item!r}")
    return item.frame_index


def _make_sinks(settings: Settings, stop: threading.Event) -> list[Sink]:
    """Files first: what is on disk is safe before anybody hears of it."""
    sinks: list[Sink] = []
    if settings.jsonl:
        sinks.append(JsonlSink(settings.jsonl))
    if settings.video:
        sinks.append(VideoSink(settings.video, n_sources=len(settings.sources)))
    if settings.zmq:
        sinks.append(ZmqSink(settings.zmq, settings.zmq_subscribers, stop=stop))
    return sinks


def _queue_bytes(settings: Settings) -> int:
    return int(settings.max_queue_megabytes * 1e6)
