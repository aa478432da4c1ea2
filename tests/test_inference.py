"""The inference thread: one message a frame, in order, whatever the models do."""

import dataclasses
import logging
import random
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from contracts.errors import DecodeError, OutOfMemory
from contracts.frame import Delivery, Frame, StreamItem
from contracts.messages import FrameFailure, FrameResult, SourceEnd
from pipeline.budget import MAX_CROPS_AT_ONCE
from pipeline.carry import Carried
from pipeline.classify import Label
from pipeline.detect import RawDetections
from pipeline.inference import Pipeline, infer
from pipeline.look import look
from pipeline.track import Tracks
from pipeline.view import View
from stream.queue import QueueClosed
from tests.frames import BrightnessClassifier, FaultyDetector, FixedDetector, frame, latent, raw
from tests.inference_line import PATIENCE_S, InferenceLine, Source
from tests.messages import frame_failure, source_end, source_event

CPU = torch.device("cpu")
BIG = (4.0, 4.0, 44.0, 40.0)
SMALL = (4.0, 4.0, 44.0, 35.9)


def pipeline(
    detector: FixedDetector, classifier: BrightnessClassifier | None = None, min_crop_px: int = 32
) -> Pipeline:
    return Pipeline(detector, classifier, CPU, min_crop_px=min_crop_px)


def run_through(items: Sequence[StreamItem], the_pipeline: Pipeline) -> list[Delivery]:
    """What leaves the inference thread for these items of one source."""
    line = InferenceLine(the_pipeline)
    source = line.add()
    source.put(*items)
    source.queue.close()
    line.batcher.close()
    line.run()
    return list(iter(line.outbox.take, None))


def test_every_item_leaves_once_in_source_order() -> None:
    items: list[StreamItem] = [frame(0), frame(1), frame_failure(2, "cam"), frame(3), frame(4)]
    items.append(source_end("cam"))
    detector = FixedDetector(BIG)
    deliveries = run_through(items, pipeline(detector))
    kinds = [delivery.message.schema_name for delivery in deliveries]
    assert kinds == ["framewire.frame"] * 2 + ["framewire.failure"] + ["framewire.frame"] * 2 + [
        "framewire.end"
    ]
    for item, delivery in zip(items, deliveries, strict=True):
        assert delivery.frame is (item if isinstance(item, Frame) else None)
        if isinstance(item, Frame):
            assert isinstance(delivery.message, FrameResult)
            assert delivery.message.frame_index == item.frame_index
            assert delivery.message.trace_id == item.trace_id
            assert delivery.message.pts_s == item.pts_s
    assert detector.batches == [[0, 1, 3, 4]]


def test_each_crop_is_of_its_own_frame_and_box() -> None:
    left_bright = np.zeros((64, 128, 3), np.uint8)
    left_bright[:, :64] = 255
    right_bright = 255 - left_bright
    left, right = (0.0, 0.0, 64.0, 64.0), (64.0, 0.0, 128.0, 64.0)
    frames = [frame(0, image_hwc=left_bright), frame(1, image_hwc=right_bright)]
    results = infer(pipeline(FixedDetector(left, right), BrightnessClassifier()), frames)
    said = [
        [(c.detection_index, c.class_name) for c in result.classifications]
        for result in results
        if isinstance(result, FrameResult)
    ]
    assert said == [[(0, "bright"), (1, "dark")], [(0, "dark"), (1, "bright")]]


def test_no_detections_give_empty_lists_and_one_log_line_a_stretch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "framewire")
    detector = FixedDetector(by_index={2: raw(BIG)})
    deliveries = run_through(
        [frame(i) for i in range(5)], pipeline(detector, BrightnessClassifier())
    )
    empty = deliveries[0].message
    assert isinstance(empty, FrameResult)
    assert (empty.detections, empty.classifications, empty.degraded) == ((), (), ())
    assert [record.message for record in caplog.records] == [
        "cam: no_detections from frame 0 on",
        "cam: detections again at frame 2",
        "cam: no_detections from frame 3 on",
    ]


def test_a_crop_below_the_minimum_is_not_classified_and_its_detection_kept() -> None:
    classifier = BrightnessClassifier()
    [result] = infer(pipeline(FixedDetector(BIG, SMALL), classifier), [frame(0)])
    assert isinstance(result, FrameResult)
    assert len(result.detections) == 2
    assert [c.detection_index for c in result.classifications] == [0]
    assert result.degraded == ("crop_too_small",)
    assert classifier.batch_sizes == [1]


