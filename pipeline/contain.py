"""What a failing model may cost: no frame but those that it fails on, even alone.

A step that raises is tried again, on halves where memory ran out and else on one item at a time. It
must have no memory of what it was shown: tracker and carried labels stay outside, and go on once,
with what came of it.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from contracts.errors import InferenceError, OutOfMemory
from pipeline.runtime.failure import is_out_of_memory

Item = TypeVar("Item")
Made = TypeVar("Made")

log = logging.getLogger("framewire.pipeline")


@dataclasses.dataclass(frozen=True, slots=True)
class Crops:
    """What came of the crops of one batch."""

    classified: int = 0
    failed: int = 0
    late: int = 0
    """There was no time for them."""
    error: InferenceError | None = None
    """Of the last one that failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """How the inference thread is at one moment."""

    ready: bool = False
    reasons: tuple[str, ...] = ("starting",)
    """Why it isn't ready."""
    busy_since_ns: int | None = None
    """When what the models are doing began (monotonic clock); None while they do nothing."""
    batches: int = 0
    oom_events: int = 0
    """How often memory ran out."""
    retries: int = 0
    """Calls of a model that were made again, on fewer frames or crops."""
    rebuilds: int = 0
    """How often the models were loaded again because they kept failing."""
    crops: Crops = Crops()
    """Of the last batch."""


class InferenceHealth:
    """Written by the inference thread only; any thread may read `now`, which belongs together."""

    def __init__(self) -> None:
        self.now = Health()

    def works(self) -> None:
        """It is ready."""
        self.now = dataclasses.replace(self.now, ready=True, reasons=())

    def fails(self, *reasons: str) -> None:
        """It is not ready, and why."""
        self.now = dataclasses.replace(self.now, ready=False, reasons=reasons)

    def saw_crops(self, crops: Crops) -> None:
        """What came of a batch's."""
        self.now = dataclasses.replace(self.now, crops=crops)

    def count(self, name: str) -> None:
        """One more of `batches`, `oom_events`, `retries` or `rebuilds`."""
        more = {name: getattr(self.now, name) + 1}
        self.now = dataclasses.replace(self.now, **more)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Inside, the models are at work, and a thread that watches can see for how long."""
        self.now = dataclasses.replace(self.now, busy_since_ns=time.monotonic_ns())
        try:
            yield
        finally:
            self.now = dataclasses.replace(self.now, busy_since_ns=None)


def contain(
    step: Callable[[Sequence[Item]], Sequence[Made]],
    items: Sequence[Item],
    health: InferenceHealth,
) -> Sequence[Made | InferenceError]:
    """What the step makes of each item, in their order; the error where it fails even alone."""
    if not items:
        return []
    made = _attempt(step, items, health)
    if not isinstance(made, InferenceError):
        return made
    if not isinstance(made, OutOfMemory):
        return [_alone(step, item, health) for item in items]
    if len(items) == 1:
        return [made]
    half = len(items) // 2
    outcome: list[Made | InferenceError] = []
    for part in (items[:half], items[half:]):
        health.count("retries")
        outcome += contain(step, part, health)
    return outcome


def without_trace(error: Exception) -> InferenceError:
    """An InferenceError that says the same, and holds on to nothing.

    A traceback keeps all tensors that were alive in the model when it raised: what is tried again
    would find no more memory than before.
    """
    log.debug("", exc_info=error)
    if isinstance(error, InferenceError):
        return type(error)(str(error))
    kind = OutOfMemory if is_out_of_memory(error) else InferenceError
    return kind(f"{getattr(error, 'code', type(error).__name__)}: {error}")


def _attempt(
    step: Callable[[Sequence[Item]], Sequence[Made]],
    items: Sequence[Item],
    health: InferenceHealth,
) -> Sequence[Made] | InferenceError:
    try:
        made = step(items)
    except Exception as error:
        failure = without_trace(error)
        if isinstance(failure, OutOfMemory):
            health.count("oom_events")
        return failure
    if len(made) != len(items):
        return InferenceError(f"the model gave {len(made)} answers for {len(items)} questions")
    return made


def _alone(
    step: Callable[[Sequence[Item]], Sequence[Made]], item: Item, health: InferenceHealth
) -> Made | InferenceError:
    health.count("retries")
    made = _attempt(step, [item], health)
    return made if isinstance(made, InferenceError) else made[0]
