"""What every source looks like from the capture thread: an iterator of pictures and failures."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from contracts.errors import SourceError

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

Transport = Literal["tcp", "udp"]
Skip = Literal["none", "nonref", "nonkey"]
"""Which frames a decoder leaves out: none, those that no other frame needs, all but keyframes."""

# `lag_s`, wherever it stands below: how much later the reading came than the stream's own clock has
# it, measured against the fastest of its time (stream/lag.py); 0 where nobody knows.


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """One decoded picture, before it has a number and a capture time.

    `image_hwc` is (height, width, 3) uint8 RGB, C-contiguous, upright (rotation already applied)
    and belongs to whoever receives it: no reader writes into it again. `pts_s` is the stream's own
    presentation time in seconds, None where it has none. `image_id` None: the source has no name
    for the picture. `degraded` holds codes, empty when the picture is whole.
    """

    image_hwc: "ImageHWC"
    pts_s: float | None = None
    image_id: str | None = None
    degraded: tuple[str, ...] = ()
    lag_s: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Latent:
    """One picture as the decoder left it: whoever needs its pixels has them developed.

    A frame that is dropped before that costs no conversion. `develop` gives what
    `Picture.image_hwc` is, or raises `DecodeError`. It is called once at most, on any thread, and
    also after the reader was closed. The other fields are as in `Picture`; `sent_at` is the
    camera's own wall clock when it took the picture, None where it doesn't say.
    """

    develop: "Callable[[], ImageHWC]"
    n_bytes: int
    """Of pixels, once developed."""
    pts_s: float | None = None
    image_id: str | None = None
    degraded: tuple[str, ...] = ()
    lag_s: float = 0.0
    sent_at: datetime | None = None


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Skipped:
    """One frame that was there and was not decoded, on purpose."""

    pts_s: float | None = None
    lag_s: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Unreadable:
    """One frame that could not be had, for the reason that `error` names, and where it belongs."""

    error: SourceError
    pts_s: float | None = None
    image_id: str | None = None
    lag_s: float = 0.0


Reading = Picture | Latent | Skipped | Unreadable | SourceError
"""What one read gives. A bare `SourceError` is an `Unreadable` whose place nobody knows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """How a source is opened and read. Each kind of source takes what concerns it."""

    max_frame_pixels: int
    open_timeout_s: float = 10.0
    """A network source is open, or has failed, after so long."""
    read_timeout_s: float = 5.0
    """A network source that sends nothing for so long is `Stalled`."""
    transport: Transport = "tcp"
    """What carries RTSP's media."""
    hwaccel: str = "none"
    """Decode a network source in hardware: `auto`, `none`, or FFmpeg's name of a device type."""
    ffmpeg_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """More options for FFmpeg's protocol and demuxer of a network source; these win."""
    realtime: bool = False
    """Play a video file at its own speed, as a camera would."""
    loop: bool = False
    """Play it again and again."""
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set from anywhere: a reader that waits for a frame's time to come ends at once."""


class Reader(Protocol):
    """An open source. One thread uses it: the one that opened it.

    An error **yielded** by `pictures` is one frame that could not be had; reading goes on after it.
    A `SourceError` **raised** by `pictures` ends the source. Plain exhaustion is a normal end.
    """

    @property
    def live(self) -> bool:
        """True when frames are lost unless they are read in time."""

    @property
    def frame_count_hint(self) -> int | None:
        """How many frames the source claims to hold. Often wrong: only for progress bars."""

    def pictures(self) -> Iterator[Reading]:
        """Every picture in presentation order, once. Closed with the generator or by `close`."""

    def close(self) -> None:
        """Nothing of the source is open any more. May be called twice, and after an error."""
