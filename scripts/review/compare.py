"""What shows only when answers are laid beside each other."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contracts.boxes import BoxXYXY
from scripts.review.answers import Answer
from scripts.review.client import Exchange
from scripts.review.fields import size_told
from scripts.review.findings import Findings
from scripts.review.geometry import (
    CLEARLY_BETTER,
    FORMATS,
    Reading,
    Seen,
    agreement,
    boxes_of,
    overlap,
    read_format,
)
from scripts.review.pictures import Shape, turned
from scripts.review.read import Found, is_number, plain, walk

SAME_PLACE = 0.005
"""Of the largest number of the box."""
SAME_SCORE = 0.02
ON_SHAPE = 0.5
TRACE_KEYS = ("traceid", "requestid", "correlationid", "inferenceid")
TRACE_HEADERS = (
    "x-trace-id",
    "x-request-id",
    "x-correlation-id",
    "request-id",
    "traceparent",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
)


def check_format(
    findings: Findings, first: Answer, others: Sequence[Answer], shapes: Sequence[Shape]
) -> str:
    """The format in which the boxes are to be read; where it isn't the promised, that is told."""
    if not any(found.box for found in first.found):
        return "xyxy"
    if others and all(_numbers(other) == _numbers(first) for other in others):
        text = "the same boxes as for first.png, though all that is in it is elsewhere"
        findings.report("answer_is_canned", others[0].exchange, text)
        return "xyxy"
    known = [shape.box_xyxy for shape in shapes]
    reading = read_format(first.seen, [other.seen for other in others], known)
    if reading.mistaken:
        findings.report(FORMATS[reading.best].code, first.exchange, _told(reading, first))
    elif not reading.told:
        findings.report("format_untold", first.exchange, _told(reading, first))
    return reading.name


def _numbers(answer: Answer) -> list[object]:
    return [found.box for found in answer.found]


def _told(reading: Reading, first: Answer) -> str:
    box = next(found.box for found in first.found if found.box)
    numbers = ", ".join(f"{value:g}" for value in box)
    return f"boxes such as ({numbers}): {reading}"


def check_exif(
    findings: Findings, first: Answer, by_turn: Mapping[int, Answer], reading: str
) -> None:
    """Boxes and sizes are those of the upright picture."""
    if not first.found:
        return
    size = first.picture.size
    trusted = size_told(first.body) == size
    for turn, answer in by_turn.items():
        stored_size = size[::-1] if turn >= 5 else size
        upright = agreement(first.seen, answer.seen, reading)
        as_stored = agreement(
            first.seen, Seen(answer.found, stored_size, turned(size, turn)), reading
        )
        told = size_told(answer.body)
        if as_stored - upright > CLEARLY_BETTER or (trusted and told == stored_size != size):
            text = f"EXIF orientation {turn}, but the boxes are those of the file as it lies"
            findings.report("exif_ignored", answer.exchange, text)
        elif upright < ON_SHAPE and not (trusted and told == size != stored_size):
            findings.report("exif_untold", answer.exchange, f"EXIF orientation {turn}")


def check_class_names(findings: Findings, answers: Iterable[Answer]) -> None:
    """A class id has one name, and a name one class id, over all answers."""
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for answer in answers:
        for found in answer.found:
            if found.class_id is None or found.class_name is None:
                continue
            name = names.setdefault(found.class_id, found.class_name)
            number = ids.setdefault(found.class_name, found.class_id)
            if number != found.class_id:
                text = f"{found.class_name} is class {number} and class {found.class_id}"
                findings.report("class_name_shared", answer.exchange, text)
            elif name != found.class_name:
                text = f"class {found.class_id} is {name} and {found.class_name}"
                findings.report("class_id_renamed", answer.exchange, text)


def check_colours(
    findings: Findings, first: Answer, swapped: Answer | None, shapes: Sequence[Shape], reading: str
) -> None:
    """Names that tell colours are those of the picture, not of one with red and blue swapped."""
    right = _named_by_hue(first, shapes, reading)
    wrong = _named_by_hue(swapped, shapes, reading) if swapped else []
    if len(wrong) > len(right):
        text = f"only with red and blue swapped is it {', '.join(wrong)}"
        findings.report("colours_swapped", first.exchange, text)
    elif not right:
        findings.report("colours_untold", first.exchange, "no name that was given tells a colour")


def _named_by_hue(answer: Answer, shapes: Sequence[Shape], reading: str) -> list[str]:
    """For each shape that was found, the word by which its colour was known, where there is one."""
    hues = []
    for shape in shapes:
        words = {
            word
            for found, box in _located(answer, reading)
            if overlap(box, shape.box_xyxy) > ON_SHAPE
            for word in found.labels & shape.hues
        }
        hues += sorted(words)[:1]
    return hues


def _located(answer: Answer, reading: str) -> Iterable[tuple[Found, BoxXYXY]]:
    with_box = [found for found in answer.found if found.box is not None]
    boxes = [box for _, box in boxes_of(answer.seen, reading)]
    return zip(with_box, boxes, strict=True)


def difference(one: Answer, other: Answer) -> str | None:
    """What differs by more than rounding between two results of the same pixels, or None."""
    if len(one.found) != len(other.found):
        return f"{len(one.found)} and {len(other.found)} detections"
    rest = list(other.found)
    for found in one.found:
        same = next((item for item in rest if _same(found, item)), None)
        if same is None:
            return f"{found.class_name or found.class_id} {found.score} at {found.box}: only once"
        rest.remove(same)
    return None


def _same(one: Found, other: Found) -> bool:
    """The numbers of a box are compared as they are, whatever they mean."""
    if one.class_key != other.class_key or (one.box is None) != (other.box is None):
        return False
    return _near(one, other) and _as_sure(one.score, other.score)


def _as_sure(one: Any, other: Any) -> bool:
    if is_number(one) and is_number(other) and math.isfinite(one) and math.isfinite(other):
        return bool(abs(one - other) <= SAME_SCORE)
    return str(one) == str(other)


def _near(one: Found, other: Found) -> bool:
    if one.box is None or other.box is None:
        return True
    rounding = SAME_PLACE * max(map(abs, one.box))
    pairs = zip(one.box, other.box, strict=True)
    return one.box == other.box or all(abs(a - b) <= rounding for a, b in pairs)


def check_trace_ids(findings: Findings, exchanges: Iterable[Exchange]) -> None:
    """Each answer names its request, each by another name."""
    seen: dict[str, Exchange] = {}
    for exchange in exchanges:
        trace_id = trace_id_of(exchange)
        if trace_id is None:
            text = "neither in the body nor in a header"
            findings.report("trace_id_missing", exchange, text)
        elif trace_id in seen:
            text = f"{trace_id}, as {seen[trace_id].request.name} before"
            findings.report("trace_id_repeated", exchange, text)
        else:
            seen[trace_id] = exchange


def trace_id_of(exchange: Exchange) -> str | None:
    """What names the request, in the body or in a header."""
    in_body = (value for key, value in walk(exchange.json) if plain(key) in TRACE_KEYS)
    in_header = (exchange.headers.get(name) for name in TRACE_HEADERS)
    return next((str(found) for found in (*in_body, *in_header) if found), None)
