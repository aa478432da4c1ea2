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
        return _to_rgb(image, name)
    except DAMAGE as error:
        raise CorruptImage(f"{name}: damaged or cut short: {error}") from error


def _to_rgb(image: Image.Image, name: str) -> "ImageHWC":
    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.uint32).clip(0, 65535) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    if image.mode in ("F", "LAB"):
        raise NotAnImage(f"{name}: expected grey, RGB or CMYK, but its pixels are {image.mode}")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"), dtype=np.uint8, order="C")
