"""What is left of a frame when all filters have spoken: its result, and its picture."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from contracts.boxes import BoxXYXY
from contracts.frame import Frame
from contracts.messages import Classification, Detection, FrameResult, Text
from contracts.quads import bounds_of
from pipeline.filters import Part, Sight, Verdict
from pipeline.filters.pixelate import pixelate
from pipeline.region import window_of

REDACTED = "redacted"
"""What a detection is called whose class is withheld."""

Verdicts = Mapping[str, Verdict]
"""By the filter's name, in their order."""

Hidden = Mapping[Part, set[int]]
"""Positions of the detections of which this part is withheld."""


def result_of(sight: Sight, verdicts: Verdicts, class_count: int) -> FrameResult:
    """The result without what is withheld, and how much that is.

    `class_count` is that of the detector: it is the id of a class that is withheld.
    """
    result = sight.result
    if blocking := _blocking(verdicts):
        # How much of what was found would tell of the content too.
        nothing = {"detections": (), "classifications": (), "texts": ()}
        told = {"filtered": dict.fromkeys(blocking, 1), "degraded": sight.frame.degraded}
        return result.model_copy(update=nothing | told)
    hidden = _hidden(verdicts)
    kept = [
        position
        for position in range(len(result.detections))
        if position not in hidden["detection"]
    ]
    moved = {position: index for index, position in enumerate(kept)}
    left = {
        "detections": tuple(
            _redacted(result.detections[position], position, hidden, class_count)
            for position in kept
        ),
        "classifications": tuple(_classifications(result, hidden, moved)),
        "texts": tuple(_texts(sight, hidden, moved)),
        "filtered": _counts(sight, verdicts),
    }
    return result.model_copy(update=left)


def picture_of(sight: Sight, verdicts: Verdicts, in_place: bool) -> Frame:
    """The frame as it may be shown: itself where nothing is to be blurred, else a copy.

    `in_place`: its own pixels are blurred, as somebody else holds them too.
    """
    frame = sight.frame
    boxes = list(_blurred_boxes(sight, verdicts))
    if not boxes:
        return frame
    image_hwc = frame.image_hwc if in_place else frame.image_hwc.copy()
    for box in boxes:
        pixelate(image_hwc, box)
    return frame if in_place else dataclasses.replace(frame, image_hwc=image_hwc)


def _blocking(verdicts: Verdicts) -> list[str]:
    return [name for name, verdict in verdicts.items() if verdict.whole == "block"]


def _hidden(verdicts: Verdicts) -> Hidden:
    hidden: dict[Part, set[int]] = defaultdict(set)
    for verdict in verdicts.values():
        for part in verdict.parts:
            hidden[part] |= verdict.positions
    return hidden


def _redacted(detection: Detection, position: int, hidden: Hidden, class_count: int) -> Detection:
    changes: dict[str, object] = {}
    if position in hidden["class"]:
        changes |= {"class_id": class_count, "class_name": REDACTED}
    if position in hidden["mask"]:
        changes["mask_rle"] = None
    return detection.model_copy(update=changes) if changes else detection


def _classifications(
    result: FrameResult, hidden: Hidden, moved: Mapping[int, int]
) -> Iterator[Classification]:
    """None at all where only filters had asked for labels."""
    for item in result.classifications if result.models.classifier else ():
        position = item.detection_index
        if position in moved and position not in hidden["label"]:
            yield item.model_copy(update={"detection_index": moved[position]})


def _texts(sight: Sight, hidden: Hidden, moved: Mapping[int, int]) -> Iterator[Text]:
    """A text is withheld with what it was read on, and wherever it touches the box of such a thing:
    the same letters may be read in the whole frame, or on a larger object.
    """
    silent = [sight.detections[position].box for position in hidden["text"]]
    for text in sight.result.texts:
        position = text.detection_index
        if position in hidden["text"] or _touches_any(bounds_of(text.quad), silent):
            continue
        index = None if position is None else moved[position]
        yield text.model_copy(update={"detection_index": index})


def _touches_any(box: BoxXYXY, others: Sequence[BoxXYXY]) -> bool:
    x1, y1, x2, y2 = box
    return any(
        x1 < right and left < x2 and y1 < low and top < y2 for left, top, right, low in others
    )


def _counts(sight: Sight, verdicts: Verdicts) -> dict[str, int]:
    """By filter, the detections of which it withholds something that no filter before it did.

    Of what nobody asked for only the pixels would leave. A frame that is flagged counts as one.
    """
    gone: dict[int, set[Part]] = defaultdict(set)
    counts: dict[str, int] = {}
    for name, verdict in verdicts.items():
        counts[name] = int(verdict.whole is not None)
        for position in verdict.positions:
            reported = position < len(sight.result.detections)
            parts = verdict.parts if reported else verdict.parts & {"pixels"}
            counts[name] += not parts <= gone[position]
            gone[position] |= parts
    return {name: count for name, count in counts.items() if count}


def _blurred_boxes(sight: Sight, verdicts: Verdicts) -> Iterator[BoxXYXY]:
    width, height = float(sight.frame.width), float(sight.frame.height)
    if _blocking(verdicts):
        yield 0.0, 0.0, width, height
        return
    for position in sorted(_hidden(verdicts)["pixels"]):
        yield sight.detections[position].box
    if sight.region and any(verdict.unseen_too for verdict in verdicts.values()):
        x1, y1, x2, y2 = window_of(sight.region, sight.frame.width, sight.frame.height)
        around = (0, 0, width, y1), (0, y2, width, height), (0, y1, x1, y2), (x2, y1, width, y2)
        yield from (box for box in around if box[0] < box[2] and box[1] < box[3])