def test_a_box_that_sticks_out_is_clamped_before_it_is_cropped() -> None:
    detector = FixedDetector((-10.0, -10.0, 40.0, 40.0))
    [result] = infer(pipeline(detector, BrightnessClassifier()), [frame(0)])
    assert isinstance(result, FrameResult)
    assert result.detections[0].box == (0.0, 0.0, 40.0, 40.0)
    assert len(result.classifications) == 1


def test_a_frame_that_breaks_the_contract_fails_alone() -> None:
    detector = FixedDetector(BIG, by_index={1: raw((40.0, 30.0, 20.0, 10.0))})
    results = infer(pipeline(detector, BrightnessClassifier()), [frame(i) for i in range(3)])
    assert [type(r).__name__ for r in results] == ["FrameResult", "FrameFailure", "FrameResult"]
    failure = results[1]
    assert isinstance(failure, FrameFailure)
    assert failure.code == "contract_violation"
    assert "fixed-detector" in failure.message
    assert "cam#1" in failure.message


class BrokenClassifier(BrightnessClassifier):
    """Says something that is no probability."""

    def classify(self, crops: torch.Tensor) -> list[Label]:
        return [Label(0, float("nan")) for _ in crops]


def test_a_classifier_that_breaks_the_contract_fails_the_frame_by_name() -> None:
    [result] = infer(pipeline(FixedDetector(BIG), BrokenClassifier()), [frame(0)])
    assert isinstance(result, FrameFailure)
    assert result.code == "contract_violation"
    assert "score" in result.message


class FailingDetector(FixedDetector):
    """Raises at every batch that has frame 1 in it."""

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        if any(item.frame_index == 1 for item in frames):
            raise RuntimeError("the device\nfell over")
        return super().detect(frames)


def test_an_exception_of_a_model_fails_by_name_what_it_comes_of_and_the_thread_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    deliveries = run_through([frame(i) for i in range(6)], pipeline(FailingDetector(BIG)))
    messages = [delivery.message for delivery in deliveries]
    assert [m.schema_name for m in messages] == [
        "framewire.frame",
        "framewire.failure",
        *["framewire.frame"] * 4,
    ]
    failure = messages[1]
    assert isinstance(failure, FrameFailure)
    assert (failure.code, failure.message) == (
        "inference_error",
        "RuntimeError: the device fell over",
    )
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["cam: inference_error from frame 1 on: RuntimeError: the device fell over"]
    assert "Traceback" not in caplog.text


class RaisingDetector(FixedDetector):
    """Raises this error until a frame of a later index comes."""

    def __init__(self, error: Exception, until: int) -> None:
        super().__init__(BIG)
        self._error = error
        self._until = until

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        if frames[0].frame_index < self._until:
            raise self._error
        return super().detect(frames)


def test_a_model_that_keeps_failing_is_logged_once_and_once_more_when_it_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "framewire")
    detector = RaisingDetector(OutOfMemory("model m.onnx: no memory"), until=40)
    run_through([frame(i) for i in range(48)], pipeline(detector))
    assert [record.getMessage() for record in caplog.records] == [
        "cam: out_of_memory from frame 0 on: model m.onnx: no memory",
        "cam: no out_of_memory any more at frame 40",
    ]


def test_the_trace_of_a_models_exception_is_there_for_who_debugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "framewire")
    run_through([frame(0)], pipeline(RaisingDetector(KeyError("boxes"), until=1)))
    traced = [record for record in caplog.records if record.exc_info]
    assert [record.levelno for record in traced] == [logging.DEBUG] * 2


def test_frames_that_keep_breaking_the_contract_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "framewire")
    wrong = raw((40.0, 30.0, 20.0, 10.0))
    detector = FixedDetector(BIG, by_index=dict.fromkeys(range(2, 7), wrong))
    run_through([frame(i) for i in range(9)], pipeline(detector))
    first, last = [record.getMessage() for record in caplog.records]
    assert first.startswith("cam: contract_violation from frame 2 on: detector fixed-detector")
    assert last == "cam: no contract_violation any more at frame 7"


def test_the_classifier_gets_all_crops_of_a_batch_together() -> None:
    classifier = BrightnessClassifier()
    infer(pipeline(FixedDetector(BIG, BIG), classifier), [frame(i) for i in range(3)])
    assert classifier.batch_sizes == [6]


