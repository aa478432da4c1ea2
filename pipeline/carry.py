"""What is carried along a track, so that an object is not classified and read in every frame."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from contracts.errors import InferenceError
from contracts.frame import Frame
from contracts.messages import Detection

Made = TypeVar("Made")

CHANGED_BY = 1.25
"""A box whose width or height has changed by this factor since shows the object anew."""

FORGET_AFTER_FRAMES = 300
"""A track that no frame of its source has shown for longer is forgotten."""


@dataclasses.dataclass(eq=False)
class CarriedLabel(Generic[Made]):
    """One label, a class or lines of text, made or on its way.

    It is read from that frame, and from a box of that size.
    """

    frame_index: int
    width_px: float
    height_px: float
    label: Made | InferenceError | None = None
    """None until the model has spoken, and where there was no time for it; the error where it
    could not."""

    @property
    def is_made(self) -> bool:
        """True when the model has spoken."""
        return not (self.label is None or isinstance(self.label, InferenceError))


class Carried(Generic[Made]):
    """The latest label of each track. Used by the inference thread only.

    A label is made again when its object is new or has no track, when the box has changed by
    `CHANGED_BY`, and every `every_n_frames`. With `every_n_frames` = 1 it is in every frame.
    """

    def __init__(self, every_n_frames: int) -> None:
        self._every_n_frames = every_n_frames
        self._known: dict[tuple[str, int], CarriedLabel[Made]] = {}
        self._asked_at: dict[tuple[str, int], int] = {}

    def label_for(self, frame: Frame, detection: Detection) -> tuple[CarriedLabel[Made], bool]:
        """The label that goes with this detection, and True where it has to be made."""
        x1, y1, x2, y2 = detection.box
        fresh: CarriedLabel[Made] = CarriedLabel(frame.frame_index, x2 - x1, y2 - y1)
        if detection.track_id is None:
            return fresh, True
        key = (frame.source_id, detection.track_id)
        self._asked_at[key] = frame.frame_index
        known = self._known.get(key)
        if known and not self._is_due(known, fresh):
            return known, False
        self._known[key] = fresh
        return fresh, True

    def begin_batch(self, frames: Sequence[Frame]) -> None:
        """Labels that could not be made are gone, and those of tracks that nobody has asked for.

        That is, not in the last `FORGET_AFTER_FRAMES` frames of their source, or since it started
        again. How long a label may be carried (`every_n_frames`) has no part in it.
        """
        newest = {frame.source_id: frame.frame_index for frame in frames}
        self._known = {
            key: carried
            for key, carried in self._known.items()
            if carried.is_made and self._is_asked_for(key, newest)
        }
        self._asked_at = {key: self._asked_at[key] for key in self._known}

    def forget(self, source_id: str) -> None:
        """The source has ended; a later one of its name has other objects."""
        self._known = {key: one for key, one in self._known.items() if key[0] != source_id}
        self._asked_at = {key: self._asked_at[key] for key in self._known}

    def _is_asked_for(self, key: tuple[str, int], newest: Mapping[str, int]) -> bool:
        asked_at = self._asked_at[key]
        return 0 <= newest.get(key[0], asked_at) - asked_at <= FORGET_AFTER_FRAMES

    def _is_due(self, known: CarriedLabel[Made], now: CarriedLabel[Made]) -> bool:
        if not 0 <= now.frame_index - known.frame_index < self._every_n_frames:
            return True
        ratios = (now.width_px / known.width_px, now.height_px / known.height_px)
        return any(not 1 / CHANGED_BY < ratio < CHANGED_BY for ratio in ratios)
