"""What travels between the threads of one process: frames in, deliveries out."""

import dataclasses
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from contracts.errors import FramewireError
from contracts.messages import AnyMessage, FrameFailure, SourceEnd, SourceEvent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ImageHWC = NDArray[np.uint8]


def new_trace_id() -> str:
    """32 hexadecimal digits, the form of a W3C trace id."""
    return uuid.uuid4().hex


@dataclasses.dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Captured:
    """Which frame of which source this is, and when it came. Three clocks, which never mix.

    `pts_s` is media time: the stream's own presentation time in seconds, None where it has none.
    `captured_at` is wall-clock time in UTC, `captured_ns` the monotonic clock in nanoseconds; both
    are stamped after the read returned. `decode_ms` is what reading, decoding and converting cost;
    of a live source the thread's own time, without its wait for the frame to be taken.
    `sent_at` is the camera's own wall clock when it took the picture, None where it doesn't say.
    `lag_s` is how much later it came than the stream's own clock has it; 0 where nobody knows.
    """

    source_id: str
    frame_index: int
    image_id: str
    pts_s: float | None
    captured_at: datetime
    captured_ns: int
    decode_ms: float
    lag_s: float = 0.0
    sent_at: datetime | None = None
    trace_id: str = dataclasses.field(default_factory=new_trace_id)
    degraded: tuple[str, ...] = ()

    def stamp(self) -> dict[str, Any]:
        """These fields by name, for another form of the same frame."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Captured)}


@dataclasses.dataclass(frozen=True, eq=False, slots=True, kw_only=True, repr=False)
class Frame(Captured):
    """One decoded picture.

    `image_hwc` is (height, width, 3) uint8 RGB, C-contiguous, upright (rotation already applied).
    """

    image_hwc: "ImageHWC"

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.image_hwc.shape[0])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.image_hwc.shape[1])

    @property
    def n_bytes(self) -> int:
        """Of pixels."""
        return int(self.image_hwc.nbytes)

    def __repr__(self) -> str:
        """Shape and times, not pixels."""
        return (
            f"Frame({self.source_id}#{self.frame_index}, {self.width}×{self.height}, "
            f"pts_s={self.pts_s}, captured_at={self.captured_at:%H:%M:%S.%f})"
        )


@dataclasses.dataclass(frozen=True, eq=False, slots=True, kw_only=True, repr=False)
class LatentFrame(Captured):
    """A picture as the decoder left it: whoever takes it from the queue has it converted.

    A live source's frame may be dropped while it waits; one that is costs no conversion.
    """

    n_bytes: int
    """Of pixels, once converted."""
    pixels: "Callable[[], ImageHWC]"
    """Makes `Frame.image_hwc`. Called once at most, on any thread. Raises SourceError."""

    def develop(self) -> Frame:
        """The frame with its pixels; the conversion counts as decoding. Raises SourceError."""
        started_ns = time.monotonic_ns()
        image_hwc = self.pixels()
        spent_ms = (time.monotonic_ns() - started_ns) / 1e6
        return Frame(**self.stamp() | {"decode_ms": self.decode_ms + spent_ms}, image_hwc=image_hwc)

    def __repr__(self) -> str:
        """Whose it is and when it came, not pixels."""
        return f"LatentFrame({self.source_id}#{self.frame_index}, pts_s={self.pts_s})"


StreamItem = Frame | LatentFrame | FrameFailure | SourceEvent | SourceEnd
"""What a source's queue carries: frames, frames that could not be had, what becomes of the source,
and its end."""


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Delivery:
    """One message for the sinks, with its pixels where there are any.

    `assembled_ns` is the monotonic clock when the message was ready to leave.
    """

    message: AnyMessage
    frame: Frame | None = None
    assembled_ns: int = dataclasses.field(default_factory=time.monotonic_ns)

    @property
    def n_bytes(self) -> int:
        """What a queue that holds this keeps in memory, in bytes of pixels."""
        return 0 if self.frame is None else self.frame.n_bytes


def fail(frame: Captured, error: FramewireError) -> FrameFailure:
    """The message for a frame that has no result."""
    return FrameFailure(
        source_id=frame.source_id,
        frame_index=frame.frame_index,
        image_id=frame.image_id,
        pts_s=frame.pts_s,
        captured_at=frame.captured_at,
        trace_id=frame.trace_id,
        code=error.code,
        message=str(error),
    )


def still_frame(
    image_hwc: "ImageHWC", source_id: str, image_id: str, frame_index: int = 0
) -> Frame:
    """A frame of no stream, captured now."""
    return Frame(
        source_id=source_id,
        frame_index=frame_index,
        image_id=image_id,
        pts_s=None,
        captured_at=utc_now(),
        captured_ns=time.monotonic_ns(),
        decode_ms=0.0,
        image_hwc=image_hwc,
    )


def utc_now() -> datetime:
    """Wall-clock time. For durations take `time.monotonic_ns()`."""
    return datetime.now(UTC)
