"""Which detections of a source are the same object: ByteTrack, one tracker a source.

The tracker is that of the `trackers` library. It goes by media time where the stream has it, so
that a dropped frame or a variable frame rate is no jump to it. An object gets its `track_id` with
its second detection; until then, and where the tracker is not sure, `track_id` is None. Ids are
never shared between two sources, and a source that starts again starts with new ones.
"""

import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import supervision
from trackers import ByteTrackTracker

from contracts.frame import Frame
from contracts.messages import Detection

LOST_FOR_S = 1.0
"""An object that is not seen for longer is forgotten."""


class Tracks:
    """Used by the inference thread only, frame by frame in the order of each source."""

    def __init__(self, tracked: Collection[str], min_score: float) -> None:
        """Follows the sources of the ids in `tracked`, and leaves the others as they are.

        Only detections of `min_score` or more begin a track; lower ones may carry one on.
        """
        self._tracked = tracked
        self._min_score = min_score
        self._sources: dict[str, _SourceTracks] = {}
        self._next_id = itertools.count()

    def follow(self, frame: Frame, detections: Sequence[Detection]) -> list[Detection]:
        """The same detections in the same order, with `track_id` where the object is known."""
        if frame.source_id not in self._tracked:
            return list(detections)
        if frame.source_id not in self._sources or frame.frame_index == 0:
            self._sources[frame.source_id] = _SourceTracks(self._min_score, self._next_id)
        return self._sources[frame.source_id].follow(frame, detections)


class _SourceTracks:
    """The tracker of one source, and our ids for its tracks: unique in the whole run."""

    def __init__(self, min_score: float, next_id: Iterator[int]) -> None:
        # The library counts its buffer in frames at 30 a second, whatever the stream's own rate.
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(LOST_FOR_S * 30),
            track_activation_threshold=min_score,
            high_conf_det_threshold=min_score,
        )
        self._next_id = next_id
        self._ids: dict[int, int] = {}

    def follow(self, frame: Frame, detections: Sequence[Detection]) -> list[Detection]:
        found = self._tracker.update(_for_the_library(detections), timestamp=frame.pts_s)
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
