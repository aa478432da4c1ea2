"""The wiring: readers → queues → inference → outbox → sinks, with one thread for each arrow's head.

                    a thread a source     inference thread          sink thread
    readers ──────► capture ──► queue ──► run_inference ──► outbox ──► deliver ──► sinks

Threads meet at the queues only. A normal end flows downstream: a source ends, its queue is closed
and drained, the last one closes the outbox. A failure flows upstream: a thread that ends abandons
the queue in front of it, so whoever fills that queue ends too, and nothing hangs.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping, Sequence

from contracts.errors import FramewireError, InternalError
from contracts.frame import Delivery, Frame, StreamItem
from contracts.ledger import Ledger
from contracts.settings import Settings, SourceSettings
from pipeline.batcher import Batcher
from pipeline.inference import Pipeline, run_inference
from scripts.report import Report
from scripts.worker import Worker
from sinks.deliver import deliver
from sinks.jsonl import JsonlSink
from sinks.sink import Sink
from sinks.video import VideoSink
from sinks.zmq import ZmqSink
from stream.capture import capture
from stream.queue import BoundedQueue, QueueClosed, QueueCounts
from stream.reader import Reader
from stream.source import SourceKind, open_reader

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


def _join(worker: Worker, tick: Callable[[], None]) -> None:
    while worker.is_alive():
        worker.join(REFRESH_S)
        tick()
