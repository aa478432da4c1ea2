"""One batch through the models: detect → admit → crop → classify → read → assemble → filter."""

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, TypeVar

from contracts.errors import InferenceError
from contracts.frame import Frame, fail
from contracts.messages import Detection, FrameFailure, FrameResult, StageTimes
from pipeline.admit import admit
from pipeline.assemble import assemble
from pipeline.carry import CarriedLabel
from pipeline.classify import Label
from pipeline.contain import contain, without_trace
from pipeline.detect import RawDetections
from pipeline.filters import Sight
from pipeline.filters.sift import Answer, sift
from pipeline.label import label_batch
from pipeline.stopwatch import NEVER_QUEUED, Stopwatch
from pipeline.text.read import NOTHING_READ, FrameTexts, read_batch
from pipeline.view import View

if TYPE_CHECKING:
    from pipeline.inference import Pipeline

AS_ITS_SOURCE: Mapping[Frame, View] = MappingProxyType({})
Made = TypeVar("Made")
Rest = ParamSpec("Rest")


def look(
    pipeline: "Pipeline",
    frames: Sequence[Frame],
    taken_ns: Mapping[Frame, int] = NEVER_QUEUED,
    wishes: Mapping[Frame, View] = AS_ITS_SOURCE,
) -> list[Answer]:
    """One answer a frame, in their order. A frame that the models can't take fails alone.

    `taken_ns` says when each was taken from its queue, `wishes` how one is to be looked at that is
    not of a source: whoever sent it holds its pixels too.
    """
    watch = Stopwatch(taken_ns)
    views = {frame: wishes.get(frame) or pipeline.view(frame) for frame in frames}
    with watch.stage("detect"):
        seen = contain(partial(_detect, pipeline, views), frames, pipeline.health)
    with watch.stage("assemble"):
        admitted = [
            fail(frame, what)
            if isinstance(what, InferenceError)
            else _or_fail(frame, _admit_and_follow, *what, pipeline, views[frame])
            for frame, what in zip(frames, seen, strict=True)
        ]
    found = [one if isinstance(one, FrameFailure) else one.reported for one in admitted]
    labels = _label(pipeline, views, found, watch)
    texts = _read(pipeline, views, found, watch)
    results = [
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
    return _filter(pipeline, views, results, admitted, wishes, watch)


def _detect(
    pipeline: "Pipeline", views: Mapping[Frame, View], frames: Sequence[Frame]
) -> list[tuple[Frame, RawDetections]]:
    """What the detector was shown of each frame, and what it says of that."""
    shown = [views[frame].look_at(frame) for frame in frames]
    return list(zip(shown, pipeline.detector.detect(shown), strict=True))


class _Found(NamedTuple):
    """What the detector found in a frame: what is reported, and what only filters look at."""

    reported: list[Detection]
    others: list[Detection]


def _admit_and_follow(
    frame: Frame, shown: Frame, raw: RawDetections, pipeline: "Pipeline", view: View
) -> _Found:
    """The frame's detections of `min_score` or more, each with its track where it has one.

    The tracker sees the lower ones too: an object half hidden is found, only less surely. It sees
    each frame once, whatever was tried again before.
    """
    admitted = admit(shown, raw, pipeline.detector)
    detections = view.pick(frame, admitted)
    if view.track and pipeline.tracks:
        detections = pipeline.tracks.follow(frame, detections)
    min_score = pipeline.min_score if view.min_score is None else view.min_score
    sure = [position for position, one in enumerate(detections) if one.score >= min_score]
    positions = sure[: view.max_detections]
    reported = [detections[position] for position in positions]
    if not pipeline.filters:
        return _Found(reported, [])
    taken = set(positions)
    left = [one for position, one in enumerate(detections) if position not in taken]
    return _Found(reported, left + view.pass_over(frame, admitted))


def _label(
    pipeline: "Pipeline",
    views: Mapping[Frame, View],
    found: Sequence[list[Detection] | FrameFailure],
    watch: Stopwatch,
) -> list[dict[int, CarriedLabel[Label]]]:
    if pipeline.classifier is None:
        return [{} for _ in views]
    by_label = any(each.by_label for each in pipeline.filters)
    wanted = [
        of_frame if view.classify or by_label else []
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
    pipeline: "Pipeline",
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


def _filter(
    pipeline: "Pipeline",
    views: Mapping[Frame, View],
    results: Sequence[FrameResult | FrameFailure],
    admitted: Sequence[_Found | FrameFailure],
    shared: Container[Frame],
    watch: Stopwatch,
) -> list[Answer]:
    """What leaves. Of a frame that failed no picture does: nobody knows what it shows."""
    if not pipeline.filters:
        return [
            Answer(result, frame if isinstance(result, FrameResult) else None)
            for frame, result in zip(views, results, strict=True)
        ]
    sights = {
        frame: Sight(frame, result, found.others, view.region)
        for (frame, view), result, found in zip(views.items(), results, admitted, strict=True)
        if isinstance(result, FrameResult) and isinstance(found, _Found)
    }
    with watch.stage("filter"):
        class_count = len(pipeline.detector.class_names)
        sifted = sift([*sights.values()], pipeline.filters, class_count, shared, pipeline.health)
    answers = dict(zip(sights, sifted, strict=True))
    return [
        _timed(answers[frame], watch.times_of(frame)) if frame in answers else Answer(failure)
        for frame, failure in zip(views, results, strict=True)
    ]


def _timed(answer: Answer, stage_ms: StageTimes) -> Answer:
    """With the time that filtering took."""
    if isinstance(answer.message, FrameFailure):
        return answer
    return answer._replace(message=answer.message.model_copy(update={"stage_ms": stage_ms}))


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
