"""The HTTP application: the layers around each request, and the paths inside of them.

CORS, if asked → Shell → Origins → Limited → the routes
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from contracts.errors import ImageTooLarge
from contracts.serve import ServeSettings
from sinks.http.access import Access
from sinks.http.ask import Asker
from sinks.http.detect import detect_routes
from sinks.http.keys import Key
from sinks.http.limits import SMALL, Limited, Most, Room
from sinks.http.openapi import document
from sinks.http.origins import Origins
from sinks.http.problems import refuse_http, refuse_invalid
from sinks.http.service import Service
from sinks.http.shell import SECURITY_HEADERS, STRICT_TRANSPORT, Shell
from sinks.http.sources import source_routes
from sinks.http.state import model_routes, probe_routes

API_VERSION = "1"


def make_app(service: Service, keys: tuple[Key, ...] | None) -> FastAPI:
    """The application that serves it; with `keys` None everybody may do everything."""
    settings = service.settings
    access = Access(keys, settings.requests_per_s)
    room, asker = Room(int(settings.max_memory_megabytes * 1e6)), Asker(service)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        asker.close()

    app = FastAPI(
        title="framewire",
        description="Pictures in, detections and classifications out.",
        version=API_VERSION,
        lifespan=lifespan,
        docs_url=None,  # The pages load scripts from elsewhere.
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            HTTPException: refuse_http,
            RequestValidationError: refuse_invalid,
        },
        middleware=_layers(settings, room),
    )
    app.include_router(detect_routes(service, asker, room, access))
    app.include_router(probe_routes(service))
    app.include_router(model_routes(service, access))
    app.include_router(source_routes(service, access))
    document(app)
    return app


def _layers(settings: ServeSettings, room: Room) -> list[Middleware]:
    """From the outside in."""
    origins = settings.allowed_origins or ()
    headers = [*SECURITY_HEADERS, *([STRICT_TRANSPORT] if settings.tls_certificate else [])]
    layers = [
        Middleware(Shell, headers=headers),
        Middleware(
            Origins,
            allowed=origins,
            local_names_only=settings.local and not settings.api_keys,
        ),
        Middleware(Limited, sizes=_sizes(settings), timeout_s=settings.upload_timeout_s, room=room),
    ]
    cors: dict[str, Any] = {
        "allow_origins": origins,
        "allow_methods": ["GET", "POST", "DELETE"],
        "allow_headers": ["authorization", "content-type", "x-api-key", "x-request-timeout-ms"],
        "expose_headers": ["traceparent", "retry-after"],
    }
    return [Middleware(CORSMiddleware, **cors), *layers] if origins else layers


def _sizes(settings: ServeSettings) -> dict[str, Most]:
    """Of one picture, what its form needs is not counted against it."""
    one = int(settings.max_upload_megabytes * 1e6) + SMALL
    return {
        "/detect": Most(one, ImageTooLarge),
        "/detect_batch": Most(int(settings.max_request_megabytes * 1e6)),
    }
