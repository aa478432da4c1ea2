"""One picture that somebody waits for: what travels from the service to the inference thread."""

import dataclasses
from collections.abc import Callable

from contracts.frame import Frame
from contracts.messages import FrameFailure, FrameResult

UPLOAD = "upload"
"""The source id of every upload's frame."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of one picture, where that differs from what holds for all."""

    min_score: float | None = None
    max_detections: int | None = None
    classify: bool = True


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Upload:
    """A picture, what is asked of it, and who waits.

    The frame's pixels are its own: before `reply` is called, safety filters may have blurred them
    in place, so that whoever draws on them shows nothing that must not be seen.

    `reply` is called once at most, by the inference thread, and must not wait. It isn't called for
    an upload whose `deadline_ns` (monotonic clock) has passed, or that nobody waits for any more:
    that one is not run.
    """

    frame: Frame
    wishes: Wishes
    deadline_ns: int
    reply: Callable[[FrameResult | FrameFailure], None]
    gone: Callable[[], bool]

    @property
    def n_bytes(self) -> int:
        """Of pixels."""
        return self.frame.n_bytes
