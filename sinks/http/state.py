"""How the process is, for people and for probes."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import Response

from contracts import errors
from contracts.messages import Models
from sinks.http.access import Access
from sinks.http.problems import documented
from sinks.http.service import Service


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


class Readiness(BaseModel):
    """Whether pictures would be answered now, and why not."""

    ready: bool
    reasons: tuple[str, ...]


def probe_routes(service: Service) -> APIRouter:
    """`/healthz` and `/readyz`, which need no key."""
    router = APIRouter(tags=["state"])

    @router.get("/healthz")
    async def healthz() -> Alive:
        """The process answers; whether its models do is for /readyz."""
        return Alive()

    @router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready"}})
    async def readyz(response: Response) -> Readiness:
        """Whether pictures would be answered now."""
        status = service.status()
        if not status.ready:
            response.status_code = 503
        return Readiness(ready=status.ready, reasons=status.reasons)

    return router


def model_routes(service: Service, access: Access) -> APIRouter:
    """`/v1/models`, for keys with the scope `read`."""
    router = APIRouter(tags=["state"], dependencies=[Depends(access.needs("read"))])

    @router.get(
        "/v1/models",
        responses=documented(errors.Unauthorized, errors.Forbidden, errors.RateLimited),
    )
    async def models() -> Models:
        """Which weights speak, and what computes them."""
        return service.models()

    return router
