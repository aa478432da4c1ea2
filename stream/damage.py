"""Which pictures of a live stream may be damaged: those from a loss on, up to the next keyframe."""

import statistics
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import Packet

LONGEST_FRAMES = 500
STEPS_KEPT, STEPS_NEEDED = 25, 5
GAP = 1.5


class Damage:
    """Whether pictures may show a loss, packet by packet; owned by the thread that reads.

    The demuxer marks packets. Its mark may stand at the packet before the damaged one: FFmpeg's
    parser gives a frame out when the next one begins, with what it knows by then.

    The decoder marks the picture that it could not make whole, or refuses its packet (`found`). The
    pictures that are built upon that one it takes for whole.

    Where single packets can get lost (`lossy`), so may a whole frame. H.264's decoder then builds
    upon another picture and says nothing; only a gap in the times shows it. H.265's says it.

    A stream that is refreshed bit by bit may have no keyframe: after 500 frames it is whole again.

    Known limit: where a part of an H.265 frame is missing or wrong, its decoder mostly notices
    nothing, and nobody can tell. Over TCP no part goes missing.
    """

    def __init__(self, lossy: bool = False) -> None:
        self._gaps = Gaps() if lossy else None
        self._n_packets: int | None = None
        """Since the loss; None where nothing is missing."""

    def shows(self, packet: "Packet[Any]", dts_s: float | None) -> bool:
        """For each packet in turn, with its decoding time: what is decoded now is damaged."""
        gap = self._gaps is not None and self._gaps.before(dts_s)
        if packet.is_corrupt:
            self._n_packets = 0
        elif gap and not packet.is_keyframe:
            self.found()
        elif self._n_packets is not None:
            self._n_packets += 1
            renewed = packet.is_keyframe and self._n_packets > 1
            if renewed or self._n_packets > LONGEST_FRAMES:
                self._n_packets = None
        return self.stands

    @property
    def stands(self) -> bool:
        """What is decoded, or was held back, is damaged."""
        return self._n_packets is not None

    def found(self) -> None:
        """What was decoded of the last packet is damaged, and so is what is built upon it."""
        self._n_packets = 1


class Gaps:
    """Whether frames are missing before one, as a longer step in their times tells than is usual.

    What is usual are the latest 25 steps. Times that jump back or stand still tell nothing.
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._steps_s: deque[float] = deque(maxlen=STEPS_KEPT)

    def before(self, dts_s: float | None) -> bool:
        """For each frame in turn, in the order of decoding."""
        if dts_s is None:
            return False
        step_s = 0.0 if self._last_s is None else dts_s - self._last_s
        self._last_s = dts_s
        if step_s <= 0:
            return False
        known = len(self._steps_s) >= STEPS_NEEDED
        gap = known and step_s > GAP * statistics.median(self._steps_s)
        self._steps_s.append(step_s)
        return gap
