"""What travels between the threads of one process: frames in, deliveries out."""

import dataclasses
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from contracts.messages import FrameFailure, FrameResult, SourceEnd

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ImageHWC = NDArray[np.uint8]


def new_trace_id() -> str:
    """32 hexadecimal digits, the form of a W3C trace id."""
    return uuid.uuid4().hex


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One decoded picture and when it came. Three clocks, which never mix.

    `image_hwc` is (height, width, 3) uint8 RGB, C-contiguous, upright (rotation already applied).
    `pts_s` is media time: the stream's own presentation time in seconds, None where it has none.
    `captured_at` is wall-clock time in UTC, `captured_ns` the monotonic clock in nanoseconds; both
    are stamped after the read returned. `decode_ms` is what reading, decoding and converting cost.
    """

    source_id: str
    frame_index: int
    image_id: str
    image_hwc: "ImageHWC"
    pts_s: float | None
    captured_at: datetime
    captured_ns: int
    decode_ms: float
    trace_id: str = dataclasses.field(default_factory=new_trace_id)
    degraded: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.image_hwc.shape[0])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.image_hwc.shape[1])

    def __repr__(self) -> str:
        """Shape and times, not pixels."""
        return (
            f"Frame({self.source_id}#{self.frame_index}, {self.width}×{self.height}, "
            f"pts_s={self.pts_s}, captured_at={self.captured_at:%H:%M:%S.%f})"
        )


StreamItem = Frame | FrameFailure | SourceEnd
"""What a source's queue carries: frames, frames that could not be decoded, and the source's end."""


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Delivery:
    """One message for the sinks, with its pixels where there are any. `frame` is None at an end."""

    message: FrameResult | FrameFailure | SourceEnd
    frame: Frame | None = None

    @property
    def n_bytes(self) -> int:
        """What a queue that holds this keeps in memory, in bytes of pixels."""
        return 0 if self.frame is None else int(self.frame.image_hwc.nbytes)


def utc_now() -> datetime:
    """Wall-clock time. For durations take `time.monotonic_ns()`."""
    return datetime.now(UTC)
