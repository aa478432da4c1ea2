"""What happens when the models keep failing: they are loaded again, with ever longer waits."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from contracts.errors import InferenceError, ModelUnavailable
from contracts.frame import Frame
from contracts.messages import FrameFailure, FrameResult
from pipeline.assemble import fail
from pipeline.contain import InferenceHealth, without_trace

if TYPE_CHECKING:
    from pipeline.inference import Pipeline

FAILING_BATCHES = 3
"""So many batches in a row of which no frame has a result are no accident."""

WAITS_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Before each attempt to load the models again; the last one is that of all further ones."""

log = logging.getLogger("framewire.pipeline")


class Breaker:
    """Used by the inference thread only. Opens when the models keep raising, until they are loaded
    again; then the next batch decides whether it opens again.

    While it is open, frames of live sources fail at once (`model_unavailable`): later they would be
    worth nothing. A file's are left in their queue, or it would fail from end to end in seconds;
    but after an attempt for each of the waits they fail too, so that a job ends.

    Memory that runs out and outputs that break the contract open nothing, as models that are loaded
    again would do the same. But they too make the thread not ready.
    """

    def __init__(
        self,
        rebuild: Callable[[], "Pipeline"],
        health: InferenceHealth,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self.retry_at_s: float | None = None
        """When the models are loaded again (monotonic clock); None while it is closed."""
        self._rebuild = rebuild
        self._health = health
        self._waits_s = waits_s
        self._failing = 0
        self._attempts = 0
        self._reason = ""

    @property
    def holds_files(self) -> bool:
        """True while a source that can wait is left waiting."""
        return self.retry_at_s is not None and self._attempts < len(self._waits_s)

    def refuse(self, frame: Frame) -> FrameFailure:
        """What is said of a frame that comes while it is open."""
        return fail(frame, ModelUnavailable(f"the models are to be loaded again: {self._reason}"))

    def saw(self, messages: Sequence[FrameResult | FrameFailure]) -> None:
        """Takes into account what came of a batch."""
        failures = [message for message in messages if isinstance(message, FrameFailure)]
        if len(failures) < len(messages):
            self._failing = self._attempts = 0
            self._health.works()
            return
        self._failing += 1
        if self._failing >= FAILING_BATCHES:
            last = failures[-1]
            self._reason = f"{last.code}: {last.message}"
            self._health.fails(self._reason)
            if any(failure.code == InferenceError.code for failure in failures):
                self._open()

    def mended(self, pipeline: "Pipeline") -> "Pipeline":
        """The pipeline, with its models loaded again where that is due and can be done."""
        if self.retry_at_s is None or time.monotonic() < self.retry_at_s:
            return pipeline
        self._attempts += 1
        self._health.count("rebuilds")
        try:
            with self._health.busy():
                fresh = self._rebuild()
        except Exception as error:
            self._reason = str(without_trace(error))
            self._health.fails(self._reason)
            self._open()
            return pipeline
        self.retry_at_s = None
        # One more batch that fails is enough to open it again.
        self._failing = FAILING_BATCHES - 1
        self._health.works()
        log.warning("the models are loaded again")
        return fresh.instead_of(pipeline)

    def _open(self) -> None:
        wait_s = self._waits_s[min(self._attempts, len(self._waits_s) - 1)]
        self.retry_at_s = time.monotonic() + wait_s
        log.error(
            "%s: the models keep failing and are loaded again in %g s: %s",
            *(ModelUnavailable.code, wait_s, self._reason),
        )
