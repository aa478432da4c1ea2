"""Image files, read with Pillow, which says so when one is damaged."""

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from contracts.errors import CorruptImage, FrameTooLarge, NotAnImage, SourceError, SourceNotFound
from contracts.stills import DAMAGE, upright_rgb
from stream.reader import Picture, Reading, Unreadable

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_SIGNATURE = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|BM|II\*\0|MM\0\*", re.DOTALL)


class ImagesReader:
    """Image files in the order given; each is one frame, named by its path below `folder`.

    An image has no presentation time: `pts_s` is None.
    """

    live = False

    def __init__(self, paths: Sequence[Path], folder: Path, max_frame_pixels: int) -> None:
        """Opens nothing yet: each file is open only while it is read."""
        self._paths = paths
        self._folder = folder
        self._max_frame_pixels = max_frame_pixels

    @property
    def frame_count_hint(self) -> int | None:
        """One frame a file."""
        return len(self._paths)

    def pictures(self) -> Iterator[Reading]:
        """Each file's picture, or why there is none; one bad file does not end the others."""
        for path in self._paths:
            name = path.relative_to(self._folder).as_posix()
            # A file's name is bytes; what of it is no Unicode can't stand in a message as it is.
            image_id = name.encode("utf-8", "backslashreplace").decode("utf-8")
            try:
                yield Picture(read_image(path, self._max_frame_pixels), image_id=image_id)
            except SourceError as error:
                yield Unreadable(error, image_id=image_id)

    def close(self) -> None:
        """Nothing is open between two files."""


def read_image(path: Path, max_pixels: int) -> "ImageHWC":
    """The image as (height, width, 3) uint8 RGB, C-contiguous, upright by its EXIF orientation.

    The first picture of an animated or many-page file. Raises `FrameTooLarge` by the header alone,
    before any pixel is decoded, `NotAnImage`, `CorruptImage`, or `SourceNotFound` where the file
    can't be opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise SourceNotFound(f"{path}: can't be opened: {error.strerror}") from error
        try:
            image = stack.enter_context(Image.open(file, formats=_FORMATS))
            _check_size(image, path, max_pixels)
        except UnidentifiedImageError as error:
            file.seek(0)
            if _SIGNATURE.match(file.read(12)):
                raise CorruptImage(f"{path}: damaged or cut short in its header") from error
            raise NotAnImage(f"{path}: expected {', '.join(_FORMATS)}") from error
        except DAMAGE as error:
            raise CorruptImage(f"{path}: damaged or cut short: {error}") from error
        return upright_rgb(image, str(path))


def _check_size(image: Image.Image, path: Path, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        text = f"{image.width}×{image.height} pixels, at most {max_pixels} in all"
        raise FrameTooLarge(f"{path}: {text}")


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sorts `img2.jpg` before `img10.jpg`, folder by folder."""
    runs = ("".join(run) for _, run in itertools.groupby(path.as_posix(), str.isdecimal))
    return [(0, int(run)) if run.isdecimal() else (1, run) for run in runs]
