"""`/v1/sources`: which cameras and files are read; they come, pause and go while others run."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from contracts import errors
from contracts.messages import SourceId, SourceStatus
from contracts.settings import SourceSettings, source_id_from
from sinks.http.access import Access
from sinks.http.problems import documented
from sinks.http.service import Service

_REFUSED = (errors.Unauthorized, errors.Forbidden, errors.RateLimited)
_OF_ONE = documented(errors.NoSuchPath, errors.BadParameter, errors.BadSetting, *_REFUSED)
AnId = Annotated[SourceId, Path(description="As GET /v1/sources lists it.")]


def source_routes(service: Service, access: Access) -> APIRouter:
    """Reading takes a key with the scope `read`, everything else one with `admin`."""
    router = APIRouter(tags=["sources"])
    admin = [Depends(access.needs("admin"))]

    @router.get(
        "/v1/sources",
        dependencies=[Depends(access.needs("read"))],
        responses=documented(*_REFUSED),
    )
    async def sources() -> tuple[SourceStatus, ...]:
        """Each source: its state, rate and account."""
        return service.status().sources

    @router.post(
        "/v1/sources",
        status_code=201,
        dependencies=admin,
        responses=documented(
            errors.BadParameter,
            errors.BadSetting,
            errors.SourceNotFound,
            errors.RequestTimeout,
            errors.RequestTooLarge,
            *_REFUSED,
        ),
    )
    def add(source: SourceSettings, response: Response) -> SourceStatus:
        """Read one more from now on. Without an `id` it is named after its URI."""
        # Not on the loop's thread: a pattern may have to look through many folders.
        _check_no_reference(source)
        named = source.model_copy(update={"id": source.id or source_id_from(source.uri)})
        service.add(named)
        response.headers["location"] = f"/v1/sources/{named.id}"
        return _status_of(service, named.id)

    @router.post("/v1/sources/{source_id}/pause", dependencies=admin, responses=_OF_ONE)
    async def pause(source_id: AnId) -> SourceStatus:
        """A camera's frames are dropped, a file waits."""
        _status_of(service, source_id)
        service.pause(source_id)
        return _status_of(service, source_id)

    @router.post("/v1/sources/{source_id}/resume", dependencies=admin, responses=_OF_ONE)
    async def resume(source_id: AnId) -> SourceStatus:
        """It is looked at again."""
        _status_of(service, source_id)
        service.resume(source_id)
        return _status_of(service, source_id)

    @router.delete(
        "/v1/sources/{source_id}", status_code=204, dependencies=admin, responses=_OF_ONE
    )
    async def remove(source_id: AnId) -> None:
        """It ends, what was read of it is still delivered, and then it is forgotten."""
        _status_of(service, source_id)
        service.remove(source_id)

    return router


def _status_of(service: Service, source_id: str) -> SourceStatus:
    """Raises NoSuchPath where there is none of this name."""
    for status in service.status().sources:
        if status.source_id == source_id:
            return status
    raise errors.NoSuchPath(f"there is no source {source_id}")


def _check_no_reference(source: SourceSettings) -> None:
    """What the process knows is not for whoever may name a host to send it to."""
    if any("${" in text for text in (source.uri, *source.ffmpeg_options.values())):
        raise errors.BadParameter("uri: references such as ${NAME} are for the configuration alone")
