"""Valid messages to start from: each call gives one that the contract takes."""

import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from contracts.frame import Delivery, Frame
from contracts.messages import (
    Classification,
    Detection,
    FrameFailure,
    FrameResult,
    ImageResult,
    LedgerCounts,
    ModelIdentity,
    Models,
    SourceEnd,
    SourceEvent,
    SourceStatus,
    StageTimes,
    Status,
)

CAPTURED_AT = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)
TRACE_ID = "0123456789abcdef" * 2
STAGES = StageTimes(
    decode_ms=4.0,
    queue_ms=1.0,
    batch_ms=0.1,
    detect_ms=20.0,
    crop_ms=0.5,
    classify_ms=3.0,
    assemble_ms=0.2,
)
MODELS = Models(
    detector=ModelIdentity(name="bundled:parts", weights_sha256="a" * 64),
    classifier=ModelIdentity(name="bundled:parts", weights_sha256="b" * 64),
)
GEAR = Detection(box=(10.0, 12.0, 50.0, 44.0), score=0.98, class_id=3, class_name="gear")
NUT = Detection(box=(60.0, 20.0, 90.0, 55.0), score=0.91, class_id=0, class_name="nut")
BRASS = Classification(detection_index=0, class_id=1, class_name="brass", score=0.99)


def frame_result(frame_index: int = 0, source_id: str = "cam1", **changes: Any) -> FrameResult:
    """A brass gear and an unclassified nut in a frame of 160 × 96 pixels."""
    fields: dict[str, Any] = {
        "image_id": f"{source_id}-{frame_index}",
        "detections": (GEAR, NUT),
        "classifications": (BRASS,),
        "inference_ms": 24.5,
        "source_id": source_id,
        "frame_index": frame_index,
        "pts_s": frame_index / 25,
        "captured_at": CAPTURED_AT,
        "width": 160,
        "height": 96,
        "trace_id": TRACE_ID,
        "batch_size": 1,
        "stage_ms": STAGES,
        "models": MODELS,
    }
    return FrameResult(**{**fields, **changes})


def image_result(**changes: Any) -> ImageResult:
    """The same, of a picture that was sent to the service."""
    fields: dict[str, Any] = {
        "image_id": "parts.jpg",
        "detections": (GEAR, NUT),
        "classifications": (BRASS,),
        "inference_ms": 24.5,
        "width": 160,
        "height": 96,
        "trace_id": TRACE_ID,
        "batch_size": 1,
        "stage_ms": STAGES,
        "latency_ms": 31.0,
        "models": MODELS,
    }
    return ImageResult(**{**fields, **changes})


def frame_failure(frame_index: int = 0, source_id: str = "cam1", **changes: Any) -> FrameFailure:
    """A frame that could not be decoded."""
    fields: dict[str, Any] = {
        "source_id": source_id,
        "frame_index": frame_index,
        "image_id": f"{source_id}-{frame_index}",
        "pts_s": frame_index / 25,
        "captured_at": CAPTURED_AT,
        "trace_id": TRACE_ID,
        "code": "decode_error",
        "message": "one packet is damaged",
    }
    return FrameFailure(**{**fields, **changes})


def source_end(source_id: str = "cam1", **changes: Any) -> SourceEnd:
    """A source that simply ended."""
    return SourceEnd(**{"source_id": source_id, "ended_at": CAPTURED_AT, **changes})


def source_event(source_id: str = "cam1", **changes: Any) -> SourceEvent:
    """A camera that was lost and will be tried again."""
    fields: dict[str, Any] = {
        "source_id": source_id,
        "at": CAPTURED_AT,
        "state": "backing_off",
        "code": "stalled",
        "message": "no frame for 5 s",
        "retry_in_s": 0.5,
    }
    return SourceEvent(**{**fields, **changes})


def source_status(source_id: str = "cam1", **changes: Any) -> SourceStatus:
    """A camera that works."""
    fields: dict[str, Any] = {
        "source_id": source_id,
        "uri": "rtsp://10.0.0.7/door",
        "state": "live",
        "since": CAPTURED_AT,
        "fps": 25.0,
        "connections": 1,
        "abandoned_threads": 0,
        "queued": 1,
        "ledger": LedgerCounts(captured=10, delivered=8, dropped={"queue_full": 1}, in_flight=1),
    }
    return SourceStatus(**{**fields, **changes})


def status(*sources: SourceStatus, **changes: Any) -> Status:
    """A process that works, with one camera where none is given."""
    fields: dict[str, Any] = {
        "at": CAPTURED_AT,
        "started_at": CAPTURED_AT,
        "ready": True,
        "models": MODELS,
        "sources": sources or (source_status(),),
    }
    return Status(**{**fields, **changes})


def delivery(frame_index: int = 0, source_id: str = "cam1", **changes: Any) -> Delivery:
    """A result with the picture it was made from; a picture may be given as `image_hwc`."""
    image = changes.pop("image_hwc", None)
    if image is None:
        image = np.full((96, 160, 3), 128, np.uint8)
    height, width = image.shape[:2]
    result = frame_result(frame_index, source_id, width=width, height=height, **changes)
    frame = Frame(
        source_id=source_id,
        frame_index=frame_index,
        image_id=result.image_id,
        image_hwc=image,
        pts_s=result.pts_s,
        captured_at=result.captured_at,
        captured_ns=time.monotonic_ns(),
        decode_ms=4.0,
        trace_id=result.trace_id,
    )
    return Delivery(result, frame)
