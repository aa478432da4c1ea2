"""Labels that are carried along a track, so that an object is not classified in every frame."""

import dataclasses
from collections.abc import Sequence

from contracts.frame import Frame
from contracts.messages import Detection
from pipeline.classify import Label

CHANGED_BY = 1.25
"""A box whose width or height has changed by this factor since shows the object anew."""

FORGET_AFTER_FRAMES = 300


@dataclasses.dataclass(eq=False)
class Reading:
    """One classification, made or on its way: of which frame, and of a box of which size."""

    frame_index: int
    width_px: float
    height_px: float
    label: Label | None = None
    """None until the classifier has spoken, which it has when the results are assembled."""


class Carried:
    """The latest reading of each track. Used by the inference thread only.

    A detection is read again when its object is new or has no track, when its box has changed by
    `CHANGED_BY`, and every `every_n_frames`. With `every_n_frames` = 1 every detection is read.
    """

    def __init__(self, every_n_frames: int) -> None:
        self._every_n_frames = every_n_frames
        self._readings: dict[tuple[str, int], Reading] = {}

    def reading_of(self, frame: Frame, detection: Detection) -> tuple[Reading, bool]:
        """The reading that speaks for this detection, and True where it has to be made."""
        key = None if detection.track_id is None else (frame.source_id, detection.track_id)
        known = self._readings.get(key) if key else None
        x1, y1, x2, y2 = detection.box
        if known and not self._is_due(known, frame.frame_index, x2 - x1, y2 - y1):
            return known, False
        reading = Reading(frame.frame_index, x2 - x1, y2 - y1)
        if key:
            self._readings[key] = reading
        return reading, True

    def begin_batch(self, frames: Sequence[Frame]) -> None:
        """Readings that were never made, and those nobody has asked for lately, are gone."""
        newest = {frame.source_id: frame.frame_index for frame in frames}
        keep = max(FORGET_AFTER_FRAMES, self._every_n_frames)
        self._readings = {
            (source_id, track_id): reading
            for (source_id, track_id), reading in self._readings.items()
            if reading.label is not None and newest.get(source_id, 0) - reading.frame_index <= keep
        }

    def _is_due(self, known: Reading, frame_index: int, width_px: float, height_px: float) -> bool:
        if not 0 <= frame_index - known.frame_index < self._every_n_frames:
            return True
        ratios = (width_px / known.width_px, height_px / known.height_px)
        return any(not 1 / CHANGED_BY < ratio < CHANGED_BY for ratio in ratios)
