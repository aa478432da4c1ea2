"""What leaves the process: one message a frame, validated, frozen, unknown keys refused.

Every captured frame that was not dropped gives exactly one message: a `FrameResult`, or a
`FrameFailure` that says why there is none. A failure is never an empty result. What becomes of a
source is said in `SourceEvent`s, and its last message is its `SourceEnd`. `Status` is the whole
process's. `parse_message` reads any of them and needs only pydantic.

An `ImageResult` answers a request, and goes to nobody else.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    model_validator,
)

from contracts.boxes import box_fault
from contracts.quads import clamp_quad, quad_fault

Score = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SourceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
TraceId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Milliseconds = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Number = Annotated[
    NonNegativeInt,
    Field(description="of the source's results and failures, without gaps from 0"),
]
Drops = Annotated[
    dict[Code, NonNegativeInt],
    Field(description="frames left out on purpose since the last message, by reason"),
]
Degraded = Annotated[tuple[Code, ...], Field(description="codes; empty when whole")]
Filtered = Annotated[
    dict[Code, PositiveInt],
    Field(
        description="by safety filter, the detections that it withheld or altered; 1 where it "
        "blocked or flagged the picture as a whole"
    ),
]


class Message(BaseModel):
    """Frozen; unknown keys are refused."""

    # The JSON Schemas are of what is sent, where every key is there, also those with a default.
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )


class MaskRle(Message):
    """Which pixels of the frame an object covers, in COCO's compressed run-length encoding."""

    size: tuple[PositiveInt, PositiveInt] = Field(description="(height, width) of the frame")
    counts: str = Field(description="runs in column order; pycocotools.mask.decode reads them")


class Detection(Message):
    """One object: where it is, what it is, and how sure the detector was."""

    box: Annotated[
        tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat],
        Field(description="(x1, y1, x2, y2) in absolute pixels of the original frame"),
    ]
    score: Score
    class_id: NonNegativeInt
    class_name: str
    mask_rle: MaskRle | None = Field(default=None, description="null unless masks were asked for")
    track_id: NonNegativeInt | None = None


class Classification(Message):
    """What the classifier says of one detection's crop."""

    detection_index: NonNegativeInt = Field(description="position in `detections`")
    class_id: NonNegativeInt
    class_name: str
    score: Score
    classified_at_frame: NonNegativeInt | None = Field(
        default=None, description="the frame whose crop was classified; earlier: carried by track"
    )


Point = tuple[FiniteFloat, FiniteFloat]


class Text(Message):
    """A line of text that can be read in the frame: what it says, and where it stands."""

    detection_index: NonNegativeInt | None = Field(
        description="position in `detections` of the one it was read on; null: in the whole frame"
    )
    text: Annotated[str, Field(min_length=1)]
    score: Score
    quad: Annotated[
        tuple[Point, Point, Point, Point],
        Field(
            description="corners (x, y) in absolute pixels of the original frame, clockwise from "
            "the top left one"
        ),
    ]
    read_at_frame: NonNegativeInt = Field(
        description="the frame that was read; earlier: carried by track, moved with its box"
    )


class PipelineResult(Message):
    """What the pipeline says of one image."""

    image_id: str
    detections: tuple[Detection, ...]
    classifications: tuple[Classification, ...]
    texts: tuple[Text, ...] = Field(default=(), description="empty unless texts are asked for")
    inference_ms: Milliseconds

    @model_validator(mode="after")
    def _classifications_point_at_detections(self) -> "PipelineResult":
        indices = [item.detection_index for item in self.classifications]
        if any(index >= len(self.detections) for index in indices):
            raise ValueError(f"detection_index beyond the {len(self.detections)} detections")
        if len(set(indices)) != len(indices):
            raise ValueError("two classifications of one detection")
        return self

    @model_validator(mode="after")
    def _texts_point_at_detections(self) -> "PipelineResult":
        for item in self.texts:
            index = item.detection_index
            if index is not None and index >= len(self.detections):
                raise ValueError(
                    f"text: detection_index {index} beyond the {len(self.detections)} detections"
                )
        return self


