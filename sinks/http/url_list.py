"""The URLs of a request's pictures: a list in JSON, or `{"urls": […]}`."""

from fastapi import Request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from contracts.errors import BadParameter, RequestTooLarge
from sinks.http.urls import LONGEST_URL

_JSON = "application/json"


class _Urls(BaseModel):
    """Where pictures are."""

    model_config = ConfigDict(extra="forbid")

    urls: list[str]


_BODY: TypeAdapter[list[str] | _Urls] = TypeAdapter(list[str] | _Urls)


def names_urls(request: Request) -> bool:
    """True where the body says where pictures are, and has none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _JSON


async def read_urls(request: Request, most: int) -> list[str]:
    """From 1 to `most`, in their order and as they were given. BadParameter, RequestTooLarge."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most * LONGEST_URL:
            raise RequestTooLarge(f"expected {most * LONGEST_URL} bytes of URLs at most")
    try:
        said = _BODY.validate_json(body)
    except ValidationError as error:
        raise BadParameter('expected a list of URLs in JSON, or {"urls": […]}') from error
    urls = said.urls if isinstance(said, _Urls) else said
    if not 1 <= len(urls) <= most:
        raise BadParameter(f"expected from 1 to {most} URLs, got {len(urls)}")
    return urls


def urls_schema(most: int) -> dict[str, object]:
    """For OpenAPI."""
    url = {"type": "string", "format": "uri"}
    urls = {"type": "array", "items": url, "minItems": 1, "maxItems": most}
    named = {"type": "object", "properties": {"urls": urls}, "required": ["urls"]}
    return {"anyOf": [urls, {**named, "additionalProperties": False}]}
