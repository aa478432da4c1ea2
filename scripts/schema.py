"""Writes the JSON Schemas of the messages to contracts/schema: `python -m scripts.schema`."""

import json
from pathlib import Path
from typing import Any

from contracts.messages import (
    FrameFailure,
    FrameResult,
    ImageResult,
    Message,
    PipelineResult,
    SourceEnd,
    SourceEvent,
    Status,
)
from contracts.wire import CatchupAnswer, CatchupRequest, Header, Heartbeat

FOLDER = Path(__file__).parents[1] / "contracts" / "schema"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
MESSAGES: dict[str, type[Message]] = {
    "frame_result.json": FrameResult,
    "frame_failure.json": FrameFailure,
    "source_event.json": SourceEvent,
    "source_end.json": SourceEnd,
    "status.json": Status,
    "pipeline_result.json": PipelineResult,
    "image_result.json": ImageResult,
    "wire_header.json": Header,
    "heartbeat.json": Heartbeat,
    "catchup_request.json": CatchupRequest,
    "catchup_answer.json": CatchupAnswer,
}


def schemas() -> dict[str, str]:
    """File name to text, for what is sent: every key of it is there, also those with a default.

    A schema can't say what compares two values: that boxes lie in their frame, and that
    `detection_index` points at a detection. `contracts.messages` checks that as well.
    """
    return {name: text_of(message) for name, message in MESSAGES.items()}


def text_of(message: type[Message]) -> str:
    """The message's JSON Schema, 2020-12, two spaces a level, ended by a newline."""
    schema: dict[str, Any] = {"$schema": DIALECT, **message.model_json_schema(mode="serialization")}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """The files are what the code says."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"wrote contracts/schema/{name}")


if __name__ == "__main__":
    main()
