"""What bytes are, by their first ones: whatever a header or a file's name says of them."""

import re
from typing import Literal

from contracts.errors import UnsupportedMediaType

Kind = Literal["JPEG", "PNG", "WEBP"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TAKEN: tuple[tuple[bytes, Kind], ...] = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG", "PNG"),
    (rb"RIFF....WEBP", "WEBP"),
)
# No pattern repeats what repeats by itself: a stranger chose these bytes, and they are looked at
# where all requests are.
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (rb"GIF8[79]a", "a GIF"),
    (rb"BM", "a BMP"),
    (rb"II[*+]\0|MM\0[*+]", "a TIFF"),
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "an HEIC"),
    (rb"....ftyp(avif|avis)", "an AVIF"),
    (rb"....ftyp", "an MP4 or MOV"),
    (rb"RIFF....AVI ", "an AVI"),
    (rb"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000"),
    (rb"\0\0[\x01\x02]\0", "an icon"),
    (rb"8BPS", "a Photoshop file"),
    (rb"%PDF", "a PDF"),
    (rb"(\xef\xbb\xbf)?\s*<(svg|[?!].*<svg)", "an SVG"),
    (rb"(\xef\xbb\xbf)?\s*<", "HTML or XML"),
    (rb"(\xef\xbb\xbf)?\s*[\[{]", "JSON"),
    (rb"data:", "a data: URL; send the bytes that it has"),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive"),
    (rb"\x1f\x8b", "gzip; send it as it is"),
    (rb"Rar!|7z\xbc\xaf", "an archive"),
    (rb"\x7fELF|MZ|#!", "a program"),
)


def kind_of(data: bytes) -> Kind:
    """JPEG, PNG or WEBP. Raises UnsupportedMediaType, which names what it is instead."""
    head = data[:1024]
    for pattern, kind in _TAKEN:
        if re.match(pattern, head, re.DOTALL):
            return kind
    for pattern, name in _REFUSED:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            raise UnsupportedMediaType(f"expected a JPEG, PNG or WebP picture, got {name}")
    raise UnsupportedMediaType(
        f"expected a JPEG, PNG or WebP picture, got {len(data)} bytes that begin with "
        f"{data[:8].hex(' ')}"
    )
