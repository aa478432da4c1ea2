"""Pictures over HTTP: what is asked, what comes back, and what where nothing can come back."""

import io
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from contracts.frame import Frame
from contracts.messages import ImageResult, MaskRle
from contracts.upload import Upload
from pipeline.detect import RawDetections
from pipeline.inference import Pipeline
from pipeline.uploads import Uploads
from sinks.http.detect import BatchResult
from tests.frames import FaultyDetector, FixedDetector
from tests.http_service import BOX, FORM, PATIENCE_S, Served, code_of, serving, until
from tests.picture_corpus import JPEG, PNG, encoded, photo

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


class ScoredDetector(FixedDetector):
    """Three boxes, ever less sure; each with a mask, as a detector of masks has it."""

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        super().detect(frames)
        boxes = torch.tensor([BOX, (10.0, 10.0, 90.0, 90.0), (50.0, 50.0, 90.0, 90.0)])
        mask = MaskRle(size=(240, 320), counts="PPYo1")
        return [
            RawDetections(boxes, torch.tensor([0.9, 0.4, 0.1]), torch.tensor([1, 1, 1]), [mask] * 3)
            for _ in frames
        ]


class GatedDetector(FixedDetector):
    """Waits until the gate is opened, and says when it is waited for."""

    def __init__(self) -> None:
        super().__init__(BOX)
        self.gate = threading.Event()
        self.reached = threading.Event()

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        self.reached.set()
        assert self.gate.wait(PATIENCE_S)
        return super().detect(frames)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(ScoredDetector(), min_score=0.3, masks=True, max_detections=10) as one:
        yield one


def result_of(answer: httpx.Response) -> ImageResult:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return ImageResult.model_validate_json(answer.content)


def test_a_picture_in_a_form_and_one_as_the_body_are_answered_alike(served: Served) -> None:
    in_form = result_of(served.client.post("/detect", files=FORM))
    as_body = result_of(served.detect(headers={"content-type": "image/jpeg"}))
    assert [one.box for one in in_form.detections] == [BOX, (10.0, 10.0, 90.0, 90.0)]
    assert in_form.detections == as_body.detections
    assert in_form.classifications == as_body.classifications
    assert (in_form.width, in_form.height) == (320, 240)
    assert (in_form.image_id, as_body.image_id) == ("photo.jpg", "picture")
    assert in_form.stage_ms.decode_ms > 0
    assert in_form.latency_ms >= in_form.inference_ms


def test_the_detector_sees_the_pixels_that_were_sent() -> None:
    class Looking(FixedDetector):
        seen: Frame

        def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
            [self.seen] = frames
            return super().detect(frames)

    detector = Looking()
    with serving(detector) as served:
        result_of(served.detect(PNG))
    assert np.array_equal(detector.seen.image_hwc, np.asarray(photo()))


@pytest.mark.parametrize(
    ("query", "scores"),
    [
        ({}, [0.9, 0.4]),
        ({"min_score": 0.05}, [0.9, 0.4, 0.1]),
        ({"min_score": 0.5}, [0.9]),
        ({"min_score": 1}, []),
        ({"min_score": 0.05, "max_detections": 2}, [0.9, 0.4]),
    ],
    ids=str,
)
def test_a_request_says_how_sure_and_how_many(
    served: Served, query: dict[str, Any], scores: list[float]
) -> None:
    result = result_of(served.detect(params=query))
    assert [one.score for one in result.detections] == pytest.approx(scores)


def test_a_request_says_whether_to_classify_and_whether_it_wants_masks(served: Served) -> None:
    whole, bare = served.detect(), served.detect(params={"classify": "false", "masks": "false"})
    assert result_of(whole).classifications
    assert all(one.mask_rle for one in result_of(whole).detections)
    assert not result_of(bare).classifications
    assert result_of(bare).models.classifier is None
    assert not any(one.mask_rle for one in result_of(bare).detections)


def test_an_annotated_answer_is_the_picture_with_what_was_found(served: Served) -> None:
    flat = encoded(Image.new("RGB", (320, 240), (90, 90, 90)), "PNG")
    answer = served.detect(flat, params={"annotated": "true"})
    assert answer.headers["content-type"] == "image/jpeg"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert drawn.shape == (240, 320, 3)
    assert np.abs(drawn[:, 4].astype(int) - 90).max() > 50
    assert np.abs(drawn[200:, 200:].astype(int) - 90).max() < 10


