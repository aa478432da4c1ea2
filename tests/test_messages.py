"""What the contract takes, what it refuses, and that messages survive the journey."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.messages import (
    AnyMessage,
    Classification,
    Detection,
    FrameFailure,
    FrameResult,
    LedgerCounts,
    Message,
    PipelineResult,
    SourceEnd,
    StageTimes,
    parse_message,
    topic_of,
)
from tests.messages import (
    BRASS,
    GEAR,
    MODELS,
    STAGES,
    frame_failure,
    frame_result,
    image_result,
    source_end,
    source_event,
    status,
)

EACH: list[AnyMessage] = [
    frame_result(),
    frame_failure(),
    source_event(),
    source_end(),
    status(),
]

names = st.text(max_size=20)
codes = st.from_regex(r"\A[a-z][a-z0-9_]{0,15}\Z")
source_ids = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,12}\Z")
trace_ids = st.from_regex(r"\A[0-9a-f]{32}\Z")
naturals = st.integers(min_value=0, max_value=2**53)
durations = st.floats(min_value=0, max_value=1e9)
scores = st.floats(min_value=0, max_value=1)
times = st.none() | st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC))
counts = st.dictionaries(codes, naturals, max_size=3)


@st.composite
def detections(draw: st.DrawFn, width: int, height: int) -> Detection:
    """A detection whose box lies in the frame and is at least two pixels wide."""
    x1 = draw(st.floats(0, width - 2))
    y1 = draw(st.floats(0, height - 2))
    return Detection(
        box=(x1, y1, draw(st.floats(x1 + 2, width)), draw(st.floats(y1 + 2, height))),
        score=draw(scores),
        class_id=draw(naturals),
        class_name=draw(names),
        track_id=draw(st.none() | naturals),
    )


@st.composite
def frame_results(draw: st.DrawFn) -> FrameResult:
    """Any valid result of a frame."""
    width, height = draw(st.integers(4, 8192)), draw(st.integers(4, 8192))
    found = draw(st.lists(detections(width, height), max_size=4))
    classified = [index for index in range(len(found)) if draw(st.booleans())]
    return FrameResult(
        image_id=draw(names),
        detections=tuple(found),
        classifications=tuple(
            Classification(
                detection_index=index,
                class_id=draw(naturals),
                class_name=draw(names),
                score=draw(scores),
            )
            for index in classified
        ),
        inference_ms=draw(durations),
        source_id=draw(source_ids),
        frame_index=draw(naturals),
        pts_s=draw(times),
        captured_at=draw(moments),
        width=width,
        height=height,
        trace_id=draw(trace_ids),
        batch_size=draw(st.integers(1, 256)),
        stage_ms=StageTimes(**{name: draw(durations) for name in StageTimes.model_fields}),
        models=MODELS,
        degraded=tuple(draw(st.lists(codes, max_size=2))),
    )


failures = st.builds(
    FrameFailure,
    source_id=source_ids,
    frame_index=naturals,
    image_id=names,
    pts_s=times,
    captured_at=moments,
    trace_id=trace_ids,
    code=codes,
    message=names,
)
ends = st.builds(
    SourceEnd,
    source_id=source_ids,
    ended_at=moments,
    code=st.none() | codes,
    message=names,
    ledger=st.builds(
        LedgerCounts,
        captured=naturals,
        delivered=naturals,
        dropped=counts,
        failed=counts,
        in_flight=naturals,
    ),
)


@given(frame_results() | failures | ends)
def test_parsed_message_equals_the_one_that_was_sent(message: AnyMessage) -> None:
    assert parse_message(message.model_dump_json().encode()) == message


@given(frame_results() | failures | ends)
def test_message_is_one_line_of_json(message: AnyMessage) -> None:
    assert "\n" not in message.model_dump_json()


@given(st.binary() | st.text().map(str.encode))
def test_garbage_is_refused_with_a_validation_error(payload: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_message(payload)


@pytest.mark.parametrize("payload", [b"", b"null", b"{}", b"[" * 100_000, b'{"schema_name":1}'])
def test_json_that_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_message(payload)


@pytest.mark.parametrize("message", EACH, ids=topic_of)
def test_message_can_not_be_changed(message: AnyMessage) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        message.schema_version = 1


@pytest.mark.parametrize("message", EACH, ids=topic_of)
def test_unknown_key_is_refused(message: AnyMessage) -> None:
    payload = message.model_dump_json().replace("{", '{"surprise":1,', 1)
    with pytest.raises(ValidationError, match="surprise"):
        parse_message(payload)


@pytest.mark.parametrize("message", EACH, ids=topic_of)
def test_another_schema_version_is_refused(message: AnyMessage) -> None:
    payload = message.model_dump_json().replace('"schema_version":1', '"schema_version":2')
    with pytest.raises(ValidationError, match="schema_version"):
        parse_message(payload)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("model", "fields", "name"),
    [
        (Detection, GEAR.model_dump(), "box"),
        (Detection, GEAR.model_dump(), "score"),
        (Classification, BRASS.model_dump(), "score"),
        (FrameResult, frame_result().model_dump(), "pts_s"),
        (FrameResult, frame_result().model_dump(), "inference_ms"),
        *((StageTimes, STAGES.model_dump(), name) for name in StageTimes.model_fields),
    ],
)
def test_number_that_is_not_finite_is_refused(
    model: type[Message], fields: dict[str, Any], name: str, value: float
) -> None:
    wrong = (value, 12.0, 50.0, 44.0) if name == "box" else value
    with pytest.raises(ValidationError, match=name):
        model(**{**fields, name: wrong})


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_number_that_is_not_finite_is_refused_in_json(text: str) -> None:
    payload = frame_result(inference_ms=24.5).model_dump_json().replace("24.5", text, 1)
    with pytest.raises(ValidationError, match="inference_ms"):
        parse_message(payload)


def test_classification_of_a_detection_that_is_not_there_is_refused() -> None:
    stray = BRASS.model_copy(update={"detection_index": 2})
    with pytest.raises(ValidationError, match="beyond the 2 detections"):
        frame_result(classifications=(BRASS, stray))


def test_two_classifications_of_one_detection_are_refused() -> None:
    with pytest.raises(ValidationError, match="two classifications"):
        PipelineResult(
            image_id="a", detections=(GEAR,), classifications=(BRASS, BRASS), inference_ms=1.0
        )


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ((10.0, 12.0, 161.0, 44.0), "reaches outside the frame"),
        ((-1.0, 12.0, 50.0, 44.0), "reaches outside the frame"),
        ((10.0, 12.0, 50.0, 97.0), "reaches outside the frame"),
        ((30.0, 12.0, 20.0, 44.0), "not ordered"),
    ],
)
def test_box_that_can_not_be_in_its_frame_is_refused(box: tuple[float, ...], fault: str) -> None:
    wrong = Detection(**{**GEAR.model_dump(), "box": box})
    for made in (frame_result, image_result):
        with pytest.raises(ValidationError, match=fault):
            made(detections=(wrong,), classifications=())


@pytest.mark.parametrize(
    "changes",
    [
        {"source_id": "a/b"},
        {"source_id": ""},
        {"source_id": "cam1\n"},
        {"frame_index": -1},
        {"width": 0},
        {"trace_id": "XYZ"},
        {"captured_at": datetime(2025, 3, 1)},
        {"degraded": ("Not A Code",)},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_field_out_of_its_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        frame_result(**changes)


def test_failure_is_not_an_empty_result() -> None:
    parsed = parse_message(frame_failure(code="corrupt_image").model_dump_json())
    assert isinstance(parsed, FrameFailure)
    assert parsed.code == "corrupt_image"


def test_topic_names_the_kind_and_the_source() -> None:
    assert [topic_of(message) for message in EACH] == [
        "frame/cam1/",
        "failure/cam1/",
        "event/cam1/",
        "end/cam1/",
        "status/",
    ]


@given(source_ids, source_ids)
def test_topic_of_one_source_is_no_prefix_of_another_ones(one: str, other: str) -> None:
    first, second = topic_of(source_end(one)), topic_of(source_end(other))
    assert second.startswith(first) == (one == other)


@given(counts, counts, naturals, naturals)
def test_counts_are_balanced_exactly_when_they_add_up(
    dropped: dict[str, int], failed: dict[str, int], delivered: int, in_flight: int
) -> None:
    total = delivered + in_flight + sum(dropped.values()) + sum(failed.values())
    whole = LedgerCounts(
        captured=total, delivered=delivered, dropped=dropped, failed=failed, in_flight=in_flight
    )
    assert whole.balanced
    assert not whole.model_copy(update={"captured": total + 1}).balanced
