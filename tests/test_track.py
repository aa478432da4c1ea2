"""Objects keep their id while they are seen, and their label until it is time to look again."""

import dataclasses

import pytest
import torch

from contracts.frame import Frame
from contracts.messages import Classification, Detection, FrameResult
from contracts.settings import Settings
from pipeline.carry import CHANGED_BY, FORGET_AFTER_FRAMES, Carried
from pipeline.classify import Label
from pipeline.inference import Pipeline, infer
from pipeline.load import make_tracks
from pipeline.track import Tracks
from pipeline.view import View
from tests.frames import BrightnessClassifier, FixedDetector, frame, raw

Box = tuple[float, float, float, float]


def detection(box: Box, score: float = 0.9, track_id: int | None = None) -> Detection:
    return Detection(box=box, score=score, class_id=1, class_name="thing", track_id=track_id)


def moving(index: int, y: float = 10.0, speed: float = 3.0) -> Box:
    """A box of 40 × 40 that moves to the right."""
    return (10.0 + speed * index, y, 50.0 + speed * index, y + 40.0)


def at(index: int, source_id: str = "cam") -> Frame:
    return frame(index, source_id, size=(200, 400))


def ids(tracks: Tracks, index: int, *boxes: Box, source_id: str = "cam") -> list[int | None]:
    followed = tracks.follow(at(index, source_id), [detection(box) for box in boxes])
    return [item.track_id for item in followed]


def test_an_object_gets_an_id_with_its_second_detection_and_keeps_it() -> None:
    tracks = Tracks(0.5)
    seen = [ids(tracks, index, moving(index)) for index in range(10)]
    assert seen == [[None], *[[0]] * 9]


def test_two_objects_keep_their_own_ids_whatever_the_order_of_the_detections() -> None:
    tracks = Tracks(0.5)
    for index in range(3):
        upper, lower = ids(tracks, index, moving(index, 10), moving(index, 120))
    assert upper != lower
    assert ids(tracks, 3, moving(3, 120), moving(3, 10)) == [lower, upper]


def test_an_id_survives_a_short_occlusion_and_not_a_long_one() -> None:
    tracks = Tracks(0.5)
    for index in range(6):
        [known] = ids(tracks, index, moving(index))
    for index in range(6, 11):
        assert ids(tracks, index) == []
    assert ids(tracks, 11, moving(11)) == [known]
    for index in range(12, 40):
        ids(tracks, index)
    assert known not in [i for n in (40, 41, 42) for i in ids(tracks, n, moving(n - 30))]


def test_a_low_score_carries_a_track_on_and_begins_none() -> None:
    tracks = Tracks(0.5)
    for index in range(4):
        [known] = ids(tracks, index, moving(index))
    [faint] = tracks.follow(at(4), [detection(moving(4), score=0.2)])
    assert faint.track_id == known
    fresh = Tracks(0.5)
    for index in range(4):
        [item] = fresh.follow(at(index), [detection(moving(index), score=0.2)])
        assert item.track_id is None


def test_ids_are_never_shared_between_sources() -> None:
    tracks = Tracks(0.5)
    for index in range(3):
        [first] = ids(tracks, index, moving(index), source_id="a")
        [second] = ids(tracks, index, moving(index), source_id="b")
    assert None not in (first, second)
    assert first != second


def test_a_source_that_starts_again_has_new_tracks() -> None:
    tracks = Tracks(0.5)
    for index in range(3):
        [before] = ids(tracks, index, moving(index))
    assert ids(tracks, 0, moving(3)) == [None]
    [after] = ids(tracks, 1, moving(4))
    assert after is not None
    assert after != before


def ids_at(tracks: Tracks, *times: float | None) -> list[int | None]:
    """The ids of an object that stands still, in frames with these presentation times."""
    frames = [dataclasses.replace(at(index), pts_s=pts_s) for index, pts_s in enumerate(times)]
    return [tracks.follow(item, [detection(moving(0))])[0].track_id for item in frames]


