"""What stands around a message on ZeroMQ: three parts, `[topic, header, payload]`, and who counts.

docs/wire.md is the page for people; this is the same for programs, and needs only pydantic. The
payload is one of `contracts.messages`, or a `Heartbeat`, which is the wire's own.

The header is a part of its own, not keys of the payload: what is sent is the very line that is
written to files, and a subscriber can tell a loss, a restart or a newer version before it reads
any of it.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from contracts.errors import BrokenMessage, UnknownVersion
from contracts.messages import (
    AnyMessage,
    Code,
    FrameFailure,
    FrameResult,
    Message,
    SourceEnd,
    SourceEvent,
    Status,
    parse_message,
)

WIRE_VERSION = 1
HEARTBEAT_TOPIC = "heartbeat/"

PublisherId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Header(Message):
    """Who sent this message, when, and which of its topic it is."""

    v: PositiveInt = Field(default=WIRE_VERSION, description="of the wire; first in every version")
    publisher: PublisherId = Field(description="random, another one after each start")
    sequence: NonNegativeInt = Field(description="of the topic's messages, without gaps from 0")
    sent_at_ns: NonNegativeInt = Field(description="wall clock, nanoseconds since 1970 in UTC")
    schema_name: str = Field(description="the payload's, to be told without reading it")
    schema_version: PositiveInt


class Heartbeat(Message):
    """Sent each second and at the end: how far each topic is, so that silence is no loss."""

    schema_name: Literal["framewire.heartbeat"] = "framewire.heartbeat"
    schema_version: Literal[1] = 1
    latest: dict[str, NonNegativeInt] = Field(description="topic to its latest sequence")


class CatchupRequest(Message):
    """Asks for messages that were published a moment ago."""

    v: PositiveInt = WIRE_VERSION
    topic: str
    publisher: PublisherId | None = Field(description="whose sequence it is; null: whoever answers")
    from_sequence: NonNegativeInt | None = Field(
        description="messages of this very topic from here on; null: the last event of each topic "
        "that begins so"
    )


class CatchupAnswer(Message):
    """The first part of an answer; the parts of `count` messages follow, three each."""

    v: PositiveInt = WIRE_VERSION
    publisher: PublisherId
    count: NonNegativeInt = 0
    more: bool = Field(default=False, description="there are more: ask again from the next one on")
    code: Code | None = Field(default=None, description="why there is no answer; else null")
    message: str = ""


VERSIONS: dict[str, int] = {
    kind.model_fields["schema_name"].default: kind.model_fields["schema_version"].default
    for kind in (FrameResult, FrameFailure, SourceEvent, SourceEnd, Status, Heartbeat)
}
"""The newest version that is understood of each message."""


class _Versioned(Message):
    """All that is certain of a header of any version."""

    v: PositiveInt


def read_header(parts: Sequence[bytes]) -> tuple[str, Header]:
    """The topic and the header of one ZeroMQ message. UnknownVersion, BrokenMessage.

    Keys that are not known here are ignored, as in `read_payload`: within a version, keys may be
    added.
    """
    topic = parts[0].decode(errors="replace") if parts else ""
    header = _parsed(topic, parts[1]) if len(parts) > 1 else None
    if header is None or len(parts) != 3:
        raise BrokenMessage(f"{topic}: expected topic, header and payload, got {len(parts)} parts")
    if header.schema_version > VERSIONS.get(header.schema_name, 0):
        raise UnknownVersion(
            f"{topic}: {header.schema_name} version {header.schema_version} is not known here; "
            "update the subscriber"
        )
    return topic, header


def read_payload(topic: str, header: Header, payload: bytes) -> AnyMessage | Heartbeat:
    """The message itself. BrokenMessage where it breaks the contract."""
    try:
        if header.schema_name == "framewire.heartbeat":
            return Heartbeat.model_validate_json(payload, extra="ignore")
        return parse_message(payload, unknown_keys="ignore")
    except ValidationError as error:
        raise BrokenMessage(f"{topic}: breaks the contract: {_first_fault(error)}") from error


def _parsed(topic: str, text: bytes) -> Header:
    try:
        version = _Versioned.model_validate_json(text, extra="ignore").v
        if version > WIRE_VERSION:
            raise UnknownVersion(
                f"{topic}: the wire's version is {version}, this reads up to {WIRE_VERSION}; "
                "update the subscriber"
            )
        return Header.model_validate_json(text, extra="ignore")
    except ValidationError as error:
        raise BrokenMessage(f"{topic}: the header is broken: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, on one line."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def matches(topic: str, prefixes: Iterable[str]) -> bool:
    """True where a subscription to one of the prefixes brings the topic; `""` brings all."""
    return topic.startswith(tuple(prefixes))


def is_local(endpoint: str) -> bool:
    """True where only this machine can reach it."""
    local = ("tcp://127.", "tcp://localhost:", "tcp://[::1]:", "tcp://lo:", "ipc://")
    return endpoint.startswith(local)
