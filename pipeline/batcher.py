"""Gathers frames of every source into batches, fairly and without waiting for the slow ones."""

import threading
import time
from collections.abc import Sequence
from typing import Protocol

from contracts.frame import Frame, StreamItem


class FrameQueue(Protocol):
    """What the batcher needs of a source's queue."""

    def take_nowait(self) -> StreamItem | None:
        """The oldest item, or None when there is none at this moment."""
        ...

    @property
    def closed_and_empty(self) -> bool:
        """True when nothing will come any more."""
        ...


class Batcher:
    """Used by the inference thread only. The queues share one `bell` that rings at each change."""

    def __init__(
        self,
        queues: Sequence[FrameQueue],
        bell: threading.Condition,
        max_batch: int,
        max_wait_ms: float,
        max_bytes: int,
    ) -> None:
        self._queues = list(queues)
        self._bell = bell
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1e3
        self._max_bytes = max_bytes
        self._next = 0

    def gather(self) -> list[StreamItem]:
        """The next items in each source's order; empty when every source has ended.

        Waits for a first item as long as it takes. Once there is a frame, waits until `max_batch`
        frames or `max_bytes` of pixels are there (one frame more may pass it), `max_wait_ms` are
        over, or nothing more can come. Failures and ends travel along in their place.
        """
        items: list[StreamItem] = []
        with self._bell:
            self._bell.wait_for(lambda: self._collect(items) or self._ended)
            deadline_s = time.monotonic() + self._max_wait_s
            while self._wants_more(items) and not self._ended:
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0 or not self._bell.wait(remaining_s):
                    break
                self._collect(items)
        return items

    @property
    def _ended(self) -> bool:
        return all(queue.closed_and_empty for queue in self._queues)

    def _collect(self, items: list[StreamItem]) -> bool:
        """Takes one item of each source in turn until all are empty or the batch is full.

        The turn goes on where the last batch left off, so no source is always the last.
        """
        empty = 0
        while empty < len(self._queues) and (not items or self._wants_more(items)):
            item = self._queues[self._next].take_nowait()
            self._next = (self._next + 1) % len(self._queues)
            empty = 0 if item else empty + 1
            if item:
                items.append(item)
        return bool(items)

    def _wants_more(self, items: list[StreamItem]) -> bool:
        """True when there are frames in the batch, and room for more of them."""
        frames = [item for item in items if isinstance(item, Frame)]
        n_bytes = sum(frame.image_hwc.nbytes for frame in frames)
        return 0 < len(frames) < self._max_batch and n_bytes < self._max_bytes