@pytest.mark.parametrize(
    ("times", "expected", "jumps"),
    [
        ((0, 0.04, 0.08, 5.0, 0.0, 0.04, 0.08), [None, 0, 0, None, None, 1, 1], [4]),
        ((0, 0.04, 0.08, 1e6, 0.12, 0.16), [None, 0, 0, None, None, 1], [3, 4]),
        ((0, 0.04, 0.04, 0.08), [None, 0, None, 1], [2]),
        ((1e9, 1e9 + 0.04), [None, 0], []),
    ],
)
def test_where_media_time_jumps_tracks_begin_anew_and_one_line_says_so(
    times: tuple[float, ...],
    expected: list[int | None],
    jumps: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert ids_at(Tracks(0.5), *times) == expected
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(jumps)
    for line, index in zip(lines, jumps, strict=True):
        assert line.startswith("cam: time_jump of ")
        assert f"at frame {index}:" in line


def test_frames_without_media_time_are_followed_also_between_frames_that_have_it() -> None:
    assert ids_at(Tracks(0.5), None, None, None) == [None, 0, 0]
    assert ids_at(Tracks(0.5), 7.0, None, 7.1, None) == [None, 0, 0, 0]


def test_ids_do_not_pile_up() -> None:
    tracks = Tracks(0.5)
    for index in range(400):
        place = (index // 2 % 5) * 70.0  # A new object every other frame, far from the last one.
        ids(tracks, index, (place, 10.0, place + 40.0, 50.0))
    assert len(tracks._sources["cam"]._ids) < 60


def is_read(carried: Carried[Label], index: int, box: Box, track_id: int | None = 7) -> bool:
    """Whether the detection is due; if so it is read at once."""
    carried.begin_batch([at(index)])
    made, due = carried.label_for(at(index), detection(box, track_id=track_id))
    if due:
        made.label = Label(index, 0.9)
    return due


def test_a_tracked_object_is_read_when_it_appears_and_then_every_n_frames() -> None:
    carried: Carried[Label] = Carried(every_n_frames=5)
    due = [is_read(carried, index, moving(index)) for index in range(11)]
    assert [index for index, is_due in enumerate(due) if is_due] == [0, 5, 10]


def test_a_tracked_object_is_read_again_when_its_box_has_changed_much() -> None:
    carried: Carried[Label] = Carried(every_n_frames=100)
    assert is_read(carried, 0, (0.0, 0.0, 100.0, 100.0))
    assert not is_read(carried, 1, (0.0, 0.0, 100.0 * CHANGED_BY - 1, 100.0))
    assert is_read(carried, 2, (0.0, 0.0, 100.0 * CHANGED_BY + 1, 100.0))
    assert is_read(carried, 3, (0.0, 0.0, 126.0, 100.0 / CHANGED_BY - 1))


def test_an_object_without_a_track_is_always_read() -> None:
    carried: Carried[Label] = Carried(every_n_frames=100)
    assert all(is_read(carried, index, moving(0), track_id=None) for index in range(3))


def test_labels_that_nobody_asks_for_are_forgotten_however_long_one_may_be_carried() -> None:
    carried: Carried[Label] = Carried(every_n_frames=10**6)
    for track_id in range(50):
        is_read(carried, track_id, moving(0), track_id)
    carried.begin_batch([at(49 + FORGET_AFTER_FRAMES)])
    assert list(carried._known) == [("cam", 49)]
    carried.begin_batch([at(50 + FORGET_AFTER_FRAMES)])
    assert not carried._known
    assert not carried._asked_at


def test_a_label_that_is_asked_for_is_kept_as_long_as_one_may_be_carried() -> None:
    carried: Carried[Label] = Carried(every_n_frames=10**6)
    due = [is_read(carried, index, moving(0)) for index in range(0, 3000, FORGET_AFTER_FRAMES)]
    assert due == [True] + [False] * 9


def track_pipeline(detector: FixedDetector, every: int) -> tuple[Pipeline, BrightnessClassifier]:
    classifier = BrightnessClassifier()
    pipeline = Pipeline(
        detector,
        classifier,
        torch.device("cpu"),
        min_score=0.5,
        tracks=Tracks(0.5),
        carried=Carried(every),
        views={"cam": View(track=True)},
    )
    return pipeline, classifier


def results(pipeline: Pipeline, *indices: int) -> list[FrameResult]:
    made = infer(pipeline, [at(index) for index in indices])
    return [result for result in made if isinstance(result, FrameResult)]


def test_a_carried_label_says_which_frame_it_was_read_from() -> None:
    pipeline, classifier = track_pipeline(FixedDetector(moving(0)), every=4)
    said: list[Classification] = []
    for batch in ((0, 1), (2, 3, 4), (5, 6)):
        said += [result.classifications[0] for result in results(pipeline, *batch)]
    # Frame 0 has no track yet; the track begins with frame 1 and is read again 4 frames later.
    assert [item.classified_at_frame for item in said] == [0, 1, 1, 1, 1, 5, 5]
    assert sum(classifier.batch_sizes) == 3


def test_detections_below_the_minimum_help_the_tracker_and_do_not_leave() -> None:
    faint = {2: raw(moving(2), score=0.2)}
    detector = FixedDetector(by_index={**{i: raw(moving(i)) for i in (0, 1, 3)}, **faint})
    pipeline, _ = track_pipeline(detector, every=30)
    made = results(pipeline, 0, 1, 2, 3)
    assert [[d.track_id for d in result.detections] for result in made] == [[None], [0], [], [0]]


class FailingClassifier(BrightnessClassifier):
    """Raises until it is mended."""

    mended = False

    def classify(self, crops: torch.Tensor) -> list[Label]:
        if not self.mended:
            raise RuntimeError("the device fell over")
        return super().classify(crops)


def test_a_label_that_was_never_read_is_not_carried() -> None:
    pipeline, _ = track_pipeline(FixedDetector(moving(0)), every=30)
    classifier = FailingClassifier()
    pipeline = dataclasses.replace(pipeline, classifier=classifier)
    made = results(pipeline, 0, 1, 2)
    assert [result.classifications for result in made] == [()] * 3
    classifier.mended = True
    [result] = results(pipeline, 3)
    assert [item.classified_at_frame for item in result.classifications] == [3]


@pytest.mark.parametrize(
    ("for_all", "for_one", "tracked"),
    [(False, None, False), (False, True, True), (True, False, True)],
)
def test_the_tracker_is_loaded_where_a_source_is_tracked_or_one_that_comes_later_would_be(
    for_all: bool, for_one: bool | None, tracked: bool
) -> None:
    settings = Settings.model_validate(
        {"sources": [{"uri": "a.mp4", "track": for_one}], "track": for_all}
    )
    assert (make_tracks(settings) is not None) == tracked
