"""The boundary behind the detector: its output becomes detections, or is refused by name."""

from collections.abc import Sequence

from pydantic import ValidationError

from contracts.boxes import BoxXYXY, box_fault, clamp_box, first_pixel_only
from contracts.errors import ContractViolation
from contracts.frame import Frame
from contracts.messages import Detection, MaskRle
from pipeline.detect import Detector, RawDetections

# A thousandth of a pixel and a millionth of a score: finer is noise of float32.
BOX_DECIMALS = 3
SCORE_DECIMALS = 6


def admit(frame: Frame, raw: RawDetections, detector: Detector) -> list[Detection]:
    """The frame's detections, boxes clamped to the frame where they merely stick out of it.

    Raises ContractViolation that names the detector, the box and the frame where a box can't be a
    box of this frame (the line is drawn in `contracts.boxes`), a score lies outside [0, 1], or a
    class id has no name, or where all its boxes lie in the first pixel, as normalised ones do.
    Nothing of such a frame is kept: the other boxes are no better.
    """
    columns = (raw.boxes_xyxy.tolist(), raw.scores.tolist(), raw.class_ids.tolist())
    masks: Sequence[MaskRle | None] = raw.masks or [None] * len(raw.scores)
    detections = [
        _admit_one(frame, detector, tuple(box), score, class_id, mask)
        for box, score, class_id, mask in zip(*columns, masks, strict=True)
    ]
    if first_pixel_only(columns[0], frame.width, frame.height):
        fault = "as all boxes of the frame, within the first pixel; are they in normalised units?"
        raise _violation(frame, detector, columns[0][0], fault)
    return detections


def _admit_one(
    frame: Frame,
    detector: Detector,
    box_xyxy: BoxXYXY,
    score: float,
    class_id: int,
    mask: MaskRle | None,
) -> Detection:
    fault = box_fault(box_xyxy, frame.width, frame.height)
    if fault is None and not 0 <= class_id < len(detector.class_names):
        fault = f"class id {class_id} has no name among {len(detector.class_names)}"
    if fault:
        raise _violation(frame, detector, box_xyxy, fault)
    clamped = clamp_box(box_xyxy, frame.width, frame.height)
    try:
        return Detection(
            box=rounded(clamped),
            score=round(score, SCORE_DECIMALS),
            class_id=class_id,
            class_name=detector.class_names[class_id],
            mask_rle=mask,
        )
    except ValidationError as error:
        raise _violation(frame, detector, box_xyxy, error.errors()[0]["msg"]) from error


def rounded(box_xyxy: BoxXYXY) -> BoxXYXY:
    x1, y1, x2, y2 = (round(value, BOX_DECIMALS) for value in box_xyxy)
    return x1, y1, x2, y2


def _violation(
    frame: Frame, detector: Detector, box_xyxy: Sequence[float], fault: str
) -> ContractViolation:
    box = ", ".join(f"{value:.6g}" for value in box_xyxy)
    return ContractViolation(
        f"detector {detector.identity.name}: box ({box}) of frame "
        f"{frame.source_id}#{frame.frame_index} ({frame.width}×{frame.height}): {fault}"
    )
