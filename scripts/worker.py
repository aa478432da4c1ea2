"""A thread that hands its exception over instead of printing it and dying alone."""

import threading
from collections.abc import Callable


class Worker(threading.Thread):
    """Runs `work`; whatever happens, `cleanup` runs after it on the same thread.

    `failure` holds what `work` raised, once the thread has ended. A daemon, so that a thread stuck
    inside a library can't keep the process from ending; the wiring joins it all the same.
    """

    def __init__(
        self, name: str, work: Callable[[], None], cleanup: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(name=f"framewire-{name}", daemon=True)
        self._work = work
        self._cleanup = cleanup
        self.failure: BaseException | None = None

    def run(self) -> None:
        """The thread's whole life."""
        try:
            self._work()
        except BaseException as failure:
            self.failure = failure
        finally:
            self._cleanup()
