"""The inference thread: gather → look → hand over."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from contracts.errors import BadSetting
from contracts.frame import Delivery, Frame
from contracts.messages import FrameFailure, FrameResult, Models, SourceEnd, SourceEvent
from contracts.settings import SourceSettings
from contracts.upload import Upload
from pipeline.batcher import Batcher, Taken
from pipeline.breaker import Breaker
from pipeline.budget import Budget
from pipeline.carry import Carried
from pipeline.classify import Classifier, Label
from pipeline.contain import InferenceHealth
from pipeline.detect import Detector
from pipeline.filters import Filter
from pipeline.filters.sift import Answer
from pipeline.look import look
from pipeline.number import DropsBefore, Message, Numbering
from pipeline.stretches import Stretches
from pipeline.text.read import TextHead
from pipeline.view import WHOLE, View, view_for, view_of

if TYPE_CHECKING:
    from pipeline.track import Tracks

Item = Frame | FrameFailure | SourceEvent | SourceEnd | Upload


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
    filters: Sequence[Filter] = ()

    @property
    def models(self) -> Models:
        """Which weights speak."""
        return Models(
            detector=self.detector.identity,
            classifier=self.classifier.identity if self.classifier else None,
            text=self.text.reader.identity if self.text else None,
            filters={each.name: each.identity for each in self.filters if each.identity},
        )

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
            for item, message, frame in _answers(pipeline, breaker, stretches, batch):
                if isinstance(item, Upload) and isinstance(message, FrameResult | FrameFailure):
                    batcher.uploads.settle(item, message)
                    continue
                if isinstance(message, SourceEnd):
                    # Before it is out: after that its name may be in use again.
                    for keeper in (pipeline, numbering, stretches):
                        keeper.forget(message.source_id)
                outbox.put(Delivery(numbering.number(message), frame))
            # Not held while the next one is waited for: it has the pixels.
            del batch
    finally:
        outbox.close()


def _answers(
    pipeline: Pipeline, breaker: Breaker, stretches: Stretches, batch: Sequence[Taken]
) -> list[tuple[Item, Message, Frame | None]]:
    """For each item the message that leaves, and the picture where one leaves with it."""
    frames = {_frame_of(one.item): one for one in batch if isinstance(one.item, Frame | Upload)}
    answers = dict(zip(frames, _infer_or_refuse(pipeline, breaker, frames), strict=True))
    stretches.log(one.message for frame, one in answers.items() if frames[frame].item is frame)
    return [
        (item, *answers[_frame_of(item)])
        if isinstance(item, Frame | Upload)
        else (item, item, None)
        for item, _ in batch
    ]


def _frame_of(item: Frame | Upload) -> Frame:
    return item.frame if isinstance(item, Upload) else item


def _infer_or_refuse(
    pipeline: Pipeline, breaker: Breaker, frames: Mapping[Frame, Taken]
) -> Sequence[Answer]:
    """One answer a frame: what the models say of it, or that they are out of order."""
    if breaker.refuses:
        return [Answer(breaker.refuse(frame)) for frame in frames]
    if not frames:
        return []
    taken_ns = {frame: one.taken_ns for frame, one in frames.items()}
    wishes = {
        frame: view_for(one.item.wishes)
        for frame, one in frames.items()
        if isinstance(one.item, Upload)
    }
    with pipeline.health.busy():
        answers = look(pipeline, list(frames), taken_ns, wishes)
    pipeline.health.count("batches")
    breaker.saw([one.message for one in answers], pipeline.health.now.crops)
    return answers


def infer(pipeline: Pipeline, frames: Sequence[Frame]) -> list[FrameResult | FrameFailure]:
    """One message a frame, as `look` gives them."""
    return [answer.message for answer in look(pipeline, frames)]
