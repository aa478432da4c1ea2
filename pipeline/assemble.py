"""One message a frame: its detections, its classifications, and how they came about."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from contracts.errors import ContractViolation, InferenceError
from contracts.frame import Frame, fail
from contracts.messages import (
    Classification,
    Detection,
    FrameFailure,
    FrameResult,
    Models,
    StageTimes,
    Text,
)
from contracts.quads import clamp_quad, quad_fault
from pipeline.admit import SCORE_DECIMALS
from pipeline.carry import CarriedLabel
from pipeline.classify import Label
from pipeline.text.read import NOTHING_READ, FoundText, FrameTexts

CROP_TOO_SMALL = "crop_too_small"
"""A detection of the frame is not classified or read: its box has a side below `min_crop_px`."""
CLASSIFIER_FAILED = "classifier_failed"
"""A detection of the frame is not classified: the classifier failed on it."""
CLASSIFIER_TIMEOUT = "classifier_timeout"
"""A detection of the frame is not classified: `classifier_timeout_ms` was over before its turn."""


def assemble(
    frame: Frame,
    detections: Sequence[Detection],
    labels: Mapping[int, CarriedLabel[Label]],
    models: Models,
    label_names: Sequence[str],
    stage_ms: StageTimes,
    batch_size: int,
    texts: FrameTexts = NOTHING_READ,
) -> FrameResult | FrameFailure:
    """The frame's result, validated whole; its failure where a text could not be read.

    `labels` go by detection index, and may lack some. A detection whose label could not be made is
    in the result without it. Raises ContractViolation that names the frame and what is wrong.
    """
    if texts.error:
        return fail(frame, texts.error)
    too_small = models.classifier is not None and len(labels) < len(detections)
    degraded = [CROP_TOO_SMALL] if too_small or texts.left_out else []
    try:
        return FrameResult(
            image_id=frame.image_id,
            detections=tuple(detections),
            classifications=_classifications(labels, label_names),
            texts=tuple(_text(frame, found) for found in texts.found),
            inference_ms=_inference_ms(stage_ms),
            source_id=frame.source_id,
            frame_index=frame.frame_index,
            pts_s=frame.pts_s,
            captured_at=frame.captured_at,
            sent_at=frame.sent_at,
            width=frame.width,
            height=frame.height,
            trace_id=frame.trace_id,
            batch_size=batch_size,
            stage_ms=stage_ms,
            models=models,
            degraded=(*frame.degraded, *degraded, *_unlabelled(labels)),
        )
    except ValidationError as error:
        faults = "; ".join(f"{item['loc']}: {item['msg']}" for item in error.errors())
        raise ContractViolation(f"{frame.source_id}#{frame.frame_index}: {faults}") from error


def _unlabelled(labels: Mapping[int, CarriedLabel[Label]]) -> Iterator[str]:
    """Why there are labels that were not made."""
    if any(isinstance(carried.label, InferenceError) for carried in labels.values()):
        yield CLASSIFIER_FAILED
    if any(carried.label is None for carried in labels.values()):
        yield CLASSIFIER_TIMEOUT


def _classifications(
    labels: Mapping[int, CarriedLabel[Label]], label_names: Sequence[str]
) -> tuple[Classification, ...]:
    return tuple(
        Classification(
            detection_index=index,
            class_id=carried.label.class_id,
            class_name=label_names[carried.label.class_id],
            score=round(carried.label.score, SCORE_DECIMALS),
            classified_at_frame=carried.frame_index,
        )
        for index, carried in sorted(labels.items())
        if isinstance(carried.label, Label)
    )


def _text(frame: Frame, found: FoundText) -> Text:
    """Clamped to the frame where it merely sticks out of it. Raises ContractViolation."""
    quad = found.line.quad
    fault = quad_fault(quad, frame.width, frame.height)
    if fault:
        where = f"{frame.source_id}#{frame.frame_index}"
        # What it says may be what a filter is to withhold.
        raise ContractViolation(f"{where}: text at {quad}: {fault}")
    return Text(
        detection_index=found.detection_index,
        text=found.line.text,
        score=round(found.line.score, SCORE_DECIMALS),
        quad=clamp_quad(quad, frame.width, frame.height),
        read_at_frame=found.read_at_frame,
    )


def _inference_ms(times: StageTimes) -> float:
    return round(times.detect_ms + times.crop_ms + times.classify_ms + times.text_ms, 3)
