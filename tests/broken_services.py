"""A small vision service that is right in everything, and the same with one bug each."""

import dataclasses
import io
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pycocotools import mask as coco
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

Json = dict[str, Any]
Box = tuple[float, float, float, float]
Pixels = NDArray[np.uint8]

NAMES = ("red octagon", "brass nut", "steel washer", "orange ball")
COLOURS = (
    ((150, 0, 0), (255, 69, 79)),
    ((185, 154, 54), (243, 202, 122)),
    ((166, 166, 166), (214, 214, 220)),
    ((195, 75, 0), (255, 172, 95)),
)
"""The darkest and the brightest RGB of each."""
LARGEST_PX = 1400
MOST_PIXELS = 20_000_000


class Refused(Exception):
    """The request is answered with this status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclasses.dataclass
class Turn:
    """What a bug may look at: the picture, and what came before."""

    image: Image.Image
    kind: str = ""
    mode: str = ""
    number: int = 0
    refusals: int = 0
    memory: Json = dataclasses.field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture as it was looked at."""
        return self.image.size


def opened(data: bytes) -> Image.Image:
    """The picture, decoded. Raises Refused."""
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
        # Whatever Pillow's own limit is set to in this process.
        if image.width * image.height <= MOST_PIXELS:
            image.load()
            return image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused(400, "corrupt_image") from error
    raise Refused(413, "too_many_pixels")


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say, RGB."""
    return ImageOps.exif_transpose(image).convert("RGB")


def error_body(status: int, code: str, trace_id: str) -> Json:
    """As RFC 9457 has it."""
    return {"type": "about:blank", "status": status, "title": "refused", "code": code} | {
        "trace_id": trace_id
    }


def send(status: int, body: Any) -> Response:
    """The JSON of an answer or an error."""
    kind = "application/json" if status < 400 else "application/problem+json"
    return Response(json.dumps(body), status, media_type=kind)


async def at_once() -> None:
    """Nothing is waited for."""


@dataclasses.dataclass(frozen=True)
class Bug:
    """What is done in place of the right thing, and the code by which the review calls it.

    As it stands here there is none.
    """

    name: str = "none"
    code: str = ""
    before: Callable[[], Any] = at_once
    opened: Callable[[bytes], Image.Image] = opened
    upright: Callable[[Image.Image], Image.Image] = upright
    box: Callable[[Box, int, int], Any] = lambda box, _width, _height: box
    detection: Callable[[Json, Turn], Json] = lambda item, _turn: item
    answer: Callable[[Json, Turn], Any] = lambda body, _turn: body
    error: Callable[[int, str, str], Any] = error_body
    send: Callable[[int, Any], Response] = send
    healthy: int = 200
    anywhere: int = 404
    get: int = 405
    nonsense: int = 400
    """The status for a `min_score` that is no number."""
    also: tuple[str, ...] = ()
    """Codes of what else is wrong then."""


class Service:
    """Finds the four shapes of `scripts.review.pictures` by their colours."""

    def __init__(self) -> None:
        self.bug = Bug()
        self.requests: list[str] = []
        self.memory: Json = {}
        self.refusals = 0

    def begin(self, bug: Bug) -> None:
        """From now on the service has this bug, and remembers nothing."""
        self.bug = bug
        self.requests = []
        self.memory = {}
        self.refusals = 0

    async def detect(self, request: Request) -> Response:
        """The answer to one request."""
        await self.bug.before()
        started_s = time.perf_counter()
        trace_id = uuid.uuid4().hex
        try:
            turn = self._turn(await self._upload(request))
            self._check(request.query_params.get("min_score", "0.5"))
            found = [self._detection(*one, turn) for one in seen(turn.image)]
            body = result(found, turn.size, trace_id, (time.perf_counter() - started_s) * 1e3)
            return self.bug.send(200, self.bug.answer(body, turn))
        except Refused as refused:
            self.refusals += 1
            return self.refuse(refused.status, refused.code, trace_id)

    def refuse(self, status: int, code: str, trace_id: str) -> Response:
        """An error."""
        return self.bug.send(status, self.bug.error(status, code, trace_id))

    async def _upload(self, request: Request) -> bytes:
        try:
            async with request.form() as form:
                file = form.get("file")
                if isinstance(file, UploadFile):
                    return await file.read()
        except HTTPException as error:
            raise Refused(400, "bad_form") from error
        raise Refused(400, "missing_file")

    def _check(self, min_score: str) -> None:
        if not min_score.replace(".", "").isdecimal() and self.bug.nonsense != 200:
            raise Refused(self.bug.nonsense, "bad_parameter")

    def _turn(self, data: bytes) -> Turn:
        image = self.bug.opened(data)
        looked_at = self.bug.upright(image)
        number = len(self.requests)
        kind = str(image.format)
        return Turn(looked_at, kind, image.mode, number, self.refusals, self.memory)

    def _detection(self, class_id: int, mask: Pixels, box: Box, turn: Turn) -> Json:
        item = {
            "box": self.bug.box(box, *turn.size),
            "score": 0.9 - class_id / 100,
            "class_id": class_id,
            "class_name": NAMES[class_id],
            # Large pictures are looked at smaller than they are.
            "mask_rle": rle_of(mask) if mask.shape == turn.size[::-1] else None,
            "track_id": None,
        }
        return self.bug.detection(item, turn)


def rle_of(mask: Pixels) -> Json:
    """COCO's compressed run lengths."""
    encoded = coco.encode(np.asfortranarray(mask > 0, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def seen(image: Image.Image) -> Iterator[tuple[int, Pixels, Box]]:
    """Class, mask and box of each shape that is found by its colour."""
    factor = -(-max(image.size) // LARGEST_PX)
    small = np.asarray(image.reduce(factor))
    for class_id, (lowest, highest) in enumerate(COLOURS):
        colour = cv2.inRange(small, np.array(lowest), np.array(highest))
        # Thin lines are edges, where colours mix.
        core = cv2.morphologyEx(colour, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        mask = np.asarray(core, np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if width:
            right, bottom = (x + width) * factor, (y + height) * factor
            corner = float(min(right, image.width)), float(min(bottom, image.height))
            yield class_id, mask, (float(x * factor), float(y * factor), *corner)


def result(found: list[Json], size: tuple[int, int], trace_id: str, took_ms: float) -> Json:
    """An `ImageResult`."""
    model = {
        "name": "colours",
        "weights_sha256": "0" * 64,
        "runtime": "none",
        "precision": "uint8",
        "input_size": None,
    }
    stages = ("decode", "queue", "batch", "detect", "crop", "classify", "text", "assemble")
    return {
        "image_id": "upload/0",
        "detections": found,
        "classifications": [],
        "texts": [],
        "inference_ms": took_ms / 2,
        "schema_name": "framewire.image",
        "schema_version": 1,
        "width": size[0],
        "height": size[1],
        "trace_id": trace_id,
        "batch_size": 1,
        "stage_ms": {f"{stage}_ms": 0.0 for stage in (*stages, "publish")},
        "latency_ms": took_ms,
        "models": {"detector": model, "classifier": None, "text": None},
        "degraded": [],
        "filtered": {},
    }


def app_of(service: Service) -> FastAPI:
    """`POST /detect` and `GET /healthz`; errors are of one kind."""
    app = FastAPI(openapi_url=None)

    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Any:
        service.requests.append(f"{request.method} {request.url.path}")
        return await call_next(request)

    app.add_api_route("/detect", service.detect, methods=["POST"])

    @app.get("/healthz")
    async def health() -> Response:
        return service.bug.send(service.bug.healthy, {"code": "well", "trace_id": uuid.uuid4().hex})

    @app.exception_handler(404)
    async def nowhere(_request: Request, _error: Exception) -> Response:
        return service.refuse(service.bug.anywhere, "no_such_path", uuid.uuid4().hex)

    @app.exception_handler(405)
    async def method(_request: Request, _error: Exception) -> Response:
        return service.refuse(service.bug.get, "method_not_allowed", uuid.uuid4().hex)

    return app


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The URL at which the app is served, on the loopback interface."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