def test_very_many_crops_are_classified_in_turns_and_none_is_lost() -> None:
    classifier = BrightnessClassifier()
    count = MAX_CROPS_AT_ONCE + 3
    [result] = infer(pipeline(FixedDetector(*[BIG] * count), classifier), [frame(0)])
    assert isinstance(result, FrameResult)
    assert [c.detection_index for c in result.classifications] == list(range(count))
    assert classifier.batch_sizes == [MAX_CROPS_AT_ONCE, 3]


def test_without_a_classifier_nothing_is_cropped_and_nothing_is_degraded() -> None:
    [result] = infer(pipeline(FixedDetector(BIG)), [frame(0)])
    assert isinstance(result, FrameResult)
    assert result.classifications == ()
    assert result.degraded == ()
    assert result.models.classifier is None
    assert result.stage_ms.crop_ms == result.stage_ms.classify_ms == 0


def test_a_result_says_how_long_each_stage_took_and_which_weights_spoke() -> None:
    results = infer(pipeline(FixedDetector(BIG), BrightnessClassifier()), [frame(0), frame(1)])
    result = results[0]
    assert isinstance(result, FrameResult)
    times = result.stage_ms
    assert times.decode_ms == 1.5
    assert times.queue_ms > 0
    assert times.crop_ms > 0
    assert result.inference_ms == pytest.approx(
        times.detect_ms + times.crop_ms + times.classify_ms, abs=1e-6
    )
    assert result.batch_size == 2
    assert result.models.detector.name == "fixed-detector"


def test_a_corrupt_frame_keeps_its_mark() -> None:
    damaged = dataclasses.replace(frame(0), degraded=("corrupt_frame",))
    [result] = infer(pipeline(FixedDetector(BIG)), [damaged])
    assert isinstance(result, FrameResult)
    assert result.degraded == ("corrupt_frame",)


def test_when_nobody_takes_deliveries_the_thread_ends() -> None:
    line = InferenceLine(pipeline(FixedDetector(BIG)))
    line.add().put(frame(0))
    line.outbox.abandon()
    with pytest.raises(QueueClosed):
        line.run()


def test_results_and_failures_are_numbered_without_gaps_and_say_what_was_dropped_between() -> None:
    line = InferenceLine(pipeline(FixedDetector(BIG)))
    camera = line.add("cam", "drop_oldest", depth=4)
    camera.put(frame_failure(0, "cam"), *(frame(index) for index in range(1, 5)))
    camera.ledger.captured(5)
    camera.ledger.dropped(5, "rate_limit")
    camera.queue.put_over(source_event("cam"))
    camera.put(frame(6))
    camera.end()
    with line.running():
        messages = [delivery.message for delivery in line.take_all()]
    assert [message.schema_name for message in messages] == [
        "framewire.failure",
        "framewire.frame",
        "framewire.frame",
        "framewire.event",
        "framewire.frame",
        "framewire.end",
    ]
    numbers = [
        (message.frame_index, message.sequence, message.dropped_before)
        for message in messages
        if isinstance(message, FrameResult | FrameFailure)
    ]
    assert numbers == [
        (0, 0, {}),
        (3, 1, {"queue_full": 2}),
        (4, 2, {}),
        (6, 3, {"rate_limit": 1}),
    ]


def test_a_source_that_comes_again_begins_anew_in_numbers_tracks_and_labels() -> None:
    tracked = dataclasses.replace(
        pipeline(FixedDetector(BIG), BrightnessClassifier()),
        tracks=Tracks(0.5),
        carried=Carried(every_n_frames=100),
    )
    line = InferenceLine(tracked)
    rounds: list[list[tuple[int, int | None, int | None]]] = []
    with line.running():
        for _ in range(2):
            tracked.views["cam"] = View(track=True)
            source = line.add()
            source.put(*(frame(index) for index in range(1, 5)))
            source.end()
            results = [delivery.message for delivery in line.take_all()]
            rounds.append(
                [
                    (
                        one.sequence,
                        one.detections[0].track_id,
                        one.classifications[0].classified_at_frame,
                    )
                    for one in results
                    if isinstance(one, FrameResult)
                ]
            )
    assert rounds == [
        [(0, None, 1), (1, 0, 2), (2, 0, 2), (3, 0, 2)],
        [(0, None, 1), (1, 1, 2), (2, 1, 2), (3, 1, 2)],
    ]
    assert tracked.views == {}


