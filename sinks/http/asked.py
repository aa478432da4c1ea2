"""What a request to look at pictures says beside them: its switches, and how long it waits."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header, Query, Request

from contracts.errors import BadParameter
from contracts.messages import FrameResult, ImageResult
from contracts.upload import Wishes
from sinks.http.service import Service


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What is wished for, and within which time."""

    wishes: Wishes
    masks: bool
    annotated: bool
    timeout_s: float


def make_reader(service: Service) -> Callable[..., Awaitable[Asked]]:
    """A dependency that reads it from the query and the headers. Raises BadParameter."""
    settings = service.settings

    async def asked(
        request: Request,
        min_score: Annotated[
            float | None,
            Query(ge=settings.lowest_min_score, le=1, description="Leave out what is less sure."),
        ] = None,
        max_detections: Annotated[
            int | None,
            Query(ge=1, le=service.max_detections, description="Keep the best so many."),
        ] = None,
        classify: Annotated[
            bool | None, Query(description="Whether the classifier is asked; else if there is one.")
        ] = None,
        masks: Annotated[
            bool | None, Query(description="Whether masks are given; else if they are made.")
        ] = None,
        annotated: Annotated[
            bool, Query(description="Answer with the picture as JPEG, and what was found in it.")
        ] = False,
        x_request_timeout_ms: Annotated[
            int,
            Header(
                ge=1,
                le=settings.max_timeout_ms,
                description="How long an answer may take, once all of the request is here.",
            ),
        ] = settings.timeout_ms,
    ) -> Asked:
        _check_query(request, KNOWN)
        if masks and not service.masks:
            raise BadParameter("masks: the service runs a detector that makes none")
        if classify and service.models().classifier is None:
            raise BadParameter("classify: the service runs without a classifier")
        wishes = Wishes(min_score, max_detections, classify is not False)
        return Asked(wishes, masks is not False, annotated, x_request_timeout_ms / 1e3)

    return asked


KNOWN = frozenset({"min_score", "max_detections", "classify", "masks", "annotated"})


def _check_query(request: Request, known: frozenset[str]) -> None:
    """Nothing is asked in vain: unknown names are refused, and those that are given twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    if unknown := sorted(set(names) - known):
        raise BadParameter(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    if len(set(names)) < len(names):
        raise BadParameter("a parameter is given twice")


def image_result(result: FrameResult, asked: Asked, latency_ms: float) -> ImageResult:
    """The answer, with what was asked for."""
    detections = result.detections
    if not asked.masks:
        detections = tuple(one.model_copy(update={"mask_rle": None}) for one in detections)
    return ImageResult(
        image_id=result.image_id,
        detections=detections,
        classifications=result.classifications,
        texts=result.texts,
        inference_ms=result.inference_ms,
        width=result.width,
        height=result.height,
        trace_id=result.trace_id,
        batch_size=result.batch_size,
        stage_ms=result.stage_ms,
        latency_ms=round(latency_ms, 3),
        models=result.models,
        degraded=result.degraded,
        filtered=result.filtered,
    )
