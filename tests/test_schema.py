"""The JSON Schemas in contracts/schema are those of the code."""

import json

import pytest

from scripts.schema import DIALECT, FOLDER, schemas
from tests.messages import (
    frame_failure,
    frame_result,
    image_result,
    source_end,
    source_event,
    status,
)

SENT = {
    "frame_result.json": frame_result(),
    "frame_failure.json": frame_failure(),
    "source_event.json": source_event(),
    "source_end.json": source_end(),
    "status.json": status(),
    "image_result.json": image_result(),
}


@pytest.mark.parametrize("name", schemas())
def test_schema_on_disk_is_the_one_that_the_code_gives(name: str) -> None:
    expected = schemas()[name]
    written = (FOLDER / name).read_bytes()
    assert written == expected.encode(), "run `python -m scripts.schema` and commit the result"


def test_no_other_schema_lies_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(schemas())


@pytest.mark.parametrize("name", schemas())
def test_schema_says_its_dialect_title_and_description(name: str) -> None:
    schema = json.loads(schemas()[name])
    assert schema["$schema"] == DIALECT
    assert schema["title"]
    assert schema["description"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", SENT)
def test_schema_requires_exactly_the_keys_that_are_sent(name: str) -> None:
    schema = json.loads(schemas()[name])
    assert set(schema["required"]) == set(json.loads(SENT[name].model_dump_json()))
