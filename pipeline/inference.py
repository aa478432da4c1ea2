"""The inference thread: gather → detect → admit → crop → classify → assemble → hand over."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

import torch

from contracts.errors import ContractViolation, InferenceError
from contracts.frame import Delivery, Frame
from contracts.messages import Detection, FrameFailure, FrameResult, Models
from pipeline.admit import admit
from pipeline.assemble import assemble, fail
from pipeline.batcher import Batcher
from pipeline.carry import Carried, CarriedLabel
from pipeline.classify import Classifier
from pipeline.detect import Detector, RawDetections
from pipeline.label import label_batch
from pipeline.stopwatch import Stopwatch

if TYPE_CHECKING:
    from pipeline.track import Tracks

Made = TypeVar("Made")
Rest = ParamSpec("Rest")

log = logging.getLogger("framewire.pipeline")


class Outbox(Protocol):
    """What the inference thread needs of the queue to the sinks. `put` waits when it is full."""

    def put(self, item: Delivery) -> None:
        """Raises when nobody takes deliveries any more."""
        ...

    def close(self) -> None:
        """There is nothing more to come."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
    """The models and how they are used. Only the inference thread touches it."""

    detector: Detector
    classifier: Classifier | None
    device: torch.device
    min_score: float = 0.0
    min_crop_px: int = 32
    tracks: "Tracks | None" = None
    carried: Carried = dataclasses.field(default_factory=lambda: Carried(every_n_frames=1))

    @property
    def models(self) -> Models:
        """Which weights speak."""
        classifier = self.classifier.identity if self.classifier else None
        return Models(detector=self.detector.identity, classifier=classifier)


def run_inference(batcher: Batcher, pipeline: Pipeline, outbox: Outbox) -> None:
    """Run by the inference thread: every item of every source is in the outbox, in source order."""
    empty_sources: set[str] = set()
    failing_sources: dict[str, str] = {}
    try:
        while items := batcher.gather():
            frames = [item for item in items if isinstance(item, Frame)]
            results = iter(infer_or_fail(pipeline, frames))
            for item in items:
                if isinstance(item, Frame):
                    message = next(results)
                    _log_failing_stretch(message, failing_sources)
                    _log_empty_stretch(message, empty_sources)
                    outbox.put(Delivery(message, item))
                else:
                    outbox.put(Delivery(item))
    finally:
        outbox.close()


def infer_or_fail(
    pipeline: Pipeline, frames: Sequence[Frame]
) -> Sequence[FrameResult | FrameFailure]:
    """One message a frame. An exception of the models fails the whole batch, by name."""
    try:
        return infer(pipeline, frames) if frames else []
    except Exception as error:
        log.debug("", exc_info=True)
        named = error
        if not isinstance(named, InferenceError):
            named = InferenceError(f"{type(error).__name__}: {error}")
        return [fail(frame, named) for frame in frames]


def infer(pipeline: Pipeline, frames: Sequence[Frame]) -> list[FrameResult | FrameFailure]:
    """One message a frame, in their order. A frame that breaks the contract fails alone."""
    watch = Stopwatch()
    with watch.stage("detect"):
        raw = pipeline.detector.detect(frames)
    with watch.stage("assemble"):
        found = [
            _or_fail(frame, _admit_and_follow, raw_of_frame, pipeline)
            for frame, raw_of_frame in zip(frames, raw, strict=True)
        ]
    labels = _label(pipeline, frames, found, watch)
    return [
        detections
        if isinstance(detections, FrameFailure)
        else _or_fail(
            frame,
            assemble,
            detections,
            labels_of_frame,
            pipeline.models,
            pipeline.classifier.class_names if pipeline.classifier else (),
            watch.times_of(frame),
            len(frames),
        )
        for frame, detections, labels_of_frame in zip(frames, found, labels, strict=True)
    ]


def _admit_and_follow(frame: Frame, raw: RawDetections, pipeline: Pipeline) -> list[Detection]:
    """The frame's detections of `min_score` or more, each with its track where it has one.

    The tracker sees the lower ones too: an object half hidden is found, only less surely.
    """
    detections = admit(frame, raw, pipeline.detector)
    if pipeline.tracks:
        detections = pipeline.tracks.follow(frame, detections)
    return [detection for detection in detections if detection.score >= pipeline.min_score]


def _label(
    pipeline: Pipeline,
    frames: Sequence[Frame],
    found: Sequence[list[Detection] | FrameFailure],
    watch: Stopwatch,
) -> list[dict[int, CarriedLabel]]:
    if pipeline.classifier is None:
        return [{} for _ in frames]
    return label_batch(
        frames,
        found,
        pipeline.classifier,
        pipeline.carried,
        pipeline.device,
        pipeline.min_crop_px,
        watch,
    )


def _or_fail(
    frame: Frame,
    step: Callable[Concatenate[Frame, Rest], Made],
    *rest: Rest.args,
    **named: Rest.kwargs,
) -> Made | FrameFailure:
    """What the step makes of the frame, or the frame's failure where that breaks the contract."""
    try:
        return step(frame, *rest, **named)
    except ContractViolation as error:
        return fail(frame, error)


def _log_failing_stretch(
    message: FrameResult | FrameFailure, failing_sources: dict[str, str]
) -> None:
    """One line where a source's frames begin to fail, by code, and one where they work again."""
    source_id = message.source_id
    failing = failing_sources.get(source_id)
    if isinstance(message, FrameFailure):
        if message.code != failing:
            at = (source_id, message.code, message.frame_index)
            log.error("%s: %s from frame %d on: %s", *at, message.message)
        failing_sources[source_id] = message.code
    elif failing:
        del failing_sources[source_id]
        log.info("%s: no %s any more at frame %d", source_id, failing, message.frame_index)


def _log_empty_stretch(message: FrameResult | FrameFailure, empty_sources: set[str]) -> None:
    """One line where a source begins to show nothing, and one where it shows something again."""
    if isinstance(message, FrameFailure):
        return
    source_id = message.source_id
    if not message.detections and source_id not in empty_sources:
        empty_sources.add(source_id)
        log.info("%s: no_detections from frame %d on", source_id, message.frame_index)
    elif message.detections and source_id in empty_sources:
        empty_sources.remove(source_id)
        log.info("%s: detections again at frame %d", source_id, message.frame_index)