@pytest.mark.parametrize(
    "query",
    [
        {"min_score": 0.01},
        {"min_score": 1.1},
        {"min_score": "nan"},
        {"min_score": "much"},
        {"max_detections": 0},
        {"max_detections": 11},
        {"max_detections": "1e3"},
        {"annotated": "perhaps"},
        {"min_scroe": 0.5},
        [("min_score", 0.5), ("min_score", 0.6)],
    ],
    ids=str,
)
def test_a_switch_that_cant_be_as_asked_is_refused(served: Served, query: Any) -> None:
    answer = served.detect(params=query)
    assert (answer.status_code, code_of(answer)) == (400, "bad_parameter")


@pytest.mark.parametrize("timeout", ["0", "-5", "60001", "soon", "1.5"])
def test_a_timeout_that_cant_be_is_refused(served: Served, timeout: str) -> None:
    answer = served.detect(headers={"X-Request-Timeout-Ms": timeout})
    assert (answer.status_code, code_of(answer)) == (400, "bad_parameter")
    assert "x-request-timeout-ms" in answer.json()["detail"]


def test_what_the_models_cant_do_is_refused() -> None:
    alone = Pipeline(FixedDetector(BOX), None, torch.device("cpu"))
    with serving(pipeline=alone) as served:
        for switch in ("masks", "classify"):
            answer = served.detect(params={switch: "true"})
            assert code_of(answer) == "bad_parameter"
            assert switch in answer.json()["detail"]
        assert not result_of(served.detect(params={"masks": "false"})).classifications


def test_a_batch_has_an_answer_for_each_picture_in_order(served: Served) -> None:
    sent = [("a.jpg", JPEG), ("b.gif", b"GIF89a"), ("c.png", PNG), ("d.jpg", b"")]
    answer = served.client.post(
        "/detect_batch", files=[("files", one) for one in sent], params={"min_score": 0.8}
    )
    items = BatchResult.model_validate_json(answer.content).items
    assert [item.image_id for item in items] == ["a.jpg", "b.gif", "c.png", "d.jpg"]
    codes = [item.problem and item.problem.code for item in items]
    assert codes == [None, "unsupported_media_type", None, "empty_upload"]
    assert [item.result and len(item.result.detections) for item in items] == [1, None, 1, None]
    traces = {(item.result or item.problem).trace_id for item in items}  # type: ignore[union-attr]
    assert len(traces) == 1
    assert traces.pop() in answer.headers["traceparent"]


def test_pictures_of_a_batch_travel_through_the_models_together() -> None:
    gated = GatedDetector()
    with serving(gated, max_batch=8) as served, httpx.Client(base_url=served.url) as other:
        first = threading.Thread(target=lambda: other.post("/detect", files=FORM))
        first.start()
        assert gated.reached.wait(PATIENCE_S)
        answers: list[httpx.Response] = []
        files = [("files", ("a.jpg", JPEG))] * 6
        batch = threading.Thread(
            target=lambda: answers.append(served.client.post("/detect_batch", files=files))
        )
        batch.start()
        until(lambda: served.run.uploads.counts()["waiting"] == 6)
        gated.gate.set()
        batch.join(PATIENCE_S)
        first.join(PATIENCE_S)
    assert [item["result"]["batch_size"] for item in answers[0].json()["items"]] == [6] * 6


def test_the_trace_of_who_asks_goes_on_and_comes_back(served: Served) -> None:
    answer = served.detect(headers={"traceparent": TRACEPARENT})
    assert result_of(answer).trace_id == TRACE_ID
    assert answer.headers["traceparent"] == TRACEPARENT
    refused = served.detect(b"no picture", headers={"traceparent": TRACEPARENT})
    assert refused.json()["trace_id"] == TRACE_ID


@pytest.mark.parametrize(
    "given",
    [
        "",
        "hello",
        TRACEPARENT.upper(),
        f"ff{TRACEPARENT[2:]}",
        f"{TRACEPARENT}-more",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
    ],
)
def test_a_trace_that_is_none_is_replaced(served: Served, given: str) -> None:
    result = result_of(served.detect(headers={"traceparent": given}))
    assert result.trace_id != TRACE_ID
    assert int(result.trace_id, 16)


