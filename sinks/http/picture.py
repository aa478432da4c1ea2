"""From the bytes that somebody sent to pixels, with nothing decoded before its size is known."""

import dataclasses
import io
from typing import TYPE_CHECKING

from PIL import Image

from contracts.errors import CorruptImage, EmptyUpload, TooManyPixels
from contracts.stills import DAMAGE, upright_rgb
from sinks.http.kinds import Kind, kind_of
from sinks.http.structure import check_whole, size_of

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

FIRST_FRAME_ONLY = "first_frame_only"
"""In a result's `degraded`: the picture is animated, and only its first one was looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself; width and height are those before it is turned upright."""

    kind: Kind
    width: int
    height: int

    @property
    def n_bytes(self) -> int:
        """Of its pixels, once decoded."""
        return self.width * self.height * 3


def read_header(data: bytes, max_pixels: int) -> Header:
    """By the bytes alone, whatever a file's name or a header says; nothing is decoded.

    Raises EmptyUpload, UnsupportedMediaType, TruncatedImage, CorruptImage, TooManyPixels.
    """
    if not data:
        raise EmptyUpload("the picture has no bytes")
    kind = kind_of(data)
    width, height = size_of(kind, data)
    if width * height > max_pixels:
        raise TooManyPixels(f"the {kind} has {width}×{height} pixels, at most {max_pixels} in all")
    return Header(kind, width, height)


def decode(data: bytes, header: Header) -> tuple["ImageHWC", tuple[str, ...]]:
    """(height, width, 3) uint8 RGB, C-contiguous, upright; and the codes of what is not whole.

    Raises TruncatedImage, CorruptImage.
    """
    check_whole(header.kind, data)
    try:
        with Image.open(io.BytesIO(data), formats=[header.kind]) as image:
            # A file may say its size twice; what was checked is what is decoded.
            if image.size != (header.width, header.height):
                raise CorruptImage(f"the {header.kind} says two sizes: {header}, {image.size}")
            animated = header.kind != "JPEG" and getattr(image, "n_frames", 1) > 1
            pixels = upright_rgb(image, f"the {header.kind}")
    except DAMAGE as error:
        raise CorruptImage(f"the {header.kind} is damaged: {error}") from error
    return pixels, (FIRST_FRAME_ONLY,) if animated else ()
