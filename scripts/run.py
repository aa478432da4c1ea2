"""`framewire run`: one run from its settings to its summary and its exit status."""

import functools
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from contracts.errors import FramewireError
from contracts.secrets import resolve_secrets
from contracts.settings import Settings
from pipeline.assemble import CLASSIFIER_FAILED
from pipeline.load import load_pipeline
from scripts.console import console, progress_bars
from scripts.report import check_writable, show, summarise, write_summary
from scripts.wiring import Run
from sinks.zmq import ZmqSink
from stream.source import identify

log = logging.getLogger("framewire")


def run(settings: Settings) -> int:
    """The run has ended, its summary is shown and written; the exit status.

    Raises the FramewireError that kept it from starting, or that broke it off.
    """
    stop = threading.Event()
    with stop_on_signals(stop):
        for source in settings.sources:
            identify(resolve_secrets(source.uri))
        if settings.summary:
            check_writable(settings.summary)
        this_run = Run(settings, functools.partial(load_pipeline, settings), stop)
        broken_off = _execute(this_run)
    tell(this_run, broken_off)
    if broken_off:
        raise broken_off
    return _conclude(this_run)


def tell(this_run: Run, broken_off: FramewireError | None) -> None:
    """The summary is shown, and written where that was asked for. Raises OutputUnwritable."""
    summary = _summary(this_run, broken_off)
    show(summary, console)
    if this_run.settings.summary:
        write_summary(summary, this_run.settings.summary)


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
    # They have results, but not what was asked for.
    if without_labels := this_run.report.degraded[CLASSIFIER_FAILED]:
        failed[CLASSIFIER_FAILED] = without_labels
    for feed in this_run.feeds.values():
        failed.update(feed.ledger.counts().failed)
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
    with progress_bars(this_run.feeds) as update:

        def tick() -> None:
            for name, feed in this_run.feeds.items():
                counts = feed.ledger.counts()
                settled = counts.captured - counts.in_flight
                update(name, settled, this_run.lengths.get(name))

        yield tick
        tick()


def _summary(this_run: Run, broken_off: FramewireError | None) -> dict[str, object]:
    settings = this_run.settings
    outputs = {name: getattr(settings, name) for name in ("jsonl", "video", "summary")}
    for sink in this_run.sinks:
        if isinstance(sink, ZmqSink):
            outputs[sink.name] = sink.bound_endpoint
    return summarise(
        this_run.report,
        {name: feed.ledger.counts() for name, feed in this_run.feeds.items()},
        {sink.name: sink.counts() for sink in this_run.sinks},
        this_run.queues(),
        this_run.pipeline.models,
        {name: str(place) for name, place in outputs.items() if place},
        broken_off,
    )