class StageTimes(Message):
    """How long each stage took, in milliseconds of the monotonic clock.

    `decode_ms`, `queue_ms` (until a batch took it), `batch_ms` (until that batch began) and
    `publish_ms` (from assembled until it is handed to the sinks) are the frame's own. The others
    are those of the batch that the frame travelled in, shared by `FrameResult.batch_size` frames:
    the time the frame spent there.
    """

    decode_ms: Milliseconds
    queue_ms: Milliseconds
    batch_ms: Milliseconds = 0.0
    detect_ms: Milliseconds
    crop_ms: Milliseconds
    classify_ms: Milliseconds
    text_ms: Milliseconds = 0.0
    assemble_ms: Milliseconds
    filter_ms: Milliseconds = 0.0
    publish_ms: Milliseconds = 0.0


class ModelIdentity(Message):
    """Which weights spoke, and what computed them."""

    name: str
    weights_sha256: Sha256 = Field(description="of the bytes that were loaded")
    runtime: str = Field(
        default="torch", description="torch, compile, openvino, onnxruntime or tensorrt"
    )
    precision: str = Field(default="float32", description="what it really computes in")
    input_size: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="(height, width) of what the network sees; null: it varies"
    )


class Models(Message):
    """The models of the pipeline; `classifier` and `text` are null when none was asked for."""

    detector: ModelIdentity
    classifier: ModelIdentity | None
    text: ModelIdentity | None = None
    filters: dict[Code, ModelIdentity] = Field(
        default={}, description="of safety filters that have one of their own, by name"
    )


class FrameResult(PipelineResult):
    """A `PipelineResult` of one frame of a stream: which frame, when, and how it was made."""

    schema_name: Literal["framewire.frame"] = "framewire.frame"
    schema_version: Literal[1] = 1
    source_id: SourceId
    frame_index: NonNegativeInt = Field(description="0 is the first frame read from the source")
    sequence: Number = 0
    dropped_before: Drops = {}
    pts_s: FiniteFloat | None = Field(
        description="presentation time of the stream; null: it has none"
    )
    captured_at: AwareDatetime = Field(description="this machine's clock when the frame had come")
    sent_at: AwareDatetime | None = Field(
        default=None, description="the camera's clock when it took the picture, where it says so"
    )
    width: PositiveInt
    height: PositiveInt
    trace_id: TraceId
    batch_size: PositiveInt
    stage_ms: StageTimes
    latency_ms: Milliseconds = Field(
        default=0.0, description="from the capture until it is handed to the sinks"
    )
    models: Models
    degraded: Degraded = ()
    filtered: Filtered = {}

    @model_validator(mode="after")
    def _lies_in_the_frame(self) -> "FrameResult":
        _check_boxes(self.detections, self.width, self.height)
        _check_texts(self.texts, self.width, self.height)
        return self


class ImageResult(PipelineResult):
    """A `PipelineResult` of one picture that was sent to the service, and how it was made."""

    schema_name: Literal["framewire.image"] = "framewire.image"
    schema_version: Literal[1] = 1
    width: PositiveInt
    height: PositiveInt
    trace_id: TraceId
    batch_size: PositiveInt
    stage_ms: StageTimes
    latency_ms: Milliseconds = Field(
        description="from when the picture had come until the answer was ready to leave"
    )
    models: Models
    degraded: Degraded = ()
    filtered: Filtered = {}

    @model_validator(mode="after")
    def _lies_in_the_picture(self) -> "ImageResult":
        _check_boxes(self.detections, self.width, self.height)
        _check_texts(self.texts, self.width, self.height)
        return self


def _check_boxes(detections: Iterable[Detection], width: int, height: int) -> None:
    for detection in detections:
        x1, y1, x2, y2 = detection.box
        inside = x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
        fault = box_fault(detection.box, width, height)
        if fault or not inside:
            raise ValueError(f"box {detection.box}: {fault or 'reaches outside the frame'}")


def _check_texts(texts: Iterable[Text], width: int, height: int) -> None:
    for item in texts:
        inside = clamp_quad(item.quad, width, height) == item.quad
        fault = quad_fault(item.quad, width, height)
        if fault or not inside:
            raise ValueError(f"text at {item.quad}: {fault or 'reaches outside the frame'}")


