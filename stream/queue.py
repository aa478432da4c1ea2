"""The one way in which threads of framewire meet: a bounded queue that says what it does when full.

`block`: the thread that puts waits for room. `drop_oldest`: the camera does not wait for us, so the
oldest item that may be dropped gives way to the newer one, and is counted. Only an item that may be
dropped itself makes another one drop; a failure waits for room instead. What becomes of a source is
put over the bounds: it takes no frame's place, so that its end does not cost it its last frame.
"""

import dataclasses
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from contracts.settings import WhenFull

T = TypeVar("T")


class QueueClosed(Exception):
    """Nothing can be put any more: the queue was closed, or its consumer has gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class QueueCounts:
    """A snapshot that balances: put = taken + dropped + held."""

    put: int
    taken: int
    dropped: int
    held: int
    n_bytes: int
    """Bytes held, as `size_of` measures them."""
    high_water: int
    """The most items that were ever held at once."""


class _Held(NamedTuple, Generic[T]):
    item: T
    size: int
    over: bool
    """Put over: it takes up no place, and stays until it is taken."""


class BoundedQueue(Generic[T]):
    """First in, first out, for any number of threads on both sides; all waits are woken, not timed.

    It holds at most `depth` items, and at most `max_bytes` of what `size_of` measures, but always
    takes one item, however large. An item of no bytes is held back by `depth` only, and what is
    `put_over` by nothing.

    `on_drop` gets each dropped item, on the thread that put the newer one, and inside the lock: who
    takes that newer item finds the drop on the books. It must not wait for anything that a user of
    this queue may hold.

    `bell` is the lock and the signal: it rings at every change. Queues that share one let a thread
    wait for any of them: `with bell: bell.wait_for(lambda: any(len(q) for q in queues), timeout)`.
    It must be a `threading.Condition` with its default re-entrant lock.
    """

    def __init__(
        self,
        *,
        depth: int,
        max_bytes: int,
        when_full: WhenFull,
        size_of: Callable[[T], int],
        may_drop: Callable[[T], bool] = lambda _item: True,
        on_drop: Callable[[T], None] = lambda _item: None,
        bell: threading.Condition | None = None,
    ) -> None:
        self.depth = depth
        self.max_bytes = max_bytes
        self.when_full = when_full
        self.bell = bell or threading.Condition()
        self._size_of = size_of
        self._may_drop = may_drop
        self._on_drop = on_drop
        self._held: deque[_Held[T]] = deque()
        self._closed = False
        self._over = self._n_bytes = self._put = self._taken = self._dropped = self._high_water = 0

    def put(self, item: T) -> None:
        """The item is in the queue. Waits for room as the policy says; raises `QueueClosed`."""
        size = self._size_of(item)
        with self.bell:
            while (positions := self._in_the_way(item, size)) is None:
                self.bell.wait()
            dropped = [self._remove(position) for position in reversed(positions)]
            for old in reversed(dropped):
                self._on_drop(old)
            self._append(_Held(item, size, over=False))
            self._dropped += len(dropped)
            self.bell.notify_all()

    def put_over(self, item: T) -> None:
        """The item is in the queue at once, however full it is; raises `QueueClosed`.

        For the little that must never wait, never be dropped and never be in a frame's place: what
        becomes of a source.
        """
        with self.bell:
            if self._closed:
                raise QueueClosed
            self._append(_Held(item, self._size_of(item), over=True))
            self.bell.notify_all()

    def take(self, timeout_s: float | None = None) -> T | None:
        """The oldest item, waited for. None: `timeout_s` is over, or nothing will come any more.

        `closed_and_empty` tells the two apart, and stays true once it is true.
        """
        with self.bell:
            self.bell.wait_for(lambda: self._held or self._closed, timeout_s)
            return self.take_nowait()

    def take_nowait(self) -> T | None:
        """The oldest item, or None when the queue is empty at this moment."""
        with self.bell:
            if not self._held:
                return None
            item = self._remove(0)
            self._taken += 1
            self.bell.notify_all()
            return item

    def close(self) -> None:
        """Nothing can be put any more; what is held can still be taken. May be called twice."""
        with self.bell:
            self._closed = True
            self.bell.notify_all()

    def abandon(self) -> list[T]:
        """The consumer is gone. Hands back what was held, oldest first, counted as taken."""
        with self.bell:
            self._closed = True
            items = [self._remove(0) for _ in range(len(self._held))]
            self._taken += len(items)
            self.bell.notify_all()
            return items

    @property
    def closed(self) -> bool:
        """True when nothing can be put any more."""
        with self.bell:
            return self._closed

    @property
    def closed_and_empty(self) -> bool:
        """True when nothing is held and nothing will come any more."""
        with self.bell:
            return self._closed and not self._held

    def __len__(self) -> int:
        """Items held at this moment."""
        with self.bell:
            return len(self._held)

    def counts(self) -> QueueCounts:
        """Since the queue was made."""
        with self.bell:
            return QueueCounts(
                put=self._put,
                taken=self._taken,
                dropped=self._dropped,
                held=len(self._held),
                n_bytes=self._n_bytes,
                high_water=self._high_water,
            )

    def _in_the_way(self, item: T, size: int) -> list[int] | None:
        """Positions, ascending, that must be dropped for the item to fit. None: it has to wait."""
        if self._closed:
            raise QueueClosed
        n_items, n_bytes = len(self._held) - self._over, self._n_bytes
        positions: list[int] = []
        if self._fits(n_items, n_bytes, size):
            return positions
        if self.when_full == "block" or not self._may_drop(item):
            return None
        for position, old in enumerate(self._held):
            if not old.over and self._may_drop(old.item):
                positions.append(position)
                n_items, n_bytes = n_items - 1, n_bytes - old.size
                if self._fits(n_items, n_bytes, size):
                    return positions
        return None

    def _fits(self, n_items: int, n_bytes: int, size: int) -> bool:
        room = n_bytes == 0 or size == 0 or n_bytes + size <= self.max_bytes
        return n_items < self.depth and room

    def _append(self, held: _Held[T]) -> None:
        self._held.append(held)
        self._over += held.over
        self._n_bytes += held.size
        self._put += 1
        self._high_water = max(self._high_water, len(self._held))

    def _remove(self, position: int) -> T:
        held = self._held[position]
        del self._held[position]
        self._over -= held.over
        self._n_bytes -= held.size
        return held.item
