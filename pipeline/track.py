"""Which detections of a source are the same object: ByteTrack, one tracker a source.

The tracker is that of the `trackers` library. It goes by media time where the stream has it, so
that a dropped frame or a variable frame rate is no jump to it, and begins anew where media time
does: the library leaves every frame out until a time that stepped back has caught up. An object
gets its `track_id` with its second detection; until then, and where the tracker is not sure,
`track_id` is None. Ids are never shared between two sources, and a source that starts again starts
with new ones.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import supervision
from trackers import ByteTrackTracker

from contracts.frame import Frame
from contracts.messages import Detection

LOST_FOR_S = 1.0
"""An object that is not seen for longer is forgotten."""

LEAP_S = 60.0
"""Media time that is farther ahead than this of the last frame's is another time, not a gap."""

NOMINAL_RATE_HZ = 30
"""Frames a second where the stream has no media time. The monotonic clock is none for it: a folder
of pictures is read in bursts, and as fast as the machine can."""

log = logging.getLogger("framewire.pipeline")


class Tracks:
    """Used by the inference thread only, frame by frame in the order of each source."""

    def __init__(self, min_score: float) -> None:
        """Only detections of `min_score` or more begin a track; lower ones may carry one on."""
        self._min_score = min_score
        self._sources: dict[str, _SourceTracks] = {}
        self._next_id = itertools.count()

    def follow(self, frame: Frame, detections: Sequence[Detection]) -> list[Detection]:
        """The same detections in the same order, with `track_id` where the object is known."""
        tracks = self._sources.get(frame.source_id)
        if tracks is None or frame.frame_index == 0 or not tracks.goes_on_at(frame):
            tracks = _SourceTracks(self._min_score, self._next_id)
            self._sources[frame.source_id] = tracks
        try:
            return tracks.follow(frame, detections)
        except Exception:
            # What a tracker knows that broke off in the middle can't be trusted any more.
            self.forget(frame.source_id)
            raise

    def forget(self, source_id: str) -> None:
        """The source has ended, or its objects can't be followed on; the next ones are new."""
        self._sources.pop(source_id, None)


class _SourceTracks:
    """The tracker of one source, and our ids for its tracks: unique in the whole run."""

    def __init__(self, min_score: float, next_id: Iterator[int]) -> None:
        # The library counts its buffer in frames at 30 a second, whatever the stream's own rate.
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(LOST_FOR_S * NOMINAL_RATE_HZ),
            track_activation_threshold=min_score,
            high_conf_det_threshold=min_score,
        )
        self._next_id = next_id
        self._ids: dict[int, int] = {}
        self._last_index = 0
        self._last_s = 0.0

    def goes_on_at(self, frame: Frame) -> bool:
        """True when the frame's time is later than the last one's, and not by a leap."""
        step_s = self._time_s(frame) - self._last_s
        if 0 < step_s <= LEAP_S:
            return True
        log.warning(
            "%s: time_jump of %+.3f s at frame %d: its tracks begin anew",
            *(frame.source_id, step_s, frame.frame_index),
        )
        return False

    def _time_s(self, frame: Frame) -> float:
        """Media time, or where the frame has none, so many frames after the last one's."""
        if frame.pts_s is not None:
            return frame.pts_s
        return self._last_s + (frame.frame_index - self._last_index) / NOMINAL_RATE_HZ

    def follow(self, frame: Frame, detections: Sequence[Detection]) -> list[Detection]:
        now_s = self._time_s(frame)
        self._last_index, self._last_s = frame.frame_index, now_s
        found = self._tracker.update(_for_the_library(detections), timestamp=now_s)
        alive = {track.tracker_id for track in self._tracker.tracks}
        self._ids = {
            library_id: ours for library_id, ours in self._ids.items() if library_id in alive
        }
        followed = list(detections)
        for position, library_id in _known(found):
            if library_id not in self._ids:
                self._ids[library_id] = next(self._next_id)
            update = {"track_id": self._ids[library_id]}
            followed[position] = followed[position].model_copy(update=update)
        return followed


def _known(found: supervision.Detections) -> list[tuple[int, int]]:
    """(position among the detections, the library's track id) of those that have one."""
    if found.tracker_id is None or len(found) == 0:
        return []
    pairs = zip(found.data["position"], found.tracker_id, strict=True)
    return [(int(position), int(library_id)) for position, library_id in pairs if library_id >= 0]


def _for_the_library(detections: Sequence[Detection]) -> supervision.Detections:
    return supervision.Detections(
        xyxy=np.array([d.box for d in detections], np.float32).reshape(-1, 4),
        confidence=np.array([d.score for d in detections], np.float32),
        data={"position": np.arange(len(detections))},
    )
