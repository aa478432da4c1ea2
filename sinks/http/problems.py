"""Every error as an answer: `application/problem+json` (RFC 9457) with the error's own code."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from contracts.errors import (
    BadParameter,
    FramewireError,
    InternalError,
    MethodNotAllowed,
    ModelUnavailable,
    NoSuchPath,
    Overloaded,
    RequestTimeout,
    Unauthorized,
    leaves,
)
from contracts.messages import Code, TraceId

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
EXAMPLE_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

_BY_CODE = {leaf.code: leaf for leaf in leaves()}
_HEADERS: Mapping[type[FramewireError], Mapping[str, str]] = {
    Overloaded: {"retry-after": str(RETRY_AFTER_S)},
    ModelUnavailable: {"retry-after": str(RETRY_AFTER_S)},
    Unauthorized: {"www-authenticate": "Bearer"},
    # What is still to come of the request can't be told from a next one.
    RequestTimeout: {"connection": "close"},
}


class Problem(BaseModel):
    """Why there is no answer."""

    type: str = Field(description="`urn:framewire:` and the code")
    title: str = Field(description="what this code means")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what happened this time")
    code: Code
    trace_id: TraceId


class Refusal(Exception):
    """An error with headers of its own."""

    def __init__(self, error: FramewireError, headers: Mapping[str, str]) -> None:
        super().__init__(str(error))
        self.error = error
        self.headers = headers


def retry_after(wait_s: float) -> dict[str, str]:
    """The header, in whole seconds."""
    return {"retry-after": str(max(1, math.ceil(wait_s)))}


def problem_of(error: FramewireError, trace_id: str) -> Problem:
    """What is said of the error."""
    return Problem(
        type=f"urn:framewire:{error.code}",
        title=_meaning(type(error)),
        status=error.http_status,
        detail=str(error),
        code=error.code,
        trace_id=trace_id,
    )


def answer_to(error: FramewireError | Refusal, trace_id: str) -> Response:
    """The problem as a response."""
    refusal = error if isinstance(error, Refusal) else Refusal(error, {})
    named = refusal.error
    return Response(
        problem_of(named, trace_id).model_dump_json(),
        named.http_status,
        {**_HEADERS.get(type(named), {}), **refusal.headers},
        MEDIA_TYPE,
    )


def error_of(code: str, message: str) -> FramewireError:
    """The error of this code, as a frame's failure has it."""
    return _BY_CODE.get(code, InternalError)(message)


async def refuse_http(_request: Request, error: Exception) -> NoReturn:
    """Raises what the framework found wrong by the name that it has here."""
    if not isinstance(error, HTTPException):
        raise InternalError(f"not an HTTPException: {error!r}") from error
    if isinstance(error.__cause__, FramewireError):
        # One of ours, that was raised while the framework read the body.
        raise error.__cause__
    match error.status_code:
        case 404:
            raise NoSuchPath("there is nothing at this path; /openapi.json lists what there is")
        case 405:
            allow = (error.headers or {}).get("Allow", "")
            wrong = MethodNotAllowed(f"the path takes {allow or 'other methods'}")
            raise Refusal(wrong, {"allow": allow})
        case status if 400 <= status < 500:
            raise BadParameter(error.detail) from error
    raise InternalError(error.detail) from error


async def refuse_invalid(_request: Request, error: Exception) -> NoReturn:
    """Raises BadParameter that names what is wrong, and never shows a value: it may be a secret."""
    if not isinstance(error, RequestValidationError):
        raise InternalError(f"not a RequestValidationError: {error!r}") from error
    said = []
    for fault in error.errors()[:5]:
        where = ".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0])
        said.append(f"{where}: {fault['msg'].removeprefix('Value error, ')}")
    raise BadParameter("; ".join(said)) from None


def documented(*errors: type[FramewireError]) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the errors by status, each with an example."""
    by_status: dict[int, list[type[FramewireError]]] = defaultdict(list)
    for error in errors:
        by_status[error.http_status].append(error)
    return {status: _documented(by_status[status]) for status in sorted(by_status)}


def _documented(errors: Iterable[type[FramewireError]]) -> dict[str, Any]:
    examples = {
        error.code: {"value": problem_of(error(_meaning(error)), EXAMPLE_TRACE_ID).model_dump()}
        for error in errors
    }
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    return {
        "description": " ".join(f"`{code}`" for code in examples),
        "content": {MEDIA_TYPE: content},
    }


def _meaning(error: type[FramewireError]) -> str:
    return (error.__doc__ or "").splitlines()[0]
