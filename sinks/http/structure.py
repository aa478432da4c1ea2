"""How the three formats are built: the size that a picture says, and whether all of it is there.

Reading this costs no decoding and no memory, whatever the bytes promise. (JPEG: ITU-T T.81, annex
B; PNG: its specification's chapter 5; WebP: RFC 9649.)
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from contracts.errors import CorruptImage, TruncatedImage
from sinks.http.kinds import PNG_SIGNATURE, Kind

MOST_PARTS = 50_000
"""Segments or chunks; a picture has a few thousand at most, and each costs time."""
MOST_SCANS = 32
"""A progressive JPEG has a dozen scans. Each costs as much as a pass over all pixels, and may have
a hundred bytes: a small file could keep a decoder busy for hours."""

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start of frame; the three others are tables."""
_MARKER = re.compile(rb"[^\xff]{0,16}\xff{1,16}([^\xff])", re.DOTALL)
"""Between segments decoders pass over a few bytes too many, and over bytes that fill up."""
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker that ends a scan: not a stuffed byte, and not a restart."""


class Part(NamedTuple):
    """A JPEG's segment or a chunk: what it is, and its payload from `start` to `end`."""

    name: bytes
    start: int
    end: int


def size_of(kind: Kind, data: bytes) -> tuple[int, int]:
    """(width, height) as the picture says. Raises TruncatedImage, CorruptImage."""
    width, height = _SIZE_OF[kind](data)
    if not width or not height:
        raise CorruptImage(f"the {kind} says that it has {width}×{height} pixels")
    return width, height


def check_whole(kind: Kind, data: bytes) -> None:
    """Nothing is missing at its end. Raises TruncatedImage; CorruptImage where it is no picture."""
    match kind:
        case "JPEG":
            names = [part.name[0] for part in _segments(data)]
            if (scans := names.count(_SOS)) > MOST_SCANS:
                raise CorruptImage(f"the JPEG has {scans} scans, more than {MOST_SCANS}")
        case "PNG":
            for _ in _png_chunks(data):
                pass
        case "WEBP":
            promised = 8 + _little(data[4:8])
            if promised > len(data):
                raise TruncatedImage(f"the WebP ends after {len(data)} bytes of {promised}")


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    for part in _segments(data):
        if part.name[0] in _SIZES:
            payload = data[part.start : part.end]
            if len(payload) < 5:
                raise CorruptImage("the JPEG's size is damaged")
            return int.from_bytes(payload[3:5]), int.from_bytes(payload[1:3])
        if part.name[0] == _SOS:
            break
    raise CorruptImage("the JPEG has no size before its pixels")


def _size_of_png(data: bytes) -> tuple[int, int]:
    name, start, end = next(_png_chunks(data))
    if name != b"IHDR" or end - start != 13:
        raise CorruptImage("the PNG doesn't begin with its size")
    return int.from_bytes(data[start : start + 4]), int.from_bytes(data[start + 4 : start + 8])


def _size_of_webp(data: bytes) -> tuple[int, int]:
    name, payload = data[12:16], data[20:30]
    if len(payload) < (5 if name == b"VP8L" else 10):
        raise TruncatedImage(f"the WebP ends after {len(data)} bytes, within its size")
    if name == b"VP8X":
        return 1 + _little(payload[4:7]), 1 + _little(payload[7:10])
    if name == b"VP8L" and payload[0] == 0x2F:
        bits = _little(payload[1:5])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if name == b"VP8 " and payload[3:6] == b"\x9d\x01\x2a":
        return _little(payload[6:8]) & 0x3FFF, _little(payload[8:10]) & 0x3FFF
    raise CorruptImage("the WebP doesn't begin with its size")


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")


_SIZE_OF = {"JPEG": _size_of_jpeg, "PNG": _size_of_png, "WEBP": _size_of_webp}


def _segments(data: bytes) -> Iterator[Part]:
    """The JPEG's segments up to its end."""
    at = 2
    for _ in range(MOST_PARTS):
        marker = _MARKER.match(data, at)
        if marker is None:
            if len(data) - at <= 32:
                raise TruncatedImage(f"the JPEG ends after {len(data)} bytes, before its end")
            raise CorruptImage(f"the JPEG has no segment at byte {at}")
        name, start = marker[1], marker.end() + 2
        if name[0] == _EOI:
            return
        length = int.from_bytes(data[start - 2 : start])
        end = start - 2 + length
        if start > len(data) or end > len(data):
            raise TruncatedImage(f"the JPEG ends after {len(data)} bytes, within a segment")
        if length < 2:
            raise CorruptImage(f"the JPEG's segment at byte {at} is damaged")
        yield Part(name, start, end)
        at = end
        if name[0] == _SOS:
            following = _AFTER_SCAN.search(data, end)
            if following is None:
                raise TruncatedImage(f"the JPEG ends after {len(data)} bytes, within its pixels")
            at = following.start()
    raise CorruptImage(f"the JPEG has more than {MOST_PARTS} segments")


def _png_chunks(data: bytes) -> Iterator[Part]:
    """The PNG's chunks up to its end."""
    if not data.startswith(PNG_SIGNATURE):
        if PNG_SIGNATURE.startswith(data):
            raise TruncatedImage(f"the PNG ends after {len(data)} bytes")
        raise CorruptImage("the PNG's signature is damaged, as where it was sent as text")
    at, name = len(PNG_SIGNATURE), b""
    for _ in range(MOST_PARTS):
        start = at + 8
        end = start + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            raise TruncatedImage(f"the PNG ends after {len(data)} bytes, before its end")
        name = data[at + 4 : at + 8]
        yield Part(name, start, end)
        if name == b"IEND":
            return
        at = end + 4
    raise CorruptImage(f"the PNG has more than {MOST_PARTS} chunks")
