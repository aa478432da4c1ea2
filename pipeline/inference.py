"""The inference thread: gather → detect → admit → crop → classify → assemble → hand over."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

import torch

from contracts.errors import BadSetting, InferenceError
from contracts.frame import Delivery, Frame
from contracts.messages import Detection, FrameFailure, FrameResult, Models, SourceEnd
from contracts.settings import SourceSettings
from pipeline.admit import admit
from pipeline.assemble import assemble, fail
from pipeline.batcher import Batcher, Taken
from pipeline.breaker import Breaker
from pipeline.carry import Carried, CarriedLabel
from pipeline.classify import Classifier
from pipeline.contain import InferenceHealth, contain, without_trace
from pipeline.detect import Detector, RawDetections
from pipeline.label import label_batch
from pipeline.number import DropsBefore, Numbering
from pipeline.stopwatch import NEVER_QUEUED, Stopwatch
from pipeline.stretches import Stretches
from pipeline.view import WHOLE, View, view_of

if TYPE_CHECKING:
    from pipeline.track import Tracks

Made = TypeVar("Made")
Rest = ParamSpec("Rest")


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
    """The models and how they are used. The inference thread's; other threads may set a source's
    view before its first frame comes, and read `health`.
    """

    detector: Detector
    classifier: Classifier | None
    device: torch.device
    min_score: float = 0.0
    min_crop_px: int = 32
    tracks: "Tracks | None" = None
    carried: Carried = dataclasses.field(default_factory=lambda: Carried(every_n_frames=1))
    track: bool = False
    """Whether sources are tracked that don't say."""
    views: dict[str, View] = dataclasses.field(default_factory=dict)
    health: InferenceHealth = dataclasses.field(default_factory=InferenceHealth)

    @property
    def models(self) -> Models:
        """Which weights speak."""
        classifier = self.classifier.identity if self.classifier else None
        return Models(detector=self.detector.identity, classifier=classifier)

    def view(self, frame: Frame) -> View:
        """How frames of this source are looked at."""
        return self.views.get(frame.source_id, WHOLE)

    def view_of(self, source: SourceSettings) -> View:
        """How the source is to be looked at. Raises BadSetting where these models can't do that."""
        view = view_of(source, self.detector.class_names, self.track)
        if view.track and self.tracks is None:
            raise BadSetting(f"source {source.id}: track: the run was started without tracking")
        return view

    def instead_of(self, worn: "Pipeline") -> "Pipeline":
        """These models, going on with everything that the others knew of the sources."""
        return dataclasses.replace(
            self, tracks=worn.tracks, carried=worn.carried, views=worn.views, health=worn.health
        )

    def forget(self, source_id: str) -> None:
        """Nothing is left of the source; one of the same name begins anew."""
        self.views.pop(source_id, None)
        self.carried.forget(source_id)
        if self.tracks:
            self.tracks.forget(source_id)


def run_inference(
    batcher: Batcher,
    pipeline: Pipeline,
    outbox: Outbox,
    drops_before: DropsBefore,
    breaker: Breaker,
) -> None:
    """Run by the inference thread: every item of every source is in the outbox, in source order."""
    numbering, stretches = Numbering(drops_before), Stretches()
    pipeline.health.works()
    try:
        while not batcher.ended:
            pipeline = breaker.mended(pipeline)
            batch = batcher.gather(breaker.retry_at_s, breaker.holds_files)
            results = iter(_infer_unless_open(pipeline, breaker, batch))
            for item, *_ in batch:
                message = numbering.number(next(results) if isinstance(item, Frame) else item)
                stretches.log(message)
                outbox.put(Delivery(message, item if isinstance(item, Frame) else None))
                if isinstance(message, SourceEnd):
                    pipeline.forget(message.source_id)
    finally:
        outbox.close()


def _infer_unless_open(
    pipeline: Pipeline, breaker: Breaker, batch: Sequence[Taken]
) -> Sequence[FrameResult | FrameFailure]:
    """One message a frame; while the models are out of order, that they are."""
    taken_ns = {one.item: one.taken_ns for one in batch if isinstance(one.item, Frame)}
    if breaker.retry_at_s is not None:
        return [breaker.refuse(frame) for frame in taken_ns]
    if not taken_ns:
        return []
    with pipeline.health.busy():
        messages = infer(pipeline, list(taken_ns), taken_ns)
    breaker.saw(messages)
    return messages


def infer(
    pipeline: Pipeline, frames: Sequence[Frame], taken_ns: Mapping[Frame, int] = NEVER_QUEUED
) -> list[FrameResult | FrameFailure]:
    """One message a frame, in their order. A frame that the models can't take fails alone.

    `taken_ns` says when each was taken from its queue.
    """
    watch = Stopwatch(taken_ns)
    with watch.stage("detect"):
        seen = [pipeline.view(frame).look_at(frame) for frame in frames]
        raw = contain(pipeline.detector.detect, seen, pipeline.health)
    with watch.stage("assemble"):
        found = [
            fail(frame, said)
            if isinstance(said, InferenceError)
            else _or_fail(frame, _admit_and_follow, part, said, pipeline)
            for frame, part, said in zip(frames, seen, raw, strict=True)
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


def _admit_and_follow(
    frame: Frame, seen: Frame, raw: RawDetections, pipeline: Pipeline
) -> list[Detection]:
    """The frame's detections of `min_score` or more, each with its track where it has one.

    The tracker sees the lower ones too: an object half hidden is found, only less surely. It sees
    each frame once, whatever was tried again before.
    """
    view = pipeline.view(frame)
    detections = view.pick(frame, admit(seen, raw, pipeline.detector))
    if view.track and pipeline.tracks:
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
        pipeline.health,
    )


def _or_fail(
    frame: Frame,
    step: Callable[Concatenate[Frame, Rest], Made],
    *rest: Rest.args,
    **named: Rest.kwargs,
) -> Made | FrameFailure:
    """What the step makes of the frame, or the frame's failure where it raises."""
    try:
        return step(frame, *rest, **named)
    except Exception as error:
        return fail(frame, without_trace(error))
