"""A classifier that fails or is late costs its labels, not the detections; and it is not silent."""

import dataclasses
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.errors import OutOfMemory, WeightsUnreadable
from contracts.frame import Frame
from contracts.messages import FrameFailure, FrameResult
from contracts.settings import Settings
from pipeline.budget import FIRST_PART, MAX_CROPS_AT_ONCE, Budget
from pipeline.carry import Carried
from pipeline.classify import Label
from pipeline.contain import Crops
from pipeline.inference import Pipeline, infer
from pipeline.load import load_pipeline
from pipeline.track import Tracks
from pipeline.view import View
from scripts.run import _conclude, _summary
from scripts.wiring import Run
from tests.clips import FFV1, write_clip
from tests.frames import BrightnessClassifier, FaultyDetector, FixedDetector, frame
from tests.inference_line import InferenceLine
from tests.test_uploads import Waiter, offer

CPU = torch.device("cpu")
BIG = (4.0, 4.0, 44.0, 40.0)
MS = 10**6


class Clock:
    """Nanoseconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class SlowClassifier(BrightnessClassifier):
    """Each crop takes so long on the clock; `fault` may raise after that."""

    def __init__(
        self, clock: Clock, crop_ms: float, fault: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self.clock, self.crop_ms, self.fault = clock, crop_ms, fault

    def classify(self, crops: torch.Tensor) -> list[Label]:
        self.clock.now_ns += int(len(crops) * self.crop_ms * MS)
        self.fault()
        return super().classify(crops)


class FailingClassifier(BrightnessClassifier):
    """Raises whatever it is shown, until it is mended."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error or RuntimeError("the device fell over")
        self.mended = False

    def classify(self, crops: torch.Tensor) -> list[Label]:
        if not self.mended:
            raise self.error
        return super().classify(crops)


def results(pipeline: Pipeline, *frames: Frame) -> list[FrameResult]:
    made = infer(pipeline, frames)
    assert all(isinstance(one, FrameResult) for one in made), made
    return [one for one in made if isinstance(one, FrameResult)]


def labelled(result: FrameResult) -> list[int]:
    return [one.detection_index for one in result.classifications]


class DarkHater(BrightnessClassifier):
    """Raises where a crop is dark."""

    def classify(self, crops: torch.Tensor) -> list[Label]:
        labels = super().classify(crops)
        if any(label.class_id == 0 for label in labels):
            raise RuntimeError("too dark")
        return labels


def test_a_crop_that_can_not_be_classified_costs_its_label_and_no_other() -> None:
    half = np.zeros((64, 128, 3), np.uint8)
    half[:, :64] = 255
    left, right = (0.0, 0.0, 64.0, 64.0), (64.0, 0.0, 128.0, 64.0)
    pipeline = Pipeline(FixedDetector(left, right), DarkHater(), CPU)
    first, second = results(
        pipeline, frame(0, image_hwc=half), frame(1, image_hwc=np.full_like(half, 255))
    )
    assert (len(first.detections), labelled(first)) == (2, [0])
    assert first.degraded == ("classifier_failed",)
    assert (labelled(second), second.degraded) == ([0, 1], ())
    crops = pipeline.health.now.crops
    assert (crops.classified, crops.failed, crops.late) == (3, 1, 0)
    assert str(crops.error) == "RuntimeError: too dark"


@pytest.mark.parametrize("error", [RuntimeError("it fell over"), OutOfMemory("no memory")])
def test_a_classifier_that_fails_leaves_the_detections_and_says_so(error: Exception) -> None:
    pipeline = Pipeline(FixedDetector(BIG, BIG), FailingClassifier(error), CPU)
    for result in results(pipeline, frame(0), frame(1)):
        assert (len(result.detections), result.classifications) == (2, ())
        assert result.degraded == ("classifier_failed",)


def test_a_classifier_that_gives_a_label_too_few_has_failed_and_no_crop_gets_anothers() -> None:
    class Forgetful(BrightnessClassifier):
        def classify(self, crops: torch.Tensor) -> list[Label]:
            return super().classify(crops)[1:]

    [result] = results(Pipeline(FixedDetector(BIG, BIG), Forgetful(), CPU), frame(0))
    assert (result.classifications, result.degraded) == ((), ("classifier_failed",))


def test_the_detectors_own_failure_stays_one() -> None:
    def fault(indices: list[int]) -> None:
        raise RuntimeError("the device fell over")

    pipeline = Pipeline(FaultyDetector(BIG, fault=fault), FailingClassifier(), CPU)
    [failure] = infer(pipeline, [frame(0)])
    assert isinstance(failure, FrameFailure)
    assert failure.code == "inference_error"


def budgeted(
    count: int,
    timeout_ms: float | None,
    crop_ms: float = 10.0,
    fault: Callable[[], None] = lambda: None,
) -> tuple[Pipeline, SlowClassifier]:
    """A pipeline that finds so many things, whose classifier takes so long for each."""
    clock = Clock()
    classifier = SlowClassifier(clock, crop_ms, fault)
    budget = Budget(timeout_ms, clock)
    return Pipeline(FixedDetector(*[BIG] * count), classifier, CPU, budget=budget), classifier


