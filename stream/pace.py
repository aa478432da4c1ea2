"""Frames of a recording at the speed at which they were taken."""

import threading
import time

TOO_LATE_S = 1.0


class Pace:
    """Keeps one reader's thread until a frame's own time has come. Belongs to that thread.

    The first frame is due at once, the others as far behind it as their times say. Whoever falls
    more than a second behind goes on from there, as a camera does that nobody waited for.
    """

    def __init__(self, stop: threading.Event, longest_wait_s: float = float("inf")) -> None:
        """`stop` ends a wait. A frame that is due later than `longest_wait_s` is due at once."""
        self._stop = stop
        self._longest_wait_s = longest_wait_s
        self._starts_s: float | None = None

    def wait_for(self, pts_s: float) -> float:
        """The frame's time has come, or `stop` is set. Returns by how much it is late."""
        if self._starts_s is not None:
            early_s = self._starts_s + pts_s - time.monotonic()
            if -TOO_LATE_S <= early_s <= self._longest_wait_s:
                self._stop.wait(max(early_s, 0.0))
                return max(-early_s, 0.0)
        self._starts_s = time.monotonic() - pts_s
        return 0.0
