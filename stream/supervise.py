"""The supervisor thread: it opens every source, watches it, and opens it again when it is lost.

It calls no library that could hang: those run on the capture threads, one a connection.
"""

import math
import threading
import time
from collections.abc import Callable

from contracts.errors import BadSetting
from contracts.messages import SourceStatus
from stream.lifecycle import Lifecycle


class Supervisor:
    """`run` is the supervisor thread's; everything else may be called by any thread."""

    def __init__(self, keep_open: bool = False) -> None:
        """`keep_open`: it goes on without any source, until `stop`."""
        self._keep_open = keep_open
        self._lifecycles: dict[str, Lifecycle] = {}
        self._stopping = False
        self._rung = False
        self._bell = threading.Condition()

    def run(self) -> None:
        """Every source has been read to its end, or was stopped; each has said its `SourceEnd`.

        Where it raises, which only a defect makes it do, every source ends without one.
        """
        try:
            while (lifecycles := self._to_step()) is not None:
                due_s = min((one.step(time.monotonic()) for one in lifecycles), default=math.inf)
                with self._bell:
                    wait_s = None if due_s == math.inf else max(due_s - time.monotonic(), 0.0)
                    self._bell.wait_for(lambda: self._rung, wait_s)
        finally:
            self._leave_nobody_waiting()

    def ring(self) -> None:
        """Something has happened to a source: the supervisor looks at once."""
        with self._bell:
            self._rung = True
            self._bell.notify_all()

    def add(self, lifecycle: Lifecycle) -> None:
        """The source is connected soon. BadSetting: one of its name runs, or all is stopping."""
        name = lifecycle.feed.source.id
        with self._bell:
            if self._stopping:
                raise BadSetting(f"source {name}: can't be added any more, the run ends")
            if name in self._lifecycles and not self._lifecycles[name].over:
                raise BadSetting(f"source {name}: already there (there is: {self._names()})")
            self._lifecycles.pop(name, None)
            self._lifecycles[name] = lifecycle
        self.ring()

    def pause(self, source_id: str) -> None:
        """Nothing of the source is looked at: a live one's frames are dropped, a file waits."""
        self._with(source_id, Lifecycle.pause)

    def resume(self, source_id: str) -> None:
        """It is looked at again."""
        self._with(source_id, Lifecycle.resume)

    def remove(self, source_id: str) -> None:
        """It ends as if it had been stopped, with its `SourceEnd`, and is forgotten after that."""
        self._with(source_id, lambda lifecycle: lifecycle.ask_to_stop(forget=True))

    def stop(self) -> None:
        """Every source ends; what was read is still delivered."""
        with self._bell:
            self._stopping = True
            for lifecycle in self._lifecycles.values():
                lifecycle.ask_to_stop()
        self.ring()

    def statuses(self) -> list[SourceStatus]:
        """Of every source, in the order in which they came."""
        with self._bell:
            lifecycles = list(self._lifecycles.values())
        return [lifecycle.status() for lifecycle in lifecycles]

    def _to_step(self) -> list[Lifecycle] | None:
        """All sources; None when there is nothing left to wait for, and nothing can come."""
        with self._bell:
            self._rung = False
            for name in [name for name, one in self._lifecycles.items() if one.forgotten]:
                del self._lifecycles[name]
            more_may_come = self._keep_open and not self._stopping
            if not more_may_come and all(one.over for one in self._lifecycles.values()):
                self._stopping = True
                return None
            return list(self._lifecycles.values())

    def _with(self, source_id: str, act: Callable[[Lifecycle], None]) -> None:
        with self._bell:
            if source_id not in self._lifecycles:
                raise BadSetting(f"source {source_id}: no such source (there is: {self._names()})")
            act(self._lifecycles[source_id])
        self.ring()

    def _names(self) -> str:
        return ", ".join(self._lifecycles) or "none"

    def _leave_nobody_waiting(self) -> None:
        with self._bell:
            self._stopping = True
            for lifecycle in self._lifecycles.values():
                lifecycle.break_off()
