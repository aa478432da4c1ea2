"""Whether a file holds all the bytes that its container says it holds.

FFmpeg doesn't tell: of a cut Matroska file, a cut transport stream, and a file cut between two
packets it gives what is there and then a plain end of file. The sizes written into the container
do tell, so they are followed from element to element; nothing is guessed from a declared duration
or frame count. A container whose writer never filled the sizes in gives no evidence.

Sources: ISO/IEC 14496-12 (boxes), RFC 8794 and RFC 9559 (EBML, Matroska), the AVI RIFF reference
with the OpenDML extension, the Flash Video file format specification, ISO/IEC 13818-1 (transport
stream).
"""

import os
from pathlib import Path
from typing import BinaryIO

MEDIA_PARTS = frozenset({"mdat", "moof", "movi", "Cluster", "Segment", "tag", "transport packet"})
"""Parts that hold frames. A file cut in another one, such as an index, may have lost none."""

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_UNFILLED_RIFF = (0, 0xFFFFFFFF)


def cut_part(path: Path) -> str | None:
    """The part of the container that the file ends in, None where the file seems whole.

    Reads a few bytes an element. What is not a regular file, such as a pipe, has no end to look at.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        head = _at(file, 0, 197)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide"):
            return _cut_box(file, size)
        if head[:4] == _EBML:
            return _cut_element(file, size)
        if head[:4] == b"RIFF" and head[8:11] == b"AVI":
            return _cut_chunk(file, size)
        if head[:3] == b"FLV":
            return _cut_tag(file, size)
        return _cut_transport_packet(head, size)


def _at(file: BinaryIO, position: int, n_bytes: int) -> bytes:
    file.seek(position)
    return file.read(n_bytes)


def _cut_box(file: BinaryIO, size: int) -> str | None:
    """MP4 and QuickTime: a row of boxes, each a size, a kind and, for size 1, a 64-bit size."""
    position, kinds = 0, set()
    while position + 8 <= size:
        head = _at(file, position, 16)
        length, kind = int.from_bytes(head[:4]), head[4:8].decode("latin-1")
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length == 0:
            length = size - position
        if length < 8:
            return None
        if position + length > size:
            return kind
        kinds.add(kind)
        position += length
    return "moov" if "mdat" in kinds and not kinds & {"moov", "moof"} else None


def _cut_element(file: BinaryIO, size: int) -> str | None:
    """Matroska and WebM: a header, then a segment, whose clusters hold the frames."""
    header_id, length, position = _element(file, 0)
    if length is None or header_id is None:
        return None
    segment_id, segment_length, child = _element(file, position + length)
    if segment_id != _SEGMENT:
        return None
    segment_end = size if segment_length is None else child + segment_length
    while child < min(size, segment_end):
        child_id, length, content = _element(file, child)
        if child_id is None or length is None:
            return None
        if content + length > size:
            return "Cluster" if child_id == _CLUSTER else "header or index"
        child = content + length
    return "Segment" if child < segment_end else None


def _element(file: BinaryIO, position: int) -> tuple[int | None, int | None, int]:
    """An EBML element's id, the length of its content and where that begins. None: unknown."""
    head = _at(file, position, 12)
    id_length = 9 - head[0].bit_length() if head else 9
    if id_length > 4 or len(head) < id_length + 1:
        return None, None, position
    size_length = 9 - head[id_length].bit_length()
    raw = int.from_bytes(head[id_length : id_length + size_length])
    unknown = (1 << 7 * size_length) - 1
    length = raw & unknown
    content = position + id_length + size_length
    return int.from_bytes(head[:id_length]), None if length == unknown else length, content


def _cut_chunk(file: BinaryIO, size: int) -> str | None:
    """AVI: RIFF chunks, more than one in a large file, each with a `movi` list of frames."""
    riff = 0
    while riff + 12 <= size and _at(file, riff, 4) == b"RIFF":
        riff_length = int.from_bytes(_at(file, riff + 4, 4), "little")
        if riff_length in _UNFILLED_RIFF:
            return None
        riff_end = riff + 8 + riff_length
        chunk = riff + 12
        while chunk + 12 <= min(size, riff_end):
            head = _at(file, chunk, 12)
            length = int.from_bytes(head[4:8], "little")
            if length in _UNFILLED_RIFF and head[8:] == b"movi":
                return None
            chunk += 8 + length + length % 2
            if chunk > size:
                return "movi" if head[8:] == b"movi" else "header or index"
        riff = riff_end + riff_end % 2
    return None


def _cut_tag(file: BinaryIO, size: int) -> str | None:
    """Flash video: a row of tags, each followed by its length, which the file must end with."""
    if size <= 13:
        return None
    length = int.from_bytes(_at(file, size - 4, 4))
    tag = max(size - 4 - length, 0)
    whole = int.from_bytes(_at(file, tag + 1, 3)) + 11 == length
    return None if whole else "tag"


def _cut_transport_packet(head: bytes, size: int) -> str | None:
    """MPEG transport stream: packets of 188 bytes; with a time code before each, of 192."""
    for length, sync in ((188, 0), (192, 4)):
        if head[sync : sync + 1] == head[sync + length : sync + length + 1] == b"G":
            return "transport packet" if size % length else None
    return None