def test_what_there_is_no_time_for_is_left_out_and_the_rest_is_there() -> None:
    pipeline, classifier = budgeted(40, timeout_ms=100)
    [result] = results(pipeline, frame(0))
    assert len(result.detections) == 40
    assert labelled(result) == list(range(10))
    assert result.degraded == ("classifier_timeout",)
    assert classifier.batch_sizes == [FIRST_PART, 2]
    assert pipeline.health.now.crops == Crops(classified=10, late=30)


def test_what_a_crop_cost_says_how_many_fit_into_the_next_batch() -> None:
    pipeline, classifier = budgeted(40, timeout_ms=100)
    results(pipeline, frame(0))
    classifier.batch_sizes.clear()
    results(pipeline, frame(1))
    assert classifier.batch_sizes == [10]


def test_each_frames_surest_objects_are_labelled_first() -> None:
    pipeline, _ = budgeted(10, timeout_ms=100)
    made = results(pipeline, *(frame(index) for index in range(4)))
    assert [labelled(result) for result in made] == [[0, 1, 2], [0, 1, 2], [0, 1], [0, 1]]


def test_a_single_crop_that_takes_too_long_is_still_labelled() -> None:
    pipeline, _ = budgeted(30, timeout_ms=100, crop_ms=1000)
    results(pipeline, frame(0))
    [result] = results(pipeline, frame(1))
    assert labelled(result) == [0]


def test_without_a_limit_all_are_labelled_however_long_it_takes() -> None:
    pipeline, classifier = budgeted(MAX_CROPS_AT_ONCE + 3, timeout_ms=None, crop_ms=10**6)
    [result] = results(pipeline, frame(0))
    assert len(result.classifications) == MAX_CROPS_AT_ONCE + 3
    assert classifier.batch_sizes == [MAX_CROPS_AT_ONCE, 3]


def test_what_fails_is_not_tried_again_when_its_time_is_over() -> None:
    def fault() -> None:
        raise RuntimeError("the device fell over")

    pipeline, classifier = budgeted(8, timeout_ms=100, crop_ms=20, fault=fault)
    [result] = results(pipeline, frame(0))
    assert result.degraded == ("classifier_timeout",)
    assert classifier.clock.now_ns == 8 * 20 * MS


@given(st.integers(1, 80), st.floats(1, 500), st.floats(0.1, 40), st.integers(1, 5))
def test_no_part_is_begun_that_does_not_fit_but_the_first_and_no_crop_is_lost(
    count: int, timeout_ms: float, crop_ms: float, batches: int
) -> None:
    clock = Clock()
    budget = Budget(timeout_ms, clock)
    for batch in range(batches):
        budget.begin()
        began_ns, left = clock.now_ns, count
        while left and (part := min(budget.next_part(), left)):
            assert 1 <= part <= MAX_CROPS_AT_ONCE
            with budget.time(part):
                clock.now_ns += int(part * crop_ms * MS)
            left -= part
        spent_ms = (clock.now_ns - began_ns) / MS
        guessed = FIRST_PART if batch == 0 else 1
        assert spent_ms <= timeout_ms + guessed * crop_ms + 1e-3
        assert left == 0 or spent_ms > timeout_ms - crop_ms


def test_an_object_that_there_was_no_time_for_is_due_again_and_gets_its_turn() -> None:
    pipeline, classifier = budgeted(0, timeout_ms=20)
    boxes = [(10.0 + 60 * n, 10.0, 50.0 + 60 * n, 50.0) for n in range(6)]
    pipeline = dataclasses.replace(
        pipeline,
        detector=FixedDetector(*boxes),
        tracks=Tracks(0.5),
        carried=Carried(every_n_frames=100),
        views={"cam": View(track=True)},
    )
    classifier.clock.now_ns = 0
    seen = [results(pipeline, frame(index, size=(96, 400)))[0] for index in range(5)]
    # Frame 0 knows no tracks yet, and nobody knows what a crop costs.
    assert [len(result.classifications) for result in seen] == [6, 2, 4, 6, 6]
    assert [result.degraded for result in seen[1:]] == [("classifier_timeout",)] * 2 + [()] * 2
    assert [one.classified_at_frame for one in seen[-1].classifications] == [1, 1, 2, 2, 3, 3]


def line_of(classifier: BrightnessClassifier, rebuild: Callable[[], Pipeline]) -> InferenceLine:
    return InferenceLine(
        Pipeline(FixedDetector(BIG), classifier, CPU), 1, rebuild, waits_s=(0.0, 0.0, 3600.0)
    )


def is_ready(line: InferenceLine) -> bool:
    return line.pipeline.health.now.ready


def file_job(line: InferenceLine, n_frames: int) -> list[FrameResult]:
    source = line.add()
    source.put(*(frame(index) for index in range(n_frames)))
    source.end()
    with line.running():
        messages = [delivery.message for delivery in line.take_all()]
    return [message for message in messages if isinstance(message, FrameResult)]


