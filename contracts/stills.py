"""From an image file, as Pillow opens it, to the pixels of a frame; nothing is filled with grey.

Readers of files and the HTTP service share it. Nothing else of the contracts needs Pillow.
"""

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from contracts.errors import CorruptImage, NotAnImage

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on damaged bytes: it promises no single type."""

_EIGHT_BITS = ((np.arange(2**16, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
"""Of each value of 16 bits."""
STRIP_PIXELS = 2**20

# Who opens a picture checks its size: Pillow's own limit would refuse or warn on its own terms.
Image.MAX_IMAGE_PIXELS = None


def upright_rgb(image: Image.Image, name: str) -> "ImageHWC":
    """The pixels as (height, width, 3) uint8 RGB, C-contiguous, upright by the EXIF orientation.

    The first picture of an animated or many-page file. Transparency is laid on white, as a viewer
    shows it; 16-bit grey is scaled to 8. Raises CorruptImage, or NotAnImage where the pixels are
    none that can be shown; `name` says of what.
    """
    try:
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
        if image.mode in ("F", "LAB"):
            raise NotAnImage(f"{name}: expected grey, RGB or CMYK, but its pixels are {image.mode}")
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        # In strips, so that a large picture is in memory twice, and not five times.
        n_rows = max(1, STRIP_PIXELS // image.width)
        for top in range(0, image.height, n_rows):
            bottom = min(top + n_rows, image.height)
            pixels[top:bottom] = _to_rgb(image.crop((0, top, image.width, bottom)))
    except DAMAGE as error:
        raise CorruptImage(f"{name}: damaged or cut short: {error}") from error
    return pixels


def _to_rgb(image: Image.Image) -> "ImageHWC":
    if image.mode.startswith("I"):
        grey = _EIGHT_BITS.take(np.asarray(image), mode="clip")
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))
