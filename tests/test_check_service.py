"""`framewire check`: a service that is right passes, and each bug is named by its code."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from fastapi import FastAPI, Request, Response
from PIL import Image

from contracts.frame import Frame
from contracts.messages import MaskRle, ModelIdentity
from pipeline.detect import RawDetections
from pipeline.inference import Pipeline
from scripts.review import pictures
from scripts.review.answers import Review
from scripts.review.client import Client, Target
from scripts.review.course import run_course
from scripts.review.findings import RULES, Findings, Level
from tests import http_service
from tests import service_mistakes as does
from tests.broken_services import NAMES, Bug, Json, Service, app_of, rle_of, seen, serving
from tests.frames import BrightnessClassifier
from tests.service_bugs import BUGS

SERVICE = Service()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(app_of(SERVICE)) as address:
        yield address


def reviewed(target: Target, promised: str = "xyxy") -> Findings:
    client = Client(target)
    review = Review(client, Findings(), promised)
    run_course(review, pictures.drawn(), pictures.SHAPES)
    client.close()
    return review.findings


def codes_of(findings: Findings) -> list[str]:
    return [finding.rule.code for finding in findings.all()]


def test_a_service_that_is_right_has_no_finding_in_less_than_sixty_requests(url: str) -> None:
    SERVICE.begin(Bug())
    assert codes_of(reviewed(Target(url))) == []
    assert 35 < len(SERVICE.requests) < 60


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.code}: {bug.name}")
def test_the_bug_is_the_first_that_is_named(url: str, bug: Bug) -> None:
    SERVICE.begin(bug)
    timeout_s = 0.5 if bug.code == "hangs" else 30
    first, *others = codes_of(reviewed(Target(url, timeout_s=timeout_s)))
    assert first == bug.code
    assert set(others) == set(bug.also)


def test_every_rule_is_broken_by_a_service() -> None:
    told = {code for code, rule in RULES.items() if rule.level != Level.UNTOLD}
    assert told == {bug.code for bug in BUGS}


class ColourDetector:
    """Finds the known shapes, with masks."""

    class_names = NAMES
    identity = ModelIdentity(name="colours", weights_sha256="0" * 64)

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """By their colours."""
        return [self._in(Image.fromarray(frame.image_hwc)) for frame in frames]

    def _in(self, image: Image.Image) -> RawDetections:
        found = list(seen(image))
        whole = all(mask.shape == (image.height, image.width) for _, mask, _ in found)
        return RawDetections(
            torch.tensor([box for *_, box in found], dtype=torch.float32).reshape(-1, 4),
            torch.full((len(found),), 0.9),
            torch.tensor([class_id for class_id, *_ in found], dtype=torch.int64),
            [MaskRle.model_validate(rle_of(mask)) for _, mask, _ in found] if whole else None,
        )


@pytest.mark.parametrize("raw", [False, True], ids=["in a form", "as the body"])
def test_the_service_of_framewire_has_no_finding(raw: bool) -> None:
    pipeline = Pipeline(ColourDetector(), BrightnessClassifier(), torch.device("cpu"))
    with http_service.serving(pipeline=pipeline, max_frame_megapixels=16) as served:
        findings = reviewed(Target(served.url, raw=raw, timeout_s=60))
    assert [(finding.rule.code, finding.detail) for finding in findings.all()] == []


def elsewhere(answer: Json, _turn: object) -> Any:
    """As Roboflow's service answers."""
    return {
        "image": {"width": answer["width"], "height": answer["height"]},
        "predictions": [
            dict(zip(("x", "y", "width", "height"), does.with_center(item["box"]), strict=True))
            | {"confidence": item["score"], "class": item["class_name"]}
            for item in answer["detections"]
        ],
    }


def test_a_service_with_a_contract_of_its_own_is_told_its_weaknesses_only(url: str) -> None:
    SERVICE.begin(Bug(answer=elsewhere))
    findings = reviewed(Target(url))
    assert not findings.of(Level.BUG)
    assert codes_of(findings) == [
        "trace_id_missing",
        "model_unnamed",
        "weights_hash_missing",
        "timing_missing",
    ]


def test_boxes_in_the_format_that_is_promised_are_no_bug(url: str) -> None:
    fractions = Bug(
        box=lambda box, w, h: does.with_size(does.to_size(box, 1, w, h)),
        answer=does.without("classifications"),
    )
    SERVICE.begin(fractions)
    assert codes_of(reviewed(Target(url), "xywh-fractions")) == []


def test_who_is_asked_to_come_later_comes_later(url: str) -> None:
    app, asked = FastAPI(openapi_url=None), []

    @app.post("/detect")
    async def busy(request: Request) -> Response:
        asked.append(request)
        if len(asked) % 10 == 3:
            return Response("{}", 429, {"retry-after": "0"}, "application/json")
        await request.body()
        return await SERVICE.detect(request)

    SERVICE.begin(Bug())
    with serving(app) as address:
        findings = reviewed(Target(address))
    # This application has its framework's own errors, and neither paths nor health beside.
    assert codes_of(findings) == ["error_without_code", "error_without_trace_id", "health_missing"]


def test_a_service_that_has_enough_is_left_alone() -> None:
    app, asked = FastAPI(openapi_url=None), []

    @app.post("/detect")
    async def tired(request: Request) -> Response:
        asked.append(request)
        enough = Response("{}", 429, media_type="application/json")
        return enough if len(asked) > 5 else await SERVICE.detect(request)

    SERVICE.begin(Bug())
    with serving(app) as address:
        findings = reviewed(Target(address))
    assert codes_of(findings) == ["cut_short"]
    assert len(asked) == 6
