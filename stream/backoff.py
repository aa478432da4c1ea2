"""How long to wait before a lost source is opened again."""

import random

SLOW_CODES = frozenset({"auth_failed", "not_found", "unsupported_codec"})
"""What time alone does not heal: a person has to do something first."""
SLOWER = 10
STABLE_S = 60.0
"""A connection that gave frames for so long was a good one: its loss starts from the beginning."""


class Backoff:
    """Waits that double from `first_s` to `max_s`, each spread by a fifth.

    Sources that were lost together are not opened together. The slow codes wait ten times `max_s`.
    """

    def __init__(self, first_s: float, max_s: float, rng: random.Random | None = None) -> None:
        self._first_s = min(first_s, max_s)
        self._max_s = max_s
        self._rng = rng or random.Random()
        self._failures = 0

    def after(self, code: str, lived_s: float) -> float:
        """Seconds to wait after a connection that lived so long and ended with this code."""
        if lived_s >= STABLE_S:
            self._failures = 0
        # 2.0**1024 is no float any more; the wait has reached its limit long before.
        wait_s = min(self._first_s * 2.0 ** min(self._failures, 64), self._max_s)
        self._failures += 1
        if code in SLOW_CODES:
            wait_s = SLOWER * self._max_s
        return wait_s * self._rng.uniform(0.8, 1.0)
