"""`POST /detect` and `POST /detect_batch`: pictures in, what is on them out."""

import asyncio
import io
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from PIL import Image
from pydantic import BaseModel, Field
from starlette.responses import Response

from contracts import errors
from contracts.messages import ImageResult
from sinks.draw import draw
from sinks.http.access import Access
from sinks.http.ask import Answer, Asker, Errand, while_connected
from sinks.http.asked import Asked, image_result, make_reader
from sinks.http.fetch import Fetcher, RequestFetcher
from sinks.http.limits import Room, Share
from sinks.http.problems import Problem, documented, problem_of
from sinks.http.received import Sent, read_picture, read_pictures
from sinks.http.service import Service
from sinks.http.url_list import names_urls, read_urls, urls_schema
from sinks.http.urls import shown

JPEG_QUALITY = 90
_OF_ANY = (
    errors.BadParameter,
    errors.MissingFile,
    errors.RequestTimeout,
    errors.RequestTooLarge,
    errors.Unauthorized,
    errors.Forbidden,
    errors.RateLimited,
    errors.InternalError,
)
_OF_A_PICTURE = (
    errors.UnsupportedMediaType,
    errors.TruncatedImage,
    errors.CorruptImage,
    errors.EmptyUpload,
    errors.ImageTooLarge,
    errors.TooManyPixels,
    errors.Overloaded,
    errors.ModelUnavailable,
    errors.DeadlineExceeded,
    errors.InferenceError,
    errors.OutOfMemory,
    errors.ContractViolation,
    errors.FilterFailed,
)


_PICTURE = {"type": "string", "format": "binary"}
_ONE_PICTURE = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": _PICTURE},
                    "required": ["file"],
                    "additionalProperties": False,
                }
            },
            **{
                kind: {"schema": _PICTURE}
                for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
            },
        },
    }
}


class BatchItem(BaseModel):
    """One picture of several: its result, or why there is none."""

    image_id: str
    result: ImageResult | None
    problem: Problem | None


class BatchResult(BaseModel):
    """What became of each picture, in the order in which they were sent."""

    items: list[BatchItem] = Field(min_length=1)


def detect_routes(service: Service, asker: Asker, room: Room, access: Access) -> APIRouter:
    """Both paths, for keys with the scope `detect`."""
    router = APIRouter(tags=["pictures"], dependencies=[Depends(access.needs("detect"))])
    read_asked = make_reader(service)
    fetcher = Fetcher(service.settings) if service.settings.fetch_urls else None

    @router.post(
        "/detect",
        response_model=ImageResult,
        responses={
            200: {"content": {"image/jpeg": {"schema": _PICTURE}}},
            **documented(*_OF_ANY, *_OF_A_PICTURE),
        },
        openapi_extra=_ONE_PICTURE,
    )
    async def detect(request: Request, asked: Annotated[Asked, Depends(read_asked)]) -> Response:
        """What is on a picture: JPEG, PNG or WebP."""
        sent = await read_picture(request, service.settings)
        with room.share() as share:
            work = _answer(asker, sent, asked, _errand(request, asked), share)
            return await while_connected(request.receive, work)

    @router.post(
        "/detect_batch",
        response_model=BatchResult,
        responses=documented(
            *_OF_ANY, errors.ImageTooLarge, errors.Overloaded, errors.UrlNotAllowed
        ),
        openapi_extra=_several_pictures(service.settings.max_files),
    )
    async def detect_batch(
        request: Request, asked: Annotated[Asked, Depends(read_asked)]
    ) -> Response:
        """What is on several pictures; one that can't be looked at harms no other."""
        if asked.annotated:
            raise errors.BadParameter("annotated: is for one picture, send it to /detect")
        if names_urls(request):
            return await detect_at_urls(request, asked)
        sent = await read_pictures(request, service.settings)
        access.charge(request.state.key, len(sent) - 1)
        errand = _errand(request, asked)
        each = (_item(asker, one, asked, errand, room) for one in sent)
        items = await while_connected(request.receive, asyncio.gather(*each))
        return _json(BatchResult(items=items))

    async def detect_at_urls(request: Request, asked: Asked) -> Response:
        if fetcher is None:
            raise errors.UrlNotAllowed("the service fetches no URLs while fetch_urls is false")
        urls = await read_urls(request, service.settings.max_files)
        access.charge(request.state.key, len(urls) - 1)
        async with fetcher.request() as fetching:
            each = (_item_at(url, fetching, asker, request, asked, room) for url in urls)
            items = await while_connected(request.receive, asyncio.gather(*each))
        return _json(BatchResult(items=items))

    return router


def _errand(request: Request, asked: Asked) -> Errand:
    """From now on, as all of the request is here."""
    now_s = time.monotonic()
    return Errand(asked.wishes, now_s, now_s + asked.timeout_s, request.state.trace.trace_id)


async def _answer(asker: Asker, sent: Sent, asked: Asked, errand: Errand, share: Share) -> Response:
    answer = await asker.ask(sent, errand, share)
    if not asked.annotated:
        return _json(image_result(answer.result, asked, errand.age_ms()))
    jpeg = await asyncio.get_running_loop().run_in_executor(asker.pool, _drawn, answer)
    return Response(jpeg, media_type="image/jpeg")


async def _item(asker: Asker, sent: Sent, asked: Asked, errand: Errand, room: Room) -> BatchItem:
    """The picture's result or its problem; its pixels are let go of at once."""
    try:
        with room.share() as share:
            answer = await asker.ask(sent, errand, share)
    except errors.FramewireError as error:
        problem = problem_of(error, errand.trace_id)
        return BatchItem(image_id=sent.name, result=None, problem=problem)
    result = image_result(answer.result, asked, errand.age_ms())
    return BatchItem(image_id=sent.name, result=result, problem=None)


async def _item_at(
    url: str,
    fetching: RequestFetcher,
    asker: Asker,
    request: Request,
    asked: Asked,
    room: Room,
) -> BatchItem:
    """As `_item`, for a picture that is fetched first: its time begins when it is here."""
    name = shown(url)
    with room.share() as share:
        try:
            sent = Sent(name, await fetching.fetch(url, share.take))
        except errors.FramewireError as error:
            problem = problem_of(error, request.state.trace.trace_id)
            return BatchItem(image_id=name, result=None, problem=problem)
        return await _item(asker, sent, asked, _errand(request, asked), room)


def _drawn(answer: Answer) -> bytes:
    """A JPEG of the picture and what was found in it; on a thread of the pool."""
    file = io.BytesIO()
    Image.fromarray(draw(answer.image_hwc, answer.result)).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _json(message: BaseModel) -> Response:
    return Response(message.model_dump_json(), media_type="application/json")


def _several_pictures(most: int) -> dict[str, Any]:
    files = {"type": "array", "items": _PICTURE, "minItems": 1, "maxItems": most}
    schema = {
        "type": "object",
        "properties": {"files": files},
        "required": ["files"],
        "additionalProperties": False,
    }
    content = {
        "multipart/form-data": {"schema": schema},
        "application/json": {"schema": urls_schema(most)},
    }
    return {"requestBody": {"required": True, "content": content}}