class FrameFailure(Message):
    """A frame that was captured and has no result, and why."""

    schema_name: Literal["framewire.failure"] = "framewire.failure"
    schema_version: Literal[1] = 1
    source_id: SourceId
    frame_index: NonNegativeInt
    sequence: Number = 0
    dropped_before: Drops = {}
    image_id: str
    pts_s: FiniteFloat | None
    captured_at: AwareDatetime
    trace_id: TraceId
    code: Code
    message: str


class LedgerCounts(Message):
    """Where a source's frames are: captured = delivered + dropped + failed + in_flight."""

    captured: NonNegativeInt = 0
    delivered: NonNegativeInt = 0
    dropped: dict[Code, NonNegativeInt] = Field(default={}, description="by reason")
    failed: dict[Code, NonNegativeInt] = Field(default={}, description="by code")
    in_flight: NonNegativeInt = 0

    @property
    def balanced(self) -> bool:
        """True when every captured frame is in exactly one place."""
        settled = self.delivered + sum(self.dropped.values()) + sum(self.failed.values())
        return self.captured == settled + self.in_flight


SourceState = Literal["connecting", "live", "stalled", "backing_off", "paused", "ended", "failed"]


class SourceEvent(Message):
    """What has become of a source: sent at each change of its state, between its frames."""

    schema_name: Literal["framewire.event"] = "framewire.event"
    schema_version: Literal[1] = 1
    source_id: SourceId
    at: AwareDatetime
    state: SourceState
    code: Code | None = Field(default=None, description="what led here, where that is an error")
    message: str = ""
    retry_in_s: NonNegativeFloat | None = Field(
        default=None, description="until the next attempt, while backing off"
    )


class SourceStatus(Message):
    """One source at this moment."""

    source_id: SourceId
    uri: str = Field(description="without credentials")
    state: SourceState
    since: AwareDatetime
    code: Code | None = Field(default=None, description="the last error; null while all is well")
    message: str = ""
    fps: NonNegativeFloat = Field(description="frames captured a second, over the last ten")
    connections: NonNegativeInt = Field(description="how often it was opened")
    abandoned_threads: NonNegativeInt = Field(description="readers that hung and were left behind")
    software_fallbacks: NonNegativeInt = Field(
        default=0, description="connections whose decoding in hardware gave way to software"
    )
    queued: NonNegativeInt
    ledger: LedgerCounts


class Status(Message):
    """The whole process at this moment; sent every second."""

    schema_name: Literal["framewire.status"] = "framewire.status"
    schema_version: Literal[1] = 1
    at: AwareDatetime
    started_at: AwareDatetime
    ready: bool = Field(description="false while the models can't answer")
    reasons: tuple[str, ...] = Field(default=(), description="why it isn't ready")
    models: Models
    sources: tuple[SourceStatus, ...]


class SourceEnd(Message):
    """A source gives no more frames. `code` is null when it simply ended or was stopped."""

    schema_name: Literal["framewire.end"] = "framewire.end"
    schema_version: Literal[1] = 1
    source_id: SourceId
    ended_at: AwareDatetime
    code: Code | None = None
    message: str = ""
    ledger: LedgerCounts = LedgerCounts()


AnyMessage = FrameResult | FrameFailure | SourceEvent | SourceEnd | Status
_ADAPTER: TypeAdapter[AnyMessage] = TypeAdapter(
    Annotated[AnyMessage, Field(discriminator="schema_name")]
)


def parse_message(
    payload: bytes | str, unknown_keys: Literal["forbid", "ignore"] = "forbid"
) -> AnyMessage:
    """The message in this JSON text; pydantic.ValidationError where it breaks the contract.

    Keys may be added within a version: a subscriber that may be older than what it listens to
    has unknown ones ignored.
    """
    return _ADAPTER.validate_json(payload, extra=unknown_keys)


def topic_of(message: AnyMessage) -> str:
    """`kind/source_id/`, for example `frame/cam1/`; the whole process's status is `status/`.

    The closing slash keeps ZeroMQ's prefix matching exact: `frame/cam1/` is not a prefix of
    `frame/cam10/`, and `frame/` is every source's results.
    """
    kind = message.schema_name.removeprefix("framewire.")
    return f"{kind}/" if isinstance(message, Status) else f"{kind}/{message.source_id}/"
