"""The pictures that a service is asked about, each with how boxes of the first one lie in it."""

import dataclasses
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from contracts.boxes import BoxXYXY
from contracts.errors import NotAnImage
from scripts.review.client import Part, Request

WIDTH_PX, HEIGHT_PX = 640, 480
LONGEST_SIDE_PX = 1280
LARGE_PX = (4000, 3000)
GROUND = (96, 104, 100)
SHIFT_PX = (128, 64)
ORIENTATION_TAG = 0x0112
MIME = {"jpg": "jpeg"}
"""By the end of a file's name, where the two are not the same."""

Move = Callable[[BoxXYXY], BoxXYXY]
Kind = Image.Transpose


@dataclasses.dataclass(frozen=True)
class Shape:
    """Something that is drawn: where it is, and words of names that fit its colour alone."""

    box_xyxy: BoxXYXY
    hues: frozenset[str]


SHAPES = (
    Shape((62, 52, 238, 228), frozenset({"red"})),
    Shape((289, 70, 371, 149), frozenset({"brass", "gold", "golden", "yellow"})),
    Shape((472, 72, 568, 168), frozenset()),
    Shape((325, 255, 475, 405), frozenset({"orange"})),
)
"""A stop sign, a brass nut, a steel washer and an orange, on `drawn`."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """An upload, the size of what is to be seen, and where a box of the first picture is in it."""

    request: Request
    size: tuple[int, int]
    move: Move = lambda box: box


def drawn() -> Image.Image:
    """The known shapes: everyday things that detectors for different worlds take for theirs."""
    # Drawn twice as large, for smooth edges.
    image = Image.new("RGB", (2 * WIDTH_PX, 2 * HEIGHT_PX), GROUND)
    draw = ImageDraw.Draw(image)
    draw.polygon(_corners(150, 140, 95, 8, math.pi / 8), fill=(200, 16, 26))
    font = ImageFont.load_default(124)
    draw.text((300, 280), "STOP", fill=(255, 255, 255), font=font, anchor="mm")
    draw.polygon(_corners(330, 110, 42, 6, 0.2), fill=(214, 178, 88))
    draw.circle((660, 220), 38, fill=(46, 48, 48))
    draw.circle((1040, 240), 96, fill=(190, 192, 196))
    draw.circle((1040, 240), 44, fill=(52, 54, 54))
    for radius in range(150, 0, -1):
        light = 1 - radius / 150
        center = (800 - 0.25 * (150 - radius), 660 - 0.3 * (150 - radius))
        fill = (int(225 + 25 * light), int(95 + 70 * light), int(15 + 60 * light))
        draw.circle(center, radius, fill=fill)
    return image.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.LANCZOS)


def opened(file: Path) -> Image.Image:
    """The user's own picture, upright, RGB, not larger than it need be. Raises NotAnImage."""
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise NotAnImage(f"{file}: {error}") from error
    upright.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    return upright


def first(image: Image.Image) -> Picture:
    """The picture itself, losslessly."""
    return _picture("first.png", image)