def test_a_classifier_that_keeps_failing_is_loaded_again_and_no_detection_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "framewire")
    good = Pipeline(FixedDetector(BIG), BrightnessClassifier(), CPU)
    line = line_of(FailingClassifier(), lambda: good)
    made = file_job(line, 5)
    assert [len(one.detections) for one in made] == [1] * 5
    assert [one.degraded for one in made] == [("classifier_failed",)] * 3 + [()] * 2
    health = line.pipeline.health.now
    assert (health.ready, health.rebuilds) == (True, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "classifier_failed: RuntimeError: the device fell over",
        "model_unavailable: the models keep failing and are loaded again in 0 s: "
        "classifier_failed: RuntimeError: the device fell over",
        "the models are loaded again",
        "no classifier_failed any more",
    ]


def test_one_that_always_fails_makes_the_process_not_ready_and_no_frame_is_refused() -> None:
    loads: list[int] = []

    def rebuild() -> Pipeline:
        loads.append(1)
        return Pipeline(FixedDetector(BIG), FailingClassifier(), CPU)

    line = line_of(FailingClassifier(), rebuild)
    made = file_job(line, 20)
    assert [one.degraded for one in made] == [("classifier_failed",)] * 20
    # After three batches, then after each one: the third wait is an hour.
    assert len(loads) == 2
    health = line.pipeline.health.now
    assert not health.ready
    assert health.reasons == ("classifier_failed: RuntimeError: the device fell over",)


def test_where_it_can_not_be_loaded_again_detection_goes_on() -> None:
    def rebuild() -> Pipeline:
        raise WeightsUnreadable("m.safetensors: cut short")

    line = line_of(FailingClassifier(), rebuild)
    assert len(file_job(line, 10)) == 10
    health = line.pipeline.health.now
    assert (health.ready, health.rebuilds) == (False, 2)


def test_one_that_works_again_by_itself_is_not_loaded_again() -> None:
    classifier = FailingClassifier()
    line = InferenceLine(
        Pipeline(FixedDetector(BIG), classifier, CPU), 1, waits_s=(3600.0,)
    )  # Loading again would raise.
    source = line.add()
    with line.running():
        for index in range(4):
            source.put(frame(index))
            line.take()
        assert not is_ready(line)
        classifier.mended = True
        source.put(frame(4))
        line.take()
        source.put(frame(5))
        line.take()
        assert is_ready(line)
        source.end()
        line.take()


def test_memory_that_runs_out_for_crops_makes_it_only_not_ready() -> None:
    line = line_of(FailingClassifier(OutOfMemory("no memory")), never)
    file_job(line, 6)
    assert line.pipeline.health.now.reasons == ("classifier_failed: no memory",)


def never() -> Pipeline:
    raise AssertionError


def test_batches_without_crops_tell_nothing_of_the_classifier() -> None:
    found = FixedDetector(BIG)
    nothing = FixedDetector().detect([frame(0)])[0]
    found.by_index = dict.fromkeys(range(1, 30), nothing)
    line = InferenceLine(Pipeline(found, FailingClassifier(), CPU), 1, never)
    file_job(line, 30)
    assert line.pipeline.health.now.ready


def test_a_classifier_that_is_late_is_no_reason_to_load_it_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline, _ = budgeted(40, timeout_ms=100)
    line = InferenceLine(pipeline, 1, never)
    made = file_job(line, 6)
    assert {one.degraded for one in made} == {("classifier_timeout",)}
    assert line.pipeline.health.now.ready
    assert [record.getMessage() for record in caplog.records] == [
        "classifier_timeout: no time for 30 of a batch's 40 crops; further ones are only counted"
    ]


def test_a_single_picture_is_answered_without_labels_too() -> None:
    line = line_of(FailingClassifier(), never)
    waiter = Waiter()
    with line.running():
        offer(line.batcher.uploads, waiter)
        answer = waiter.result()
    assert isinstance(answer, FrameResult)
    assert (len(answer.detections), answer.degraded) == (1, ("classifier_failed",))


def test_a_run_counts_it_and_its_exit_status_says_that_something_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 6, FFV1)
    settings = {"sources": [str(clip)], "zmq": "none"}
    pipeline = Pipeline(FixedDetector(BIG), FailingClassifier(), CPU)
    this_run = Run(Settings.model_validate(settings), lambda: pipeline, threading.Event())
    this_run.execute()
    assert _summary(this_run, None)["degraded"] == {"classifier_failed": 6}
    assert this_run.feeds["clip"].ledger.counts().delivered == 6
    assert _conclude(this_run) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "framewire: classifier_failed: 6 frames"


def test_the_settings_say_how_long_and_refuse_it_where_nothing_is_classified() -> None:
    settings = Settings.model_validate({"sources": ["a.mp4"], "classifier_timeout_ms": 5})
    budget = load_pipeline(settings).budget
    budget.begin()
    assert 0 < budget.next_part() <= FIRST_PART
    with pytest.raises(ValidationError, match="not read while classifier is none"):
        Settings.model_validate({"classifier": "none", "classifier_timeout_ms": 5})
    with pytest.raises(ValidationError, match="classifier_timeout_ms"):
        Settings.model_validate({"classifier_timeout_ms": 0})
