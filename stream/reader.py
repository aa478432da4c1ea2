"""What every source looks like from the capture thread: an iterator of pictures and failures."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from contracts.errors import SourceError

if TYPE_CHECKING:
    from contracts.frame import ImageHWC


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


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Unreadable:
    """One frame that could not be had, for the reason that `error` names, and where it belongs."""

    error: SourceError
    pts_s: float | None = None
    image_id: str | None = None


Reading = Picture | Unreadable | SourceError
"""What one read gives. A bare `SourceError` is an `Unreadable` whose place nobody knows."""


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
