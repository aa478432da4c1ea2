"""Pictures that somebody waits for, on their way to the inference thread."""

import threading
import time
from collections import Counter, deque

from contracts.errors import Overloaded
from contracts.messages import FrameFailure, FrameResult
from contracts.upload import Upload


class Uploads:
    """A bounded queue that refuses when it is full: whoever waits is told at once.

    accepted = answered + failed + expired + abandoned + waiting + running, at every moment. An
    upload whose deadline has passed, or that nobody waits for any more, is not run.

    It shares its `bell` with the batcher's queues, and is used by any thread; `take_nowait` and
    `settle` by the inference thread only.
    """

    def __init__(self, depth: int, bell: threading.Condition) -> None:
        self._depth = depth
        self._bell = bell
        self._waiting: deque[Upload] = deque()
        self._coming = 0
        self._running = 0
        self._counts = Counter(accepted=0, answered=0, failed=0, expired=0, abandoned=0)

    def announce(self) -> None:
        """One is on its way: a batch that begins now waits for it a little. Then `offer` it, or
        `withdraw`.
        """
        with self._bell:
            self._coming += 1

    def withdraw(self) -> None:
        """One that was announced will not come."""
        with self._bell:
            self._coming -= 1
            self._bell.notify_all()

    def offer(self, upload: Upload) -> None:
        """One that was announced waits for its turn. Raises Overloaded; then it isn't accepted."""
        with self._bell:
            self._coming -= 1
            self._bell.notify_all()
            if len(self._waiting) >= self._depth:
                raise Overloaded(f"{self._depth} requests wait already")
            self._waiting.append(upload)
            self._counts["accepted"] += 1

    @property
    def waiting(self) -> bool:
        """True while one could be taken."""
        with self._bell:
            return bool(self._waiting)

    @property
    def coming(self) -> bool:
        """True while one is on its way."""
        with self._bell:
            return self._coming > 0

    def take_nowait(self) -> Upload | None:
        """The oldest that is still wanted, or None when there is none at this moment."""
        with self._bell:
            while self._waiting:
                upload = self._waiting.popleft()
                if why := _unwanted(upload):
                    self._counts[why] += 1
                    continue
                self._running += 1
                return upload
            return None

    def settle(self, upload: Upload, message: FrameResult | FrameFailure) -> None:
        """Whoever waits for the upload has its answer, unless it came too late."""
        why = _unwanted(upload)
        with self._bell:
            self._running -= 1
            failed = isinstance(message, FrameFailure)
            self._counts[why or ("failed" if failed else "answered")] += 1
        if not why:
            upload.reply(message)

    def counts(self) -> dict[str, int]:
        """A snapshot that adds up."""
        with self._bell:
            return {**self._counts, "waiting": len(self._waiting), "running": self._running}


def _unwanted(upload: Upload) -> str | None:
    if upload.gone():
        return "abandoned"
    return "expired" if time.monotonic_ns() >= upload.deadline_ns else None
