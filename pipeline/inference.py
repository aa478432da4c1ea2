"""The inference thread: gather → detect → admit → crop → classify → read → assemble → hand over."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

import torch

from contracts.errors import BadSetting, InferenceError
from contracts.frame import Delivery, Frame
from contracts.messages import Detection, FrameFailure, FrameResult, Models, SourceEnd, SourceEvent
from contracts.settings import SourceSettings
from contracts.upload import Upload
from pipeline.admit import admit
from pipeline.assemble import assemble, fail
from pipeline.batcher import Batcher, Taken
from pipeline.breaker import Breaker
from pipeline.budget import Budget
from pipeline.carry import Carried, CarriedLabel
from pipeline.classify import Classifier, Label
from pipeline.contain import InferenceHealth, contain, without_trace
from pipeline.detect import Detector, RawDetections
from pipeline.label import label_batch
from pipeline.number import DropsBefore, Message, Numbering
from pipeline.stopwatch import NEVER_QUEUED, Stopwatch
from pipeline.stretches import Stretches
from pipeline.text.read import NOTHING_READ, FrameTexts, TextHead, read_batch
from pipeline.view import WHOLE, View, view_for, view_of

if TYPE_CHECKING:
    from pipeline.track import Tracks

Item = Frame | FrameFailure | SourceEvent | SourceEnd | Upload
AS_ITS_SOURCE: Mapping[Frame, View] = MappingProxyType({})
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
    carried: Carried[Label] = dataclasses.field(default_factory=lambda: Carried(every_n_frames=1))
    track: bool = False
    """Whether sources are tracked that don't say."""
    views: dict[str, View] = dataclasses.field(default_factory=dict)
    health: InferenceHealth = dataclasses.field(default_factory=InferenceHealth)
    text: TextHead | None = None
    budget: Budget = dataclasses.field(default_factory=Budget)

    @property
    def models(self) -> Models:
        """Which weights speak."""
        classifier = self.classifier.identity if self.classifier else None
        text = self.text.reader.identity if self.text else None
        return Models(detector=self.detector.identity, classifier=classifier, text=text)

    def view(self, frame: Frame) -> View:
        """How frames of this source are looked at."""
        return self.views.get(frame.source_id, WHOLE)

    def models_for(self, view: View) -> Models:
        """Which of the weights speak of a frame that is looked at in this way."""
        return self.models if view.classify else self.models.model_copy(update={"classifier": None})

    def view_of(self, source: SourceSettings) -> View:
        """How the source is to be looked at. Raises BadSetting where these models can't do that."""
        view = view_of(source, self.detector.class_names, self.track)
        if view.track and self.tracks is None:
            raise BadSetting(f"source {source.id}: track: the run was started without `track`")
        return view

    def instead_of(self, worn: "Pipeline") -> "Pipeline":
        """These models, going on with everything that the others knew of the sources."""
        text = self.text and worn.text and self.text.instead_of(worn.text)
        return dataclasses.replace(
            self,
            tracks=worn.tracks,
            carried=worn.carried,
            views=worn.views,
            health=worn.health,
            text=text,
        )

    def forget(self, source_id: str) -> None:
        """Nothing is left of the source; one of the same name begins anew."""
        self.views.pop(source_id, None)
        self.carried.forget(source_id)
        if self.text:
            self.text.carried.forget(source_id)
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
            for message, item in _answers(pipeline, breaker, stretches, batch):
                if isinstance(item, Upload) and isinstance(message, FrameResult | FrameFailure):
                    batcher.uploads.settle(item, message)
                    continue
                if isinstance(message, SourceEnd):
                    # Before it is out: after that its name may be in use again.
                    for keeper in (pipeline, numbering, stretches):
                        keeper.forget(message.source_id)
                frame = item if isinstance(item, Frame) else None
                outbox.put(Delivery(numbering.number(message), frame))
            # Not held while the next one is waited for: it has the pixels.
            del batch
    finally:
        outbox.close()


def _answers(
    pipeline: Pipeline, breaker: Breaker, stretches: Stretches, batch: Sequence[Taken]
) -> list[tuple[Message, Item]]:
    """A message for each item, with the item that it is of."""
    frames = {_frame_of(one.item): one for one in batch if isinstance(one.item, Frame | Upload)}
    said = dict(zip(frames, _infer_or_refuse(pipeline, breaker, frames), strict=True))
    stretches.log(message for frame, message in said.items() if frames[frame].item is frame)
    return [
        (said[_frame_of(item)] if isinstance(item, Frame | Upload) else item, item)
        for item, _ in batch
    ]


