"""What services do wrong, each a small change at one place of the right one."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from fastapi import Response
from fastapi.responses import StreamingResponse
from PIL import Image, ImageFile

from tests.broken_services import (
    Box,
    Json,
    Refused,
    Turn,
    error_body,
    opened,
    rle_of,
    send,
    upright,
)

Change = Callable[[Json, Turn], Json]


async def never() -> None:
    """Waits until the service ends."""
    await asyncio.Event().wait()


def broken_off(status: int, body: Any) -> Response:
    """Less than was promised."""
    return Response(json.dumps(body)[:20], status, headers={"content-length": "1000"})


def endless(status: int, _body: Any) -> Response:
    """More and more."""

    async def spaces() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1000
            await asyncio.sleep(0)

    return StreamingResponse(spaces(), status, media_type="application/json")


def refuses(status: int, code: str) -> Callable[..., Any]:
    """Whatever is given is answered so."""

    def refuse(*_given: object) -> Any:
        raise Refused(status, code)

    return refuse


fails = refuses(500, "internal_error")


def one(**values: Any) -> Change:
    """A change of the third class's detections alone."""
    return lambda item, _turn: {**item, **values} if item["class_id"] == 2 else item


def each(change: Callable[[Json], Json]) -> Change:
    """A change of every detection, or of the whole answer."""
    return lambda item, _turn: {**item, **change(item)}


def without(*keys: str) -> Change:
    """The same without some keys."""
    return lambda item, _turn: {key: value for key, value in item.items() if key not in keys}


def moved(item: Json, pixels: float) -> Json:
    """The box lies further to the right."""
    x1, y1, x2, y2 = item["box"]
    return {"box": (x1 + pixels, y1, x2 + pixels, y2)}


def one_outside(item: Json, turn: Turn) -> Json:
    """One box is as far to the right as the picture is wide."""
    return one(**moved(item, turn.size[0]))(item, turn)


def one_swapped(item: Json, turn: Turn) -> Json:
    """One box ends where it should begin."""
    x1, y1, x2, y2 = item["box"]
    return one(box=(x2, y2, x1, y1))(item, turn)


def with_size(box: Box, *_size: int) -> Box:
    """(x, y, width, height)."""
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def with_center(box: Box, *_size: int) -> Box:
    """(centre x, centre y, width, height)."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def to_size(box: Box, side: float, width: float, height: float) -> Box:
    """As a network sees it that stretches its input."""
    x, y = side / width, side / height
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def letterboxed(box: Box, side: float, width: float, height: float) -> Box:
    """As a network sees it that puts its input into the middle."""
    scale, longest = side / max(width, height), max(width, height)
    dx, dy = (longest - width) / 2, (longest - height) / 2
    x1, y1, x2, y2 = box
    return scale * (x1 + dx), scale * (y1 + dy), scale * (x2 + dx), scale * (y2 + dy)


def columns(body: Json, _turn: Turn) -> Json:
    """Lists of boxes, scores and classes, one score short."""
    items = body["detections"]
    table = {f"{key}s": [item[key] for item in items] for key in ("score", "class_id")}
    return {"boxes": [item["box"] for item in items], **table, "scores": table["scores"][1:]}


def half_seen(data: bytes) -> Image.Image:
    """What there is of a picture that ends in the middle, as cv2 gives it too."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return opened(data)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def nothing_seen(data: bytes) -> Image.Image:
    """Of an upload that is no picture: an empty one."""
    try:
        return opened(data)
    except Refused:
        return Image.new("RGB", (640, 480))


def only(kinds: str, then: Callable[[Image.Image], Any]) -> Callable[[bytes], Image.Image]:
    """What is opened as one of the modes or kinds is done this to."""

    def change(data: bytes) -> Image.Image:
        image = opened(data)
        fits = image.mode in kinds.split() or image.format in kinds.split()
        return then(image) if fits else image

    return change


def unexpected(data: bytes) -> Image.Image:
    """Every mistake of the sender is taken for one of the service."""
    try:
        return opened(data)
    except Refused as refused:
        raise Refused(500, "internal_error") from refused


def bgr(image: Image.Image) -> Image.Image:
    """Upright, as cv2 reads it."""
    red, green, blue = upright(image).split()
    return Image.merge("RGB", (blue, green, red))


def moved_mask(item: Json, turn: Turn) -> Json:
    """Half a picture further to the right."""
    return _masked(item, turn, lambda mask: np.roll(mask, turn.size[0] // 2, 1))


def empty_mask(item: Json, turn: Turn) -> Json:
    """Nothing is covered."""
    return _masked(item, turn, np.zeros_like)


def lying_mask(item: Json, turn: Turn) -> Json:
    """Columns are taken for rows."""
    return _masked(item, turn, np.transpose)


def small_mask(item: Json, turn: Turn) -> Json:
    """As the network gives it."""
    return _masked(item, turn, lambda mask: mask[::4, ::4])


def _masked(item: Json, turn: Turn, change: Callable[[Any], Any]) -> Json:
    mask = np.zeros(turn.size[::-1], np.uint8)
    x1, y1, x2, y2 = map(int, item["box"])
    mask[y1:y2, x1:x2] = 1
    return {**item, "mask_rle": rle_of(change(mask))} if item["mask_rle"] else item


def late(body: Json, turn: Turn) -> Json:
    """All boxes are elsewhere once something was refused."""
    items = body["detections"]
    return {
        **body,
        "detections": [{**d, **moved(d, -9)} for d in items] if turn.refusals else items,
    }


def flicker(item: Json, turn: Turn) -> Json:
    """Scores differ from request to request."""
    return {**item, "score": item["score"] - 0.2 * (turn.number % 2)}


def other_in_webp(item: Json, turn: Turn) -> Json:
    """As where another library decodes WebP."""
    return {**item, "score": item["score"] / 2} if turn.kind == "WEBP" else item


def first_again(body: Json, turn: Turn) -> Json:
    """The answer to the first picture, whatever is sent."""
    first: Json = turn.memory.setdefault("first", body)
    return {**body, "detections": first["detections"]}


def text(status: int, body: Any) -> Response:
    """JSON that is called text."""
    return Response(json.dumps(body), status, media_type="text/plain")


def unlabelled(status: int, body: Any) -> Response:
    """JSON that is called nothing."""
    return Response(json.dumps(body), status)


def page(status: int, _body: Any) -> Response:
    """What a framework shows to a person."""
    return Response("<!doctype html><title>Detect</title>", status, media_type="text/html")


def page_of_error(status: int, body: Any) -> Response:
    """The same, for errors only."""
    return send(status, body) if status < 400 else page(status, body)


def words(status: int, body: Any) -> Response:
    """An error as text."""
    if status < 400:
        return send(status, body)
    return Response("Bad Request", status, media_type="text/plain")


def traced(status: int, code: str, trace_id: str) -> Json:
    """An error with what Python says of it."""
    inside = 'Traceback (most recent call last):\n  File "app.py", line 7, in detect'
    return {**error_body(status, code, trace_id), "detail": inside}