def test_the_deadline_is_answered_when_it_passes_and_the_picture_is_not_run() -> None:
    gated = GatedDetector()
    with serving(gated, max_batch=1) as served:
        busy = threading.Thread(target=lambda: served.client.post("/detect", files=FORM))
        busy.start()
        assert gated.reached.wait(PATIENCE_S)
        with httpx.Client(base_url=served.url, timeout=PATIENCE_S) as other:
            answer = other.post("/detect", files=FORM, headers={"X-Request-Timeout-Ms": "50"})
        assert (answer.status_code, code_of(answer)) == (504, "deadline_exceeded")
        gated.gate.set()
        busy.join(PATIENCE_S)
        result_of(served.detect())
    counts = served.run.uploads.counts()
    assert (counts["answered"], counts["accepted"]) == (2, 3)
    assert counts["expired"] + counts["abandoned"] == 1
    assert len(gated.batches) == 2


def test_a_picture_that_nobody_waits_for_any_more_is_not_run() -> None:
    gated = GatedDetector()
    with serving(gated, max_batch=1) as served:
        busy = threading.Thread(target=lambda: served.client.post("/detect", files=FORM))
        busy.start()
        assert gated.reached.wait(PATIENCE_S)
        with served.connect() as leaving:
            leaving.sendall(
                b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                b"Content-Length: %d\r\n\r\n" % len(JPEG) + JPEG
            )
            until(lambda: served.run.uploads.counts()["waiting"] == 1)
        [left] = served.run.uploads._waiting
        until(left.gone)
        gated.gate.set()
        busy.join(PATIENCE_S)
        result_of(served.detect())
    counts = served.run.uploads.counts()
    assert (counts["answered"], counts["abandoned"]) == (2, 1)
    assert len(gated.batches) == 2


def test_a_full_queue_is_said_at_once_with_when_to_come_again() -> None:
    gated = GatedDetector()
    serve = {"upload_queue_depth": 1}
    with serving(gated, serve, max_batch=1) as served, httpx.Client(base_url=served.url) as other:
        waiting = [
            threading.Thread(target=lambda: httpx.post(f"{served.url}/detect", files=FORM))
            for _ in range(2)
        ]
        waiting[0].start()
        assert gated.reached.wait(PATIENCE_S)
        waiting[1].start()
        until(lambda: served.run.uploads.counts()["waiting"] == 1)
        answer = other.post("/detect", files=FORM)
        gated.gate.set()
        for thread in waiting:
            thread.join(PATIENCE_S)
    assert (answer.status_code, code_of(answer)) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"


def always(frames: list[int]) -> None:
    raise SystemError(f"{len(frames)} are too many")


def test_models_that_fail_are_named_and_then_unavailable_and_readyz_says_why() -> None:
    with serving(FaultyDetector(fault=always)) as served:
        until(lambda: served.client.get("/readyz").status_code == 200)
        assert served.client.get("/readyz").json() == {"ready": True, "reasons": []}
        for _ in range(3):
            answer = served.detect()
            assert (answer.status_code, code_of(answer)) == (500, "inference_error")
        answer = served.detect()
        while code_of(answer) == "inference_error":  # Loaded again; one more opens it.
            answer = served.detect()
        assert (answer.status_code, code_of(answer)) == (503, "model_unavailable")
        assert answer.headers["retry-after"] == "1"
        ready = served.client.get("/readyz")
        assert ready.status_code == 503
        assert "inference_error" in ready.json()["reasons"][0]
        assert served.client.get("/healthz").json() == {"status": "alive"}


def test_a_defect_is_answered_without_a_trace_and_logged_with_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Uploads):
        def offer(self, upload: Upload) -> None:
            raise ZeroDivisionError(f"secret detail of {upload}")

    with serving() as served:
        served.run.uploads = Broken(1, threading.Condition())
        answer = served.detect()
        assert (answer.status_code, code_of(answer)) == (500, "internal_error")
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
    [record] = [one for one in caplog.records if one.name == "framewire.http"]
    assert answer.json()["trace_id"] in record.getMessage()
    assert record.exc_info