def test_where_the_waiting_was_is_in_the_times() -> None:
    taken_at_ns = time.monotonic_ns() - 40_000_000
    early = dataclasses.replace(frame(0), captured_ns=taken_at_ns - 20_000_000)
    [(result, _)] = look(pipeline(FixedDetector(BIG)), [early], {early: taken_at_ns})
    assert isinstance(result, FrameResult)
    assert result.stage_ms.queue_ms == 20.0
    assert result.stage_ms.batch_ms >= 40.0


def test_a_model_that_hangs_is_busy_since_and_idle_when_it_is_not() -> None:
    entered, gate = threading.Event(), threading.Event()

    def hang(_indices: list[int]) -> None:
        entered.set()
        assert gate.wait(PATIENCE_S)

    line = InferenceLine(pipeline(FaultyDetector(BIG, fault=hang)))
    source = line.add()
    before_ns = time.monotonic_ns()
    with line.running():
        source.put(frame(0))
        assert entered.wait(PATIENCE_S)
        since_ns = line.pipeline.health.now.busy_since_ns
        assert since_ns is not None
        assert before_ns <= since_ns <= time.monotonic_ns()
        gate.set()
        line.take()
        idle = line.pipeline.health.now
        assert (idle.busy_since_ns, idle.batches) == (None, 1)
        source.end()


def test_a_batch_is_not_held_while_the_next_one_is_waited_for() -> None:
    line = InferenceLine(pipeline(FixedDetector(BIG)))
    source = line.add()
    images = [np.zeros((48, 64, 3), np.uint8) for _ in range(2)]
    first = weakref.ref(images[0])
    source.put(*(frame(index, image_hwc=image) for index, image in enumerate(images)))
    images.clear()
    with line.running():
        for _ in range(2):
            line.take()
        source.put(frame_failure(2, "cam"))
        line.take()
        assert first() is None
        source.end()


class Weather:
    """A detector's faults, as they come in bad weather: each call may meet another one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, indices: list[int]) -> None:
        if self._random.random() < 0.1:
            raise RuntimeError("lightning")
        if len(indices) > 2 and self._random.random() < 0.3:
            raise OutOfMemory("flood")


def produce(source: Source, seed: int, count: int) -> None:
    """What a capture thread does, with everything that can happen to a frame."""
    rng = random.Random(seed)

    def unreadable() -> Any:
        raise DecodeError("torn")

    for index in range(count):
        kind = rng.choice(["frame", "frame", "latent", "torn", "old", "failure", "left_out"])
        match kind:
            case "frame":
                source.put(frame(index, source.name))
            case "latent":
                source.put(latent(index, source.name))
            case "torn":
                source.put(latent(index, source.name, unreadable))
            case "old":
                source.put(dataclasses.replace(frame(index, source.name), captured_ns=0))
            case "failure":
                source.put(frame_failure(index, source.name))
            case _:
                source.ledger.captured(index)
                source.ledger.dropped(index, "rate_limit")
        if rng.random() < 0.05:
            source.queue.put_over(source_event(source.name))
    source.end()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_numbers_of_each_source_add_up(seed: int) -> None:
    def rebuild() -> Pipeline:
        return pipeline(FaultyDetector(BIG, fault=Weather(seed + 1)))

    line = InferenceLine(rebuild(), 8, rebuild, waits_s=(0.0, *[0.001] * 1000))
    last: dict[str, tuple[int, int]] = {}
    ends = 0

    def begin(name: str) -> None:
        live = name.startswith("live")
        last[name] = (-1, -1)
        source = line.add(name, "drop_oldest" if live else "block", 3, 10.0 if live else None)
        threading.Thread(target=produce, args=(source, seed, 200), daemon=True).start()

    again = 3
    with line.running():
        for name in ("live-a", "live-b", "file-a", "file-b"):
            begin(name)
        while ends < 7:
            message = line.take().message
            if isinstance(message, SourceEnd):
                ends += 1
                counts = line.sources[message.source_id].ledger.counts()
                assert counts.balanced
                assert (counts.captured, counts.in_flight) == (200, 0)
                if again:
                    begin(message.source_id)
                    again -= 1
            elif isinstance(message, FrameResult | FrameFailure):
                index, sequence = last[message.source_id]
                assert message.sequence == sequence + 1
                assert message.frame_index - index - 1 == sum(message.dropped_before.values())
                last[message.source_id] = (message.frame_index, message.sequence)
