"""Pictures as strangers send them: what is read, and what is refused by which name."""

import dataclasses
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.frames import noise
from tests.test_images_reader import quarters

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
EOI = b"\xff\xd9"
ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True)
class Sent:
    """Bytes, and what becomes of them: a size (width, height) upright, or a code."""

    name: str
    data: bytes
    code: str | None = None
    size: tuple[int, int] | None = None
    degraded: tuple[str, ...] = ()


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width: int = 320, height: int = 240) -> Image.Image:
    """Something with texture."""
    return Image.fromarray(noise(height, width))


JPEG = encoded(photo(), quality=90)
PNG = encoded(photo(), "PNG")
WEBP = encoded(photo(), "WEBP")


def chunk(name: bytes, payload: bytes) -> bytes:
    """A PNG's chunk."""
    checksum = zlib.crc32(name + payload)
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", checksum)


def png(width: int, height: int, rows: bytes, depth: int = 8, colours: int = 2) -> bytes:
    """A PNG of these rows, each with its filter's byte; whatever they are."""
    return (
        PNG_SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG's segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG, saying another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def turned(orientation: int, kind: str) -> bytes:
    """60 × 40 pixels that are red, green over blue, white once they are upright."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = quarters()
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    return encoded(stored, kind, exif=exif)


def zipped(payload: bytes) -> bytes:
    """In an archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("picture.jpg", payload)
    return file.getvalue()


def animation(kind: str) -> bytes:
    """Two pictures, one after the other."""
    return encoded(photo(), kind, save_all=True, append_images=[photo().rotate(90)], duration=50)


def readable() -> Iterator[Sent]:
    """What is read."""
    size = (320, 240)
    yield Sent("a JPEG", JPEG, size=size)
    yield Sent("a PNG", PNG, size=size)
    yield Sent("a WebP", WEBP, size=size)
    yield Sent("a WebP without loss", encoded(photo(), "WEBP", lossless=True), size=size)
    yield Sent("a WebP with alpha", encoded(photo().convert("RGBA"), "WEBP"), size=size)
    yield Sent("a progressive JPEG", encoded(photo(), progressive=True), size=size)
    yield Sent("a grey JPEG", encoded(photo().convert("L")), size=size)
    yield Sent("a CMYK JPEG", encoded(photo().convert("CMYK")), size=size)
    for mode in ("1", "L", "LA", "P", "RGBA"):
        yield Sent(f"a PNG of mode {mode}", encoded(photo().convert(mode), "PNG"), size=size)
    grey16 = Image.fromarray(np.arange(320 * 240, dtype=np.uint16).reshape(240, 320))
    yield Sent("a PNG of 16-bit grey", encoded(grey16, "PNG"), size=size)
    yield Sent("a PNG of 16-bit RGB", png(5, 4, b"\0" * (5 * 6 + 1) * 4, depth=16), size=(5, 4))
    for kind in ("PNG", "WEBP"):
        yield Sent(
            f"an animated {kind}", animation(kind), size=size, degraded=("first_frame_only",)
        )
    for kind in ("JPEG", "PNG", "WEBP"):
        yield Sent(f"a {kind} of one pixel", encoded(photo(1, 1), kind), size=(1, 1))
    yield Sent("a JPEG of 1×30000 pixels", encoded(photo(1, 30000)), size=(1, 30000))
    yield Sent("a PNG of 30000×1 pixels", encoded(photo(30000, 1), "PNG"), size=(30000, 1))
    yield Sent("a JPEG with an archive behind it", JPEG + zipped(b"x"), size=size)
    yield Sent("a JPEG with a film behind it", JPEG + b"\0\0\0\x18ftypmp42" + EOI * 200, size=size)
    yield Sent("a JPEG with filling", JPEG[:2] + b"\xff" * 8 + JPEG[2:], size=size)
    page = segment(0xFE, b"<script>alert(1)</script>")
    yield Sent("a JPEG with a page in a comment", JPEG[:2] + page + JPEG[2:], size=size)
    for kind in ("JPEG", "PNG", "WEBP"):
        for orientation in range(1, 9):
            data = turned(orientation, kind)
            yield Sent(f"a {kind} turned by EXIF {orientation}", data, size=(60, 40))


def cut_short() -> Iterator[Sent]:
    """Each format, cut at every tenth."""
    for kind, data in (("JPEG", JPEG), ("PNG", PNG), ("WEBP", WEBP)):
        for tenth in range(1, 10):
            part = data[: len(data) * tenth // 10]
            yield Sent(f"{tenth}0 % of a {kind}", part, "truncated_image")
        yield Sent(f"a {kind} without its last byte", data[:-1], "truncated_image")
    yield Sent("two bytes of a JPEG", JPEG[:3], "truncated_image")
    yield Sent("four bytes of a PNG", PNG[:4], "truncated_image")
    yield Sent("twelve bytes of a WebP", WEBP[:12], "truncated_image")


def bombs() -> Iterator[Sent]:
    """Small files that ask for much memory or time."""
    zeros = png(1, 1, b"\0" * 4)
    huge = struct.pack(">II", 50_000, 50_000)
    header = chunk(b"IHDR", huge + b"\x08\x02\0\0\0")
    yield Sent("a PNG bomb", PNG_SIGNATURE + header + zeros[33:], "too_many_pixels")
    yield Sent("a PNG of 2³¹ × 2³¹", png(2**31 - 1, 2**31 - 1, b"\0"), "too_many_pixels")
    yield Sent("a JPEG bomb", with_size(JPEG, 65_500, 65_500), "too_many_pixels")
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\xff\x00" * 2
    webp = b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas
    yield Sent("a WebP bomb", webp, "too_many_pixels")
    small, large = png(1, 1, b"\0" * 4), png(20_000, 20_000, b"\0")
    two_sizes = small[:33] + large[8:]
    yield Sent("a PNG that says a small size, then a large one", two_sizes, "corrupt_image")
    at = JPEG.index(b"\xff\xc0")
    second = with_size(JPEG, 65_000, 65_000)[at : at + 19]
    yield Sent("a JPEG that says a small size, then a large one",
               JPEG[: at + 19] + second + JPEG[at + 19 :], "corrupt_image")  # fmt: skip
    progressive = encoded(Image.new("RGB", (640, 480)), progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    yield Sent("a JPEG of 10,000 scans", progressive[:-2] + scan * 10_000 + EOI, "corrupt_image")
    empty = segment(0xE0, b"") * 100_000
    yield Sent("a JPEG of 100,000 segments", JPEG[:2] + empty + JPEG[2:], "corrupt_image")
    yield Sent("a JPEG of a megabyte of filling",
               JPEG[:2] + b"\xff" * 10**6 + JPEG[2:], "corrupt_image")  # fmt: skip
    chunks = PNG[:33] + chunk(b"teXt", b"") * 100_000 + PNG[33:]
    yield Sent("a PNG of 100,000 chunks", chunks, "corrupt_image")
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10**8))
    yield Sent("a PNG with a text of 100 MB", PNG[:33] + text + PNG[33:], "corrupt_image")


def damaged() -> Iterator[Sent]:
    """Of a right kind, and broken."""
    tables = JPEG.index(b"\xff\xdb")
    length = struct.unpack(">H", JPEG[tables + 2 : tables + 4])[0]
    without = JPEG[:tables] + segment(0xFE, b"\0" * (length - 2)) + JPEG[tables + 2 + length :]
    yield Sent("a JPEG that lacks a table", without, "corrupt_image")
    yield Sent("a JPEG of its ends alone", JPEG[:2] + EOI + bytes(40), "corrupt_image")
    yield Sent("a JPEG without a size", JPEG[:2] + segment(0xDA, b"\0" * 9) + EOI, "corrupt_image")
    yield Sent("a JPEG of 0 pixels", with_size(JPEG, 0, 240), "corrupt_image")
    yield Sent("a JPEG of noise", JPEG[:3] + bytes(range(1, 200)) * 50, "corrupt_image")
    yield Sent("a PNG of 0 pixels", png(0, 7, b"\0"), "corrupt_image")
    yield Sent("a PNG with too few rows", png(64, 64, b"\0" * 100), "corrupt_image")
    yield Sent("a PNG with a wrong checksum", PNG[:29] + b"\0\0\0\0" + PNG[33:], "corrupt_image")
    yield Sent("a PNG whose pixels are noise", png(64, 64, b"")[:33]
               + chunk(b"IDAT", bytes(200)) + chunk(b"IEND", b""), "corrupt_image")  # fmt: skip
    yield Sent("a PNG that was sent as text", PNG.replace(b"\r\n", b"\n"), "corrupt_image")
    yield Sent("a PNG of an unknown colour type", png(4, 4, b"\0" * 99, colours=5), "corrupt_image")
    yield Sent("a WebP of noise", WEBP[:20] + b"\xff" * 3 + WEBP[23:], "corrupt_image")
    yield Sent("a WebP of an unknown kind", WEBP[:12] + b"VP9 " + WEBP[16:], "corrupt_image")


def of_other_kinds() -> Iterator[Sent]:
    """What is not taken, whatever it is called."""
    refused = "unsupported_media_type"
    for kind in ("GIF", "BMP", "TIFF", "ICO", "AVIF", "JPEG2000", "PDF", "PPM", "TGA"):
        yield Sent(f"a {kind}", encoded(photo(64, 64), kind), refused)
    yield Sent("an animated GIF", animation("GIF"), refused)
    yield Sent("an HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), refused)
    yield Sent("an MP4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99), refused)
    svg = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
    yield Sent("an SVG", svg, refused)
    entity = b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>'
    yield Sent("an SVG that asks for a file", entity, refused)
    yield Sent("a page", b"<!doctype html><title>404</title>", refused)
    yield Sent("JSON", b'{"image": "aGVsbG8="}', refused)
    yield Sent("text", b"hello, this is no picture", refused)
    yield Sent("zeros", bytes(1000), refused)
    yield Sent("a program", b"\x7fELF" + bytes(99), refused)
    yield Sent("an archive of a JPEG", zipped(JPEG), refused)
    yield Sent("an archive bomb", zipped(bytes(10**7)), refused)
    yield Sent("a JPEG in gzip", gzip.compress(JPEG), refused)
    yield Sent("a GIF that is a JPEG too", b"GIF89a" + JPEG, refused)
    yield Sent("a PDF that is a JPEG too", b"%PDF-1.7\n" + JPEG, refused)
    yield Sent("a JPEG after a newline", b"\n" + JPEG, refused)
    yield Sent("a data: URL", b"data:image/jpeg;base64,/9j/4AAQ", refused)
    yield Sent("nothing", b"", "empty_upload")


READABLE = list(readable())
REFUSED = [*cut_short(), *bombs(), *damaged(), *of_other_kinds()]
