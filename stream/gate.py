"""Which packets of a live stream are decoded; those that are not are told one by one."""

import bisect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stream.decode import Decoder
from stream.reader import Latent, Skip, Skipped, Unreadable

if TYPE_CHECKING:
    from av import Packet

LONGEST_WAIT_FRAMES = 500


class Gate:
    """Stands before a decoder, owned by the thread that reads. `skip` may change at every packet.

    What the decoder can't make sense of is not decoded either: a stream that is joined in the
    middle begins at its first keyframe, and so does one that goes on after `nonkey`. Frames that
    are shown before that keyframe, though they come after it, need what was before, and are left
    out too. A stream that is refreshed bit by bit may have no keyframe: after 500 frames it is
    decoded as it comes.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._waits = True
        self._n_waited = 0
        self._keyframe_s: float | None = None
        self._undecided_s: list[float] = []

    def decode(self, packet: "Packet[Any]", skip: Skip) -> Iterator[Latent | Unreadable | Skipped]:
        """What becomes of this packet, and of earlier ones of which it hadn't been told."""
        pts_s = self._decoder.seconds(packet.pts)
        if skip == "nonkey":
            yield from self._decode_key(packet, pts_s)
        elif self._is_left_out(packet, pts_s):
            yield Skipped(pts_s)
        else:
            self._decoder.context.skip_frame = "NONREF" if skip == "nonref" else "DEFAULT"
            yield from self._decode(packet, pts_s, skip)

    def finish(self) -> Iterator[Latent | Unreadable | Skipped]:
        """What the decoder holds back, at the end or before a gap."""
        for reading in self._decoder.restart():
            yield from self._with_those_before(reading)
        yield from self._left_out_before(float("inf"))
        self._waits, self._n_waited = True, 0

    def _decode_key(
        self, packet: "Packet[Any]", pts_s: float | None
    ) -> Iterator[Latent | Unreadable | Skipped]:
        """A keyframe at once, however many frames the decoder would hold back; no other one."""
        if not self._waits:
            yield from self.finish()
        if not packet.is_keyframe:
            yield Skipped(pts_s)
            return
        self._decoder.context.skip_frame = "DEFAULT"
        yield from self._decode(packet, pts_s, "nonkey")
        yield from self.finish()

    def _decode(
        self, packet: "Packet[Any]", pts_s: float | None, skip: Skip
    ) -> Iterator[Latent | Unreadable | Skipped]:
        """With `nonref`, a packet that gives no frame is held back or left out: the next frame's
        time tells which.
        """
        if skip == "nonref" and pts_s is not None:
            bisect.insort(self._undecided_s, pts_s)
        n_readings = 0
        for reading in self._decoder.decode(packet):
            n_readings += 1
            if isinstance(reading, Unreadable) and reading.pts_s is None:
                reading = Unreadable(reading.error, pts_s)
            yield from self._with_those_before(reading)
        if skip == "nonref" and pts_s is None and n_readings == 0:
            yield Skipped()

    def _is_left_out(self, packet: "Packet[Any]", pts_s: float | None) -> bool:
        if self._waits:
            if not packet.is_keyframe and self._n_waited < LONGEST_WAIT_FRAMES:
                self._n_waited += 1
                return True
            self._waits = False
            self._keyframe_s = pts_s
            return False
        if self._keyframe_s is None or pts_s is None or packet.is_keyframe:
            return False
        if pts_s < self._keyframe_s:
            return True
        self._keyframe_s = None
        return False

    def _with_those_before(
        self, reading: Latent | Unreadable
    ) -> Iterator[Latent | Unreadable | Skipped]:
        """The decoder gives frames in the order of their times: what is earlier will not come."""
        if isinstance(reading, Latent):
            yield from self._left_out_before(reading.pts_s)
        if reading.pts_s in self._undecided_s:
            self._undecided_s.remove(reading.pts_s)
        yield reading

    def _left_out_before(self, pts_s: float | None) -> Iterator[Skipped]:
        while pts_s is not None and self._undecided_s and self._undecided_s[0] < pts_s:
            yield Skipped(self._undecided_s.pop(0))
