"""What must be true of each answer by itself."""

import math
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from contracts.boxes import BoxXYXY
from contracts.messages import ImageResult
from scripts.review.answers import Answer
from scripts.review.findings import Findings
from scripts.review.geometry import FORMATS
from scripts.review.read import is_number, pick, plain, walk

OUTSIDE_PX = 1.0
"""How far a rounded box may reach out of the picture."""
ROUNDING_MS = 1.0
DURATION = re.compile(
    r"(?i)(?:^|_)(?:time|latency|duration|elapsed|took|inference|preprocess|postprocess)"
)
HASH = re.compile(r"(?:sha256:)?[0-9a-fA-F]{8,128}")


def check_box_there(findings: Findings, answer: Answer) -> None:
    """Each detection has four numbers."""
    for index, found in enumerate(answer.found):
        if found.box is None:
            findings.report("box_missing", answer.exchange, f"detection {index} has no box")


def check_boxes(findings: Findings, answer: Answer, reading: str) -> None:
    """Each box is ordered and inside the picture, read in the format that it is in."""
    width, height = answer.picture.size
    for index, found in enumerate(answer.found):
        if found.box is None:
            continue
        x1, y1, x2, y2 = box = FORMATS[reading].decode(found.box, width, height)
        if not (x1 < x2 and y1 < y2):
            findings.report("box_unordered", answer.exchange, f"detection {index}: {_box(box)}")
        elif min(x1, y1) < -OUTSIDE_PX or x2 > width + OUTSIDE_PX or y2 > height + OUTSIDE_PX:
            text = f"detection {index}: {_box(box)} in {width} × {height} pixels"
            findings.report("box_outside", answer.exchange, text)


def check_scores(findings: Findings, answer: Answer) -> None:
    """Each score is a number in [0, 1]."""
    for index, found in enumerate(answer.found):
        text = f"detection {index}: score {found.score!r}"
        if not is_number(found.score):
            findings.report("score_missing", answer.exchange, text)
        elif not 0 <= found.score <= 1 and not math.isnan(found.score):
            findings.report("score_out_of_range", answer.exchange, text)


def check_class(findings: Findings, answer: Answer) -> None:
    """Each detection has a class, and the class a name."""
    for index, found in enumerate(answer.found):
        if found.class_key is None:
            findings.report("class_missing", answer.exchange, f"detection {index}")
        elif found.class_name is None:
            text = f"detection {index}: class {found.class_id} has no name"
            findings.report("class_name_missing", answer.exchange, text)


def check_size_told(findings: Findings, answer: Answer) -> None:
    """Width and height, where they are told, are those of the upright picture."""
    told = size_told(answer.body)
    width, height = answer.picture.size
    if told not in (None, (width, height)):
        text = f"told {told[0]} × {told[1]}, is {width} × {height}" if told else ""
        findings.report("image_size_wrong", answer.exchange, text)


def size_told(body: Any) -> tuple[int, int] | None:
    """What the answer says of the picture's size, at its top or under `image`."""
    if not isinstance(body, dict):
        return None
    inner = body.get("image")
    holder: dict[str, Any] = inner if isinstance(inner, dict) else body
    width, height = (pick(holder, (name,), is_number) for name in ("width", "height"))
    return None if width is None or height is None else (width, height)


def check_model(findings: Findings, answer: Answer) -> None:
    """The answer says which model and which weights made it."""
    said = [*walk(answer.body), *answer.exchange.headers.items()]
    named = [value for key, value in said if "model" in plain(key) and value]
    hashes = [
        value
        for key, value in said
        if re.search("sha|hash|digest|checksum|weights", plain(key)) and isinstance(value, str)
    ]
    if not named:
        findings.report("model_unnamed", answer.exchange, "no key speaks of a model")
    if not any(HASH.fullmatch(value) for value in hashes):
        findings.report("weights_hash_missing", answer.exchange, "no hash of the weights")


def check_timings(findings: Findings, answer: Answer) -> None:
    """Durations are there, not negative, and not longer than the request."""
    durations = list(_durations(answer.body))
    if not durations:
        findings.report("timing_missing", answer.exchange, "no key speaks of a duration")
    wall_ms = answer.exchange.wall_ms
    for key, value, unit_ms in durations:
        if value < 0:
            findings.report("timing_negative", answer.exchange, f"{key} {value:g}")
        elif unit_ms and value * unit_ms > wall_ms + ROUNDING_MS:
            text = f"{key} {value:g}, but the whole request took {wall_ms:.1f} ms"
            findings.report("timing_too_long", answer.exchange, text)


def _durations(body: Any) -> Iterator[tuple[str, float, float | None]]:
    """Key, value and milliseconds of its unit, None where the key doesn't say the unit."""
    for key, value in walk(body):
        if not is_number(value):
            continue
        if re.search("(?:_|[a-z](?=M))(?:ms|Ms|MS)$", key) or plain(key) == "ms":
            yield key, value, 1.0
        elif DURATION.search(key) and not re.search("(?i)stamp|unix|epoch|_at$", key):
            seconds = re.search("_(?:s|sec|secs|seconds)$", key)
            yield key, value, 1e3 if seconds else None


def check_contract(findings: Findings, answer: Answer) -> None:
    """What looks like framewire's answer is one, to the last key."""
    try:
        ImageResult.model_validate_json(answer.exchange.content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        findings.report("contract_broken", answer.exchange, f"{where}: {fault['msg']}")


def _box(box: BoxXYXY) -> str:
    return f"({', '.join(f'{value:g}' for value in box)})"