def _frame_of(item: Frame | Upload) -> Frame:
    return item.frame if isinstance(item, Upload) else item


def _infer_or_refuse(
    pipeline: Pipeline, breaker: Breaker, frames: Mapping[Frame, Taken]
) -> Sequence[FrameResult | FrameFailure]:
    """One message a frame: what the models say of it, or that they are out of order."""
    if breaker.refuses:
        return [breaker.refuse(frame) for frame in frames]
    if not frames:
        return []
    taken_ns = {frame: one.taken_ns for frame, one in frames.items()}
    wishes = {
        frame: view_for(one.item.wishes)
        for frame, one in frames.items()
        if isinstance(one.item, Upload)
    }
    with pipeline.health.busy():
        messages = infer(pipeline, list(frames), taken_ns, wishes)
    pipeline.health.count("batches")
    breaker.saw(messages, pipeline.health.now.crops)
    return messages


def infer(
    pipeline: Pipeline,
    frames: Sequence[Frame],
    taken_ns: Mapping[Frame, int] = NEVER_QUEUED,
    wishes: Mapping[Frame, View] = AS_ITS_SOURCE,
) -> list[FrameResult | FrameFailure]:
    """One message a frame, in their order. A frame that the models can't take fails alone.

    `taken_ns` says when each was taken from its queue, `wishes` how one is to be looked at that is
    not of a source.
    """
    watch = Stopwatch(taken_ns)
    views = {frame: wishes.get(frame) or pipeline.view(frame) for frame in frames}
    with watch.stage("detect"):
        seen = contain(partial(_detect, pipeline, views), frames, pipeline.health)
    with watch.stage("assemble"):
        found = [
            fail(frame, what)
            if isinstance(what, InferenceError)
            else _or_fail(frame, _admit_and_follow, *what, pipeline, views[frame])
            for frame, what in zip(frames, seen, strict=True)
        ]
    labels = _label(pipeline, views, found, watch)
    texts = _read(pipeline, views, found, watch)
    return [
        detections
        if isinstance(detections, FrameFailure)
        else _or_fail(
            frame,
            assemble,
            detections,
            labels_of_frame,
            pipeline.models_for(views[frame]),
            pipeline.classifier.class_names if pipeline.classifier else (),
            watch.times_of(frame),
            len(frames),
            texts_of_frame,
        )
        for frame, detections, labels_of_frame, texts_of_frame in zip(
            frames, found, labels, texts, strict=True
        )
    ]


def _detect(
    pipeline: Pipeline, views: Mapping[Frame, View], frames: Sequence[Frame]
) -> list[tuple[Frame, RawDetections]]:
    """What the detector was shown of each frame, and what it says of that."""
    shown = [views[frame].look_at(frame) for frame in frames]
    return list(zip(shown, pipeline.detector.detect(shown), strict=True))


def _admit_and_follow(
    frame: Frame, shown: Frame, raw: RawDetections, pipeline: Pipeline, view: View
) -> list[Detection]:
    """The frame's detections of `min_score` or more, each with its track where it has one.

    The tracker sees the lower ones too: an object half hidden is found, only less surely. It sees
    each frame once, whatever was tried again before.
    """
    detections = view.pick(frame, admit(shown, raw, pipeline.detector))
    if view.track and pipeline.tracks:
        detections = pipeline.tracks.follow(frame, detections)
    min_score = pipeline.min_score if view.min_score is None else view.min_score
    sure = [detection for detection in detections if detection.score >= min_score]
    return sure[: view.max_detections]


def _label(
    pipeline: Pipeline,
    views: Mapping[Frame, View],
    found: Sequence[list[Detection] | FrameFailure],
    watch: Stopwatch,
) -> list[dict[int, CarriedLabel[Label]]]:
    if pipeline.classifier is None:
        return [{} for _ in views]
    wanted = [
        of_frame if view.classify else []
        for of_frame, view in zip(found, views.values(), strict=True)
    ]
    return label_batch(
        list(views),
        wanted,
        pipeline.classifier,
        pipeline.carried,
        pipeline.device,
        pipeline.min_crop_px,
        pipeline.budget,
        watch,
        pipeline.health,
    )


def _read(
    pipeline: Pipeline,
    views: Mapping[Frame, View],
    found: Sequence[list[Detection] | FrameFailure],
    watch: Stopwatch,
) -> list[FrameTexts]:
    if pipeline.text is None:
        return [NOTHING_READ for _ in views]
    return read_batch(
        list(views),
        found,
        [view.region for view in views.values()],
        pipeline.text,
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
