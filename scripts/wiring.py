"""The wiring: readers → queues → inference → outbox → sinks, with one thread for each arrow's head.

      a thread a connection              inference thread          sink thread
    readers ──────► feed ──► queue ──► run_inference ──► outbox ──► deliver ──► sinks
        ▲
    supervisor thread: opens every source, watches it, and opens it again when it is lost

Threads meet at the queues only. A normal end flows downstream: a source ends, its queue is closed
and drained, the last one closes the outbox. A failure flows upstream: a thread that ends abandons
the queue in front of it, so whoever fills that queue ends too, and nothing hangs.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence

from contracts.errors import BadSetting, FramewireError, InferenceHung, InternalError
from contracts.frame import Captured, Delivery, Frame, LatentFrame, StreamItem, utc_now
from contracts.ledger import Ledger
from contracts.messages import Status
from contracts.secrets import resolve_secrets
from contracts.settings import Settings, SourceSettings
from pipeline.batcher import Batcher
from pipeline.breaker import Breaker
from pipeline.inference import Pipeline, run_inference
from pipeline.uploads import Uploads
from scripts.report import Report
from scripts.worker import Worker
from sinks.deliver import deliver
from sinks.jsonl import JsonlSink
from sinks.sink import Sink
from sinks.video import VideoSink
from sinks.zmq import ZmqSink
from sinks.zmq_catchup import Catchup, Window
from sinks.zmq_curve import Curve
from stream.feed import Feed
from stream.lifecycle import Lifecycle
from stream.queue import BoundedQueue, QueueClosed, QueueCounts
from stream.reader import Reader, ReaderOptions
from stream.source import is_live, open_reader
from stream.supervise import Supervisor

DEPTH_OF_FILES = 16
DEPTH_OF_LIVE = 2
REFRESH_S = 0.1

log = logging.getLogger("framewire")


class Run:
    """One run from start to summary. Made and executed by the main thread.

    `add`, and what `supervisor` offers, may be called by any thread while it executes.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Pipeline],
        stop: threading.Event,
        *,
        keep_open: bool = False,
        uploads_depth: int = 0,
    ) -> None:
        """`load` makes the models ready: now, and again where they keep failing. `stop`, set from
        anywhere, ends the reading. Raises BadSetting, SourceNotFound, ModelError.

        `keep_open`: it goes on without any source, until it is stopped. `uploads_depth`: so many
        single pictures may wait for the models.
        """
        self.settings = settings
        self.pipeline = load()
        self._load = load
        self.stop = stop
        self.report = Report()
        self.supervisor = Supervisor(keep_open)
        self.feeds: dict[str, Feed] = {}
        self.lengths: dict[str, int] = {}
        """Frames that a file's container claims, once it is open; for the progress bar only."""
        self.sinks = _make_sinks(settings, self.stop)
        self._started_at = utc_now()
        self._ledgers: dict[str, Ledger] = {}
        self._adding = threading.Lock()
        self._bell = threading.Condition()
        self._max_bytes = int(settings.max_queue_megabytes * 1e6)
        self._outbox: BoundedQueue[Delivery] = BoundedQueue(
            depth=2 * settings.max_batch,
            max_bytes=self._max_bytes,
            when_full="block",
            size_of=lambda delivery: delivery.n_bytes,
        )
        self.uploads = Uploads(uploads_depth, self._bell)
        self._batcher = Batcher(
            self._bell,
            settings.max_batch,
            settings.max_wait_ms,
            self._max_bytes,
            self._dropped,
            self.uploads,
        )
        for source in settings.sources:
            self.add(source)

    def add(self, source: SourceSettings) -> None:
        """The source's frames are read from now on. Raises BadSetting, SourceNotFound.

        One that ended makes room for another of its name once its end was delivered.
        """
        live = is_live(resolve_secrets(source.uri), source.realtime)
        view = self.pipeline.view_of(source)
        with self._adding:
            if source.id in self.feeds and source.id not in self.report.ends:
                raise BadSetting(f"source {source.id}: there is one of this name already")
            ledger = Ledger()
            queue = self._make_queue(source, live, ledger)
            feed = Feed(source, live, queue, ledger, self.settings.max_frames)
            opening = functools.partial(self._open, source)
            self.report.ends.pop(source.id, None)
            self._ledgers[source.id] = ledger
            self.feeds[source.id] = feed
            self.pipeline.views[source.id] = view
            self._batcher.add(source.id, queue, feed.max_age_s)
            try:
                self.supervisor.add(Lifecycle(feed, opening, self.supervisor.ring))
            except BadSetting:
                queue.close()
                raise

    def execute(self, tick: Callable[[], None] = lambda: None) -> None:
        """Every frame is accounted for. `tick` is called about ten times a second meanwhile.

        Raises what broke the run off: a SinkError, InferenceHung, or InternalError for a defect.
        """
        opened = threading.Event()
        sinks = Worker("sinks", lambda: self._deliver(opened.set), self._sinks_ended)
        sinks.start()
        while sinks.is_alive() and not opened.wait(REFRESH_S):
            tick()
        workers = [*self._readers(), sinks] if opened.is_set() else [sinks]
        if self.stop.is_set():
            self.supervisor.stop()
        self.report.start()
        for worker in workers[:-1]:
            worker.start()
        self._join(workers, tick)
        self._raise_failures([sinks, *workers[:-1]])

    @property
    def captured(self) -> int:
        """Frames of all sources so far."""
        return sum(feed.ledger.counts().captured for feed in self.feeds.values())

    def queues(self) -> dict[str, QueueCounts]:
        """What went through each queue: the sources', by id, and the one to the sinks."""
        counts = {name: feed.queue.counts() for name, feed in self.feeds.items()}
        return {**counts, "outbox": self._outbox.counts()}

    def status(self) -> Status:
        """The whole process at this moment."""
        health = self.pipeline.health.now
        return Status(
            at=utc_now(),
            started_at=self._started_at,
            ready=health.ready,
            reasons=health.reasons,
            models=self.pipeline.models,
            sources=tuple(self.supervisor.statuses()),
        )

    def _readers(self) -> list[Worker]:
        """The supervisor and the inference thread, in flow order."""
        return [
            Worker("supervisor", self.supervisor.run, self._batcher.close),
            Worker("inference", self._infer, self._inference_ended),
        ]

    def _infer(self) -> None:
        breaker = Breaker(self._load, self.pipeline.health)
        run_inference(self._batcher, self.pipeline, self._outbox, self._drops_before, breaker)

    def _drops_before(self, source_id: str, frame_index: int) -> dict[str, int]:
        return self._ledgers[source_id].drops_before(frame_index)

    def _dropped(self, frame: Captured, reason: str) -> None:
        self._ledgers[frame.source_id].dropped(frame.frame_index, reason)

    def _deliver(self, opened: Callable[[], None]) -> None:
        deliver(self._outbox, self.sinks, self._ledgers, self.report.observe, opened, self.status)

    def _sinks_ended(self) -> None:
        """Nobody takes messages any more."""
        self._outbox.abandon()

    def _inference_ended(self) -> None:
        """Nobody takes frames any more."""
        for feed in list(self.feeds.values()):
            feed.queue.abandon()
        self.supervisor.stop()

    def _open(self, source: SourceSettings, stop: threading.Event) -> Reader:
        """The open source, as its settings say; on the capture thread."""
        options = ReaderOptions(
            max_frame_pixels=int(self.settings.max_frame_megapixels * 1e6),
            open_timeout_s=source.open_timeout_s,
            read_timeout_s=source.stall_timeout_s,
            transport=source.transport,
            hwaccel=source.hwaccel,
            ffmpeg_options=source.ffmpeg_options,
            realtime=source.realtime,
            loop=source.loop,
            stop=stop,
        )
        reader = open_reader(resolve_secrets(source.uri), options)
        if claimed := reader.frame_count_hint:
            self.lengths[source.id] = min(claimed, self.settings.max_frames or claimed)
        return reader

    def _make_queue(
        self, source: SourceSettings, live: bool, ledger: Ledger
    ) -> BoundedQueue[StreamItem]:
        """A live source drops its oldest frame when the queue is full; files wait."""
        return BoundedQueue(
            depth=source.queue_depth or (DEPTH_OF_LIVE if live else DEPTH_OF_FILES),
            max_bytes=self._max_bytes,
            when_full=source.when_full or ("drop_oldest" if live else "block"),
            size_of=lambda item: item.n_bytes if isinstance(item, Frame | LatentFrame) else 0,
            may_drop=lambda item: isinstance(item, Frame | LatentFrame),
            on_drop=lambda item: ledger.dropped(_frame_index(item), "queue_full"),
            bell=self._bell,
        )

    def _join(self, workers: Sequence[Worker], tick: Callable[[], None]) -> None:
        """All have ended. Raises InferenceHung where the inference thread is past waiting for."""
        for worker in workers:
            while worker.is_alive():
                worker.join(REFRESH_S)
                tick()
                if self.stop.is_set():
                    self.supervisor.stop()
                self._watch_inference(workers)

    def _watch_inference(self, workers: Sequence[Worker]) -> None:
        """Raises InferenceHung once all others have ended, so that what was delivered is whole.

        The thread itself can't be ended: it is left behind, and the process has to end.
        """
        since_ns = self.pipeline.health.now.busy_since_ns
        busy_s = 0.0 if since_ns is None else (time.monotonic_ns() - since_ns) / 1e9
        if busy_s <= self.settings.inference_timeout_s:
            return
        hung = InferenceHung(
            f"the models have not answered for {busy_s:.0f} s; "
            f"inference_timeout_s is {self.settings.inference_timeout_s:g}"
        )
        log.critical("%s: %s", hung.code, hung)
        self._inference_ended()
        self._outbox.close()
        supervisor, _inference, sinks = workers
        supervisor.join()
        sinks.join()
        self._settle_in_flight(hung)
        raise hung

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
        self._settle_in_flight(cause)
        raise cause from failures[0]

    def _settle_in_flight(self, cause: FramewireError) -> None:
        for feed in self.feeds.values():
            feed.ledger.fail_all_in_flight(cause.code)


def _frame_index(item: StreamItem) -> int:
    if not isinstance(item, Frame | LatentFrame):
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
        sinks.append(
            ZmqSink(
                settings.zmq,
                settings.zmq_subscribers,
                max_message_bytes=int(settings.zmq_max_message_megabytes * 1e6),
                catchup=_make_catchup(settings),
                curve=_make_curve(settings),
                stop=stop,
            )
        )
    return sinks


def _make_catchup(settings: Settings) -> Catchup | None:
    if not settings.zmq_catchup:
        return None
    max_bytes = int(settings.zmq_catchup_megabytes * 1e6)
    return Catchup(settings.zmq_catchup, Window(settings.zmq_catchup_s, max_bytes))


def _make_curve(settings: Settings) -> Curve | None:
    if not settings.zmq_key or not settings.zmq_allowed:
        return None
    return Curve(settings.zmq_key, settings.zmq_allowed)
