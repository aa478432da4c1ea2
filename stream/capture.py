"""From a reader to a queue: each frame gets its number and its times, and the ledger learns of it.

Who settles what: this thread calls only `ledger.captured`, and `ledger.dropped` for a frame that no
consumer is left to take (`shutdown`). The queue's `on_drop` settles `queue_full`; all the rest is
settled by the thread that delivers.
"""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator

from contracts.errors import FramewireError, InternalError, SourceError
from contracts.frame import Frame, StreamItem, new_trace_id, utc_now
from contracts.ledger import Ledger
from contracts.messages import FrameFailure, SourceEnd
from contracts.settings import SourceSettings
from stream.queue import BoundedQueue, QueueClosed
from stream.reader import Picture, Reader, Reading, Unreadable

log = logging.getLogger("framewire.stream")


def capture(
    source: SourceSettings,
    open_reader: Callable[[], Reader],
    queue: BoundedQueue[StreamItem],
    ledger: Ledger,
    stop: threading.Event,
    max_frames: int | None = None,
) -> None:
    """Run by the capture thread of one source: every frame of it is in the queue, then its end.

    `frame_index` counts from 0 without gaps and counts frames that could not be had too. Reading
    stops at `max_frames` of them, at `stop`, at the end of the source, or when the consumer has
    abandoned the queue. A `SourceError` that breaks an opened source off is one more captured
    frame, which failed; a source that can't be opened has no frames. Both put the code into the
    `SourceEnd`, whose ledger is that of this moment, with frames still in flight.

    Always leaves the reader closed and the queue closed. An exception that is not a
    `FramewireError` ends the source with `internal_error` and is raised again.
    """
    end: FramewireError | None = None
    try:
        end = _read_source(source.id, open_reader, queue, ledger, stop, max_frames)
    except QueueClosed:
        log.info("%s: nobody takes frames any more", source.id)
    except Exception as defect:
        end = InternalError(f"{type(defect).__name__}: {defect}")
        log.exception("%s: %s", source.id, end.code)
        raise
    finally:
        with contextlib.suppress(QueueClosed):
            queue.put(_source_end(source.id, end, ledger))
        queue.close()


def _read_source(
    source_id: str,
    open_reader: Callable[[], Reader],
    queue: BoundedQueue[StreamItem],
    ledger: Ledger,
    stop: threading.Event,
    max_frames: int | None,
) -> FramewireError | None:
    """Opens, reads and closes the source; returns what broke it off, None where nothing did."""
    try:
        reader = open_reader()
    except FramewireError as error:
        _log_error(source_id, error)
        return error
    with contextlib.closing(reader):
        readings = reader.pictures()
        for frame_index in itertools.count() if max_frames is None else range(max_frames):
            if stop.is_set():
                return None
            started_ns = time.monotonic_ns()
            reading, end = _next(readings)
            if reading is None:
                return None
            _hand_over(_stamp(reading, source_id, frame_index, started_ns), queue, ledger)
            if end is not None:
                return end
    return None


def _next(readings: Iterator[Reading]) -> tuple[Reading | None, SourceError | None]:
    """One reading, None at the end of the source; and the error that broke the source off."""
    try:
        return next(readings, None), None
    except SourceError as error:
        return error, error


def _stamp(
    reading: Reading, source_id: str, frame_index: int, started_ns: int
) -> Frame | FrameFailure:
    """The reading with its number, its name and its times; called as soon as the read returned."""
    captured_at, captured_ns = utc_now(), time.monotonic_ns()
    if isinstance(reading, SourceError):
        reading = Unreadable(reading)
    image_id = reading.image_id or f"{source_id}/{frame_index}"
    if isinstance(reading, Picture):
        return Frame(
            source_id=source_id,
            frame_index=frame_index,
            image_id=image_id,
            image_hwc=reading.image_hwc,
            pts_s=reading.pts_s,
            captured_at=captured_at,
            captured_ns=captured_ns,
            decode_ms=(captured_ns - started_ns) / 1e6,
            degraded=reading.degraded,
        )
    _log_error(f"{source_id}#{frame_index}", reading.error)
    return FrameFailure(
        source_id=source_id,
        frame_index=frame_index,
        image_id=image_id,
        pts_s=reading.pts_s,
        captured_at=captured_at,
        trace_id=new_trace_id(),
        code=reading.error.code,
        message=str(reading.error),
    )


def _hand_over(item: Frame | FrameFailure, queue: BoundedQueue[StreamItem], ledger: Ledger) -> None:
    """The frame is in the ledger and in the queue, or settled as dropped at the shutdown."""
    ledger.captured(item.frame_index)
    try:
        queue.put(item)
    except QueueClosed:
        ledger.dropped(item.frame_index, "shutdown")
        raise


def _source_end(source_id: str, error: FramewireError | None, ledger: Ledger) -> SourceEnd:
    return SourceEnd(
        source_id=source_id,
        ended_at=utc_now(),
        code=error.code if error else None,
        message=str(error) if error else "",
        ledger=ledger.counts(),
    )


def _log_error(who: str, error: FramewireError) -> None:
    log.warning("%s: %s: %s", who, error.code, error)
