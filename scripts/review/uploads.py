"""Uploads that are no picture, or no good one: each must be refused with a 4xx status."""

import random
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from scripts.review.client import Part, Request
from scripts.review.pictures import encoded

BOMB_PX = 60_000


class Upload(NamedTuple):
    """What is sent, and whether a result for it is wrong: in any service, and in framewire's."""

    request: Request
    refused: bool = True
    ours_refused: bool = True


def bad_uploads(image: Image.Image) -> Iterator[Upload]:
    """One after the other; `image` is a good picture."""
    jpeg, png = encoded(image, "jpg"), encoded(image, "png")
    yield _file("empty upload", b"", "image/jpeg", "nothing.jpg")
    yield _file("text as JPEG", b"This is no picture.\n" * 20, "image/jpeg", "text.jpg")
    yield _file("half a JPEG", jpeg[: len(jpeg) // 2], "image/jpeg", "half.jpg")
    yield _file("half a PNG", png[: len(png) // 2], "image/png", "half.png")
    yield _file("header of a JPEG, then noise", jpeg[:4] + _noise(2000), "image/jpeg", "noise.jpg")
    yield _file("damaged PNG", _damaged(png), "image/png", "damaged.png")
    yield _file("PNG of 3600 megapixels", decompression_bomb(), "image/png", "bomb.png")
    gif = Part(encoded(image, "gif"), "image/gif", "picture.gif")
    yield Upload(Request("GIF", gif), refused=False)
    yield _file("HTML as PNG", b"<html><script>1</script></html>", "image/png", "page.png")
    other = Part(png, "image/png", "picture.png", field="not_the_field")
    yield Upload(Request("field of another name", other))
    yield Upload(Request("no body"))
    form = Part(b"--not the boundary\r\n", "multipart/form-data; boundary=x", "form.bin")
    yield Upload(Request("broken form", form, bare=True))
    text = Part(b'{"image": 1}', "application/json", "body.json")
    yield Upload(Request("JSON in place of a form", text, bare=True))


def mislabelled(image: Image.Image) -> Upload:
    """A good picture whose part says that it is text: either answer is right, a 5xx isn't."""
    part = Part(encoded(image, "png"), "text/plain", "label.png")
    return Upload(Request("PNG as text/plain", part), refused=False, ours_refused=False)


def decompression_bomb() -> bytes:
    """A PNG of a few hundred bytes whose header promises 60,000 × 60,000 pixels."""
    header = struct.pack(">IIBBBBB", BOMB_PX, BOMB_PX, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _damaged(png: bytes) -> bytes:
    """Other bytes in the middle of the pixels."""
    middle = len(png) // 2
    return png[:middle] + _noise(64) + png[middle + 64 :]


def _noise(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def _file(name: str, data: bytes, kind: str, file_name: str) -> Upload:
    return Upload(Request(name, Part(data, kind, file_name)))