def moved(image: Image.Image) -> list[Picture]:
    """The same things elsewhere: what the numbers of a box mean shows in how they change."""
    width, height = image.size
    dx, dy = SHIFT_PX
    double = image.resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    # Where the sides' ratio is another one, a letterbox's padding is too.
    longer = (width // 2, 0) if width >= height else (0, height // 2)
    return [
        _picture("double.png", double, scaled(2)),
        _picture("shifted.png", _on_canvas(image, SHIFT_PX), lambda box: _shifted(box, dx, dy)),
        _picture("mirrored.png", image.transpose(Kind.FLIP_LEFT_RIGHT), turned(image.size, 2)),
        _picture("longer.png", _on_canvas(image, (0, 0), longer)),
    ]


def _on_canvas(
    image: Image.Image, before: tuple[int, int], behind: tuple[int, int] = (0, 0)
) -> Image.Image:
    """With so many pixels more to the left and above, and to the right and below."""
    width, height = (sum(sides) for sides in zip(before, image.size, behind, strict=True))
    canvas = Image.new("RGB", (width, height), image.getpixel((0, 0)))
    canvas.paste(image, before)
    return canvas


def same_pixels(image: Image.Image) -> list[Picture]:
    """The same pixels in files of other kinds."""
    return [
        _picture("lossless.webp", image, lossless=True),
        _picture("opaque.png", image.convert("RGBA")),
    ]


TO_STORE = {
    2: Kind.FLIP_LEFT_RIGHT,
    3: Kind.ROTATE_180,
    5: Kind.TRANSPOSE,
    6: Kind.ROTATE_90,
    8: Kind.ROTATE_270,
}
"""How an upright picture is turned to be stored, so that the orientation turns it back."""


def turned(size: tuple[int, int], orientation: int) -> Move:
    """Where a box of an upright picture of (width, height) lies in the one that is stored."""
    width, height = size

    def move(box: BoxXYXY) -> BoxXYXY:
        x1, y1, x2, y2 = box
        return {
            2: (width - x2, y1, width - x1, y2),
            3: (width - x2, height - y2, width - x1, height - y1),
            5: (y1, x1, y2, x2),
            6: (y1, width - x2, y2, width - x1),
            8: (height - y2, x1, height - y1, x2),
        }[orientation]

    return move


def exif_turned(image: Image.Image) -> dict[int, Picture]:
    """The picture stored turned, with the EXIF orientation that turns it back, by orientation."""
    return {turn: _stored_turned(image, turn) for turn in (6, 3, 8, 5)}


def _stored_turned(image: Image.Image, orientation: int) -> Picture:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    stored = image.transpose(TO_STORE[orientation])
    data = encoded(stored, "jpg", exif=exif)
    name = f"exif{orientation}.jpg"
    return Picture(Request(name, Part(data, "image/jpeg", name)), image.size)


def swapped(image: Image.Image) -> Picture:
    """Red where blue is, and blue where red is."""
    red, green, blue = image.split()
    return _picture("swapped.png", Image.merge("RGB", (blue, green, red)))


def odd(image: Image.Image) -> Iterator[Picture]:
    """Good pictures of kinds that are rare and break what was tried with common ones only."""
    yield _picture("photo.jpg", image)
    yield _picture("grey.png", image.convert("L"))
    yield _picture("palette.png", image.quantize(64))
    clear = image.convert("RGBA")
    clear.putalpha(128)
    yield _picture("alpha.png", clear)
    yield _picture("cmyk.jpg", image.convert("CMYK"))
    yield _picture("dot.png", image.resize((1, 1)))
    yield _picture("strip.png", image.resize((1600, 8)))
    yield _picture("empty.png", Image.new("RGB", (WIDTH_PX, HEIGHT_PX), GROUND))
    yield _picture("large.jpg", image.resize(LARGE_PX, Image.Resampling.NEAREST))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file of the kind: jpg, png, webp or gif."""
    buffer = io.BytesIO()
    quickly = {"jpg": {"quality": 95}, "png": {"compress_level": 1}, "webp": {"method": 0}}
    image.save(buffer, MIME.get(kind, kind), **quickly.get(kind, {}), **options)
    return buffer.getvalue()


def scaled(factor: float) -> Move:
    """Where a box lies in a picture that is so many times as wide and high."""
    return lambda box: (box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor)


def _shifted(box: BoxXYXY, dx: float, dy: float) -> BoxXYXY:
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def _picture(
    name: str, image: Image.Image, move: Move = lambda box: box, **options: object
) -> Picture:
    kind = name.rpartition(".")[2]
    part = Part(encoded(image, kind, **options), f"image/{MIME.get(kind, kind)}", name)
    return Picture(Request(name, part), image.size, move)


def _corners(
    x: float, y: float, radius: float, count: int, turn: float
) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * n / count for n in range(count)]
    return [
        (2 * (x + radius * math.cos(angle)), 2 * (y + radius * math.sin(angle))) for angle in angles
    ]
