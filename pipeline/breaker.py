"""What happens when the models keep failing: they are loaded again, with ever longer waits."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from contracts.errors import FilterFailed, InferenceError, ModelUnavailable
from contracts.frame import Frame, fail
from contracts.messages import FrameFailure, FrameResult
from pipeline.assemble import CLASSIFIER_FAILED, CLASSIFIER_TIMEOUT
from pipeline.contain import Crops, InferenceHealth, without_trace

if TYPE_CHECKING:
    from pipeline.inference import Pipeline

FAILING_BATCHES = 3
"""So many batches in a row of which no frame has a result, or no crop a label, are no accident."""

WAITS_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Before each attempt to load the models again; the last one is that of all further ones."""

CURABLE = (InferenceError.code, FilterFailed.code)
"""What models that are loaded again may be rid of."""

log = logging.getLogger("framewire.pipeline")


class _Part:
    """Whether one part of the models keeps failing, and when they are loaded again for it."""

    def __init__(self, waits_s: Sequence[float]) -> None:
        self._waits_s = waits_s
        self._failing = 0
        self._attempts = 0
        self.reason = ""
        self.retry_at_s: float | None = None

    @property
    def keeps_failing(self) -> bool:
        return self._failing >= FAILING_BATCHES

    @property
    def tried_all_waits(self) -> bool:
        return self._attempts >= len(self._waits_s)

    def works(self) -> None:
        self._failing = self._attempts = 0
        self.retry_at_s = None

    def fails(self, reason: str, curable: bool) -> None:
        """One batch more. `curable`: loading it again may help."""
        self._failing += 1
        self.reason = reason
        if self.keeps_failing and curable and self.retry_at_s is None:
            self._wait()

    def is_loaded_again(self) -> None:
        """One more batch that fails is enough to open it again."""
        self._attempts += 1
        self._failing = FAILING_BATCHES - 1
        self.retry_at_s = None

    def can_not_be_loaded(self, reason: str) -> None:
        self._attempts += 1
        self.reason = reason
        self._wait()

    def _wait(self) -> None:
        wait_s = self._waits_s[min(self._attempts, len(self._waits_s) - 1)]
        self.retry_at_s = time.monotonic() + wait_s
        log.error(
            "%s: the models keep failing and are loaded again in %g s: %s",
            *(ModelUnavailable.code, wait_s, self.reason),
        )


class Breaker:
    """Used by the inference thread only. Opens when the models keep raising, until they are loaded
    again; then the next batch decides whether it opens again.

    While it is open, frames of live sources fail at once (`model_unavailable`): later they would be
    worth nothing. A file's are left in their queue, or it would fail from end to end in seconds;
    but after an attempt for each of the waits they fail too, so that a job ends.

    Where only the classifier keeps failing, the models are loaded again at the same times, but
    meanwhile no frame is refused: what is detected leaves without labels.

    Memory that runs out and outputs that break the contract open nothing, as models that are loaded
    again would do the same. But they too make the thread not ready.
    """

    def __init__(
        self,
        rebuild: Callable[[], "Pipeline"],
        health: InferenceHealth,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self._rebuild = rebuild
        self._health = health
        self._frames = _Part(waits_s)
        self._crops = _Part(waits_s)
        self._failed_before = ""
        self._was_late = False

    @property
    def retry_at_s(self) -> float | None:
        """When the models are loaded again (monotonic clock); None while nothing asks for it."""
        return min((part.retry_at_s for part in self._waiting if part.retry_at_s), default=None)

    @property
    def refuses(self) -> bool:
        """True while it is open: frames are not looked at."""
        return self._frames.retry_at_s is not None

    @property
    def holds_files(self) -> bool:
        """True while a source that can wait is left waiting."""
        return self.refuses and not self._frames.tried_all_waits

    def refuse(self, frame: Frame) -> FrameFailure:
        """What is said of a frame that comes while it is open."""
        reason = self._frames.reason
        return fail(frame, ModelUnavailable(f"the models are to be loaded again: {reason}"))

    def saw(self, messages: Sequence[FrameResult | FrameFailure], crops: Crops) -> None:
        """Takes into account what came of a batch, and of its crops."""
        failures = [message for message in messages if isinstance(message, FrameFailure)]
        if len(failures) < len(messages):
            self._frames.works()
        else:
            curable = any(failure.code in CURABLE for failure in failures)
            self._frames.fails(f"{failures[-1].code}: {failures[-1].message}", curable)
        self._saw_crops(crops)
        self._tell()

    def _saw_crops(self, crops: Crops) -> None:
        """A batch of which no crop was looked at tells nothing of the classifier."""
        if crops.late and not self._was_late:
            self._was_late = True
            total = crops.classified + crops.failed + crops.late
            log.warning(
                "%s: no time for %d of a batch's %d crops; further ones are only counted",
                *(CLASSIFIER_TIMEOUT, crops.late, total),
            )
        if not crops.classified and not crops.error:
            return
        reason = f"{CLASSIFIER_FAILED}: {crops.error}" if crops.error else ""
        if reason and reason != self._failed_before:
            log.error(reason)
        elif self._failed_before and not reason:
            log.info("no %s any more", CLASSIFIER_FAILED)
        self._failed_before = reason
        if crops.classified:
            self._crops.works()
        elif crops.error:
            self._crops.fails(reason, crops.error.code == InferenceError.code)

    def _tell(self) -> None:
        reasons = [part.reason for part in (self._frames, self._crops) if part.keeps_failing]
        if reasons:
            self._health.fails(*reasons)
        else:
            self._health.works()

    @property
    def _waiting(self) -> list[_Part]:
        return [part for part in (self._frames, self._crops) if part.retry_at_s is not None]

    def mended(self, pipeline: "Pipeline") -> "Pipeline":
        """The pipeline, with its models loaded again where that is due and can be done."""
        if self.retry_at_s is None or time.monotonic() < self.retry_at_s:
            return pipeline
        self._health.count("rebuilds")
        waiting = self._waiting
        try:
            with self._health.busy():
                fresh = self._rebuild()
        except Exception as error:
            for part in waiting:
                part.can_not_be_loaded(str(without_trace(error)))
            self._tell()
            return pipeline
        for part in waiting:
            part.is_loaded_again()
        self._tell()
        log.warning("the models are loaded again")
        return fresh.instead_of(pipeline)
