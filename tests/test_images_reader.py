"""Image files as they are found: every mode, turned, animated, damaged, mislabelled, too large."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from contracts.errors import (
    CorruptImage,
    FrameTooLarge,
    NotAnImage,
    SourceNotFound,
)
from stream.images import ImagesReader, read_image
from stream.reader import Picture, Unreadable

COCO = Path(__file__).parents[2] / "shared/data/coco-mini/val2017"
MEGAPIXEL = 10**6
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def quarters(mode: str = "RGB") -> Image.Image:
    """60 × 40 pixels: red, green over blue, white."""
    image = Image.new("RGB", (60, 40))
    for index, colour in enumerate(COLOURS.values()):
        x, y = index % 2 * 30, index // 2 * 20
        image.paste(colour, (x, y, x + 30, y + 20))
    return image if mode == "RGB" else image.convert(mode)


def corners(image_hwc: NDArray[np.uint8]) -> list[str]:
    """The names of the colours in the four quarters, row by row."""
    height, width = image_hwc.shape[:2]
    names: list[str] = []
    for y, x in ((1, 1), (1, 3), (3, 1), (3, 3)):
        pixel = image_hwc[height * y // 4, width * x // 4].astype(int)
        names += [name for name, rgb in COLOURS.items() if np.abs(pixel - rgb).max() < 40]
    return names


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    """The image in a file."""
    image.save(path, **options)
    return path


def encoded(format_name: str) -> bytes:
    """A small image, with EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    quarters().save(file, format_name, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_every_format_comes_as_contiguous_rgb(tmp_path: Path, suffix: str) -> None:
    image_hwc = read_image(saved(tmp_path / f"a{suffix}", quarters()), MEGAPIXEL)
    assert image_hwc.shape == (40, 60, 3)
    assert image_hwc.dtype == np.uint8
    assert image_hwc.flags.c_contiguous
    assert corners(image_hwc) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.jpg", "CMYK"), ("a.png", "P"), ("a.png", "RGBA"), ("a.tif", "CMYK"), ("a.tif", "YCbCr")],
)
def test_every_colour_mode_comes_as_rgb(tmp_path: Path, name: str, mode: str) -> None:
    path = saved(tmp_path / name, quarters(mode))
    with Image.open(path) as image:
        assert image.mode == mode or (name, mode) == ("a.tif", "YCbCr")
    assert corners(read_image(path, MEGAPIXEL)) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_grey_comes_as_three_equal_channels(tmp_path: Path, name: str) -> None:
    image_hwc = read_image(saved(tmp_path / name, Image.new("L", (9, 7), 100)), MEGAPIXEL)
    assert image_hwc.shape == (7, 9, 3)
    assert np.abs(image_hwc.astype(int) - 100).max() <= 1


def test_black_and_white_comes_as_0_and_255(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (4, 4), 1))
    assert set(read_image(path, MEGAPIXEL).flat) == {255}


@pytest.mark.parametrize(
    ("mode", "clear"), [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0)), ("RGBA", (0, 0, 0, 0))]
)
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str, clear: tuple[int, ...]) -> None:
    path = saved(tmp_path / "a.png", Image.new(mode, (4, 4), clear))
    assert set(read_image(path, MEGAPIXEL).flat) == {255}


def test_a_transparent_palette_colour_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    path = saved(tmp_path / "a.png", image, transparency=1)
    assert set(read_image(path, MEGAPIXEL).flat) == {255}


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 257, 300, 32768, 65535]], np.uint16)
    image_hwc = read_image(saved(tmp_path / name, Image.fromarray(values)), MEGAPIXEL)
    assert image_hwc[0].tolist() == [[v, v, v] for v in (0, 1, 1, 128, 255)]


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, ["red", "green", "blue", "white"]),
        (2, ["green", "red", "white", "blue"]),
        (3, ["white", "blue", "green", "red"]),
        (4, ["blue", "white", "red", "green"]),
        (5, ["red", "blue", "green", "white"]),
        (6, ["blue", "red", "white", "green"]),
        (7, ["white", "green", "blue", "red"]),
        (8, ["green", "white", "red", "blue"]),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_turned_photographs_come_upright(
    tmp_path: Path, suffix: str, orientation: int, shown: list[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image_hwc = read_image(saved(tmp_path / f"a{suffix}", quarters(), exif=exif), MEGAPIXEL)
    assert image_hwc.shape == ((60, 40, 3) if orientation >= 5 else (40, 60, 3))
    assert corners(image_hwc) == shown


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif"])
def test_of_several_pictures_the_first_one_is_read(tmp_path: Path, name: str) -> None:
    others = [Image.new("RGB", (60, 40), "black")] * 2
    path = saved(tmp_path / name, quarters(), save_all=True, append_images=others)
    assert corners(read_image(path, MEGAPIXEL)) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_an_image_cut_short_is_corrupt(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: max(int(path.stat().st_size * share), 12)])
    with pytest.raises(CorruptImage, match=f"a{suffix}"):
        read_image(path, MEGAPIXEL)


@pytest.mark.parametrize(
    "content", [b"", b"just text\n" * 9, encoded("GIF"), b"RIFF\x10\0\0\0WAVEfmt "]
)
def test_what_is_no_image_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(NotAnImage, match=r"a\.jpg"):
        read_image(path, MEGAPIXEL)


def test_floating_point_pixels_have_no_known_white_and_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnImage):
        read_image(saved(tmp_path / "a.tif", Image.new("F", (4, 4))), MEGAPIXEL)


def test_a_huge_image_is_refused_by_its_header_before_it_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (20_000, 20_000)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FrameTooLarge, match="20000×20000"):
        read_image(path, MEGAPIXEL)


def test_an_image_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match=r"a\.jpg"):
        read_image(tmp_path / "a.jpg", MEGAPIXEL)


def test_one_bad_file_does_not_end_the_others_and_each_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    paths = [saved(tmp_path / name, quarters()) for name in ("a.jpg", "sub/b.png")]
    bad = tmp_path / "c.jpg"
    bad.write_bytes(b"no")
    reader = ImagesReader([paths[0], bad, paths[1]], tmp_path, MEGAPIXEL)
    first, second, third = reader.pictures()
    assert reader.frame_count_hint == 3
    assert isinstance(second, Unreadable)
    assert isinstance(second.error, NotAnImage)
    assert isinstance(first, Picture)
    assert isinstance(third, Picture)
    names = [first.image_id, second.image_id, third.image_id]
    assert names == ["a.jpg", "c.jpg", "sub/b.png"]
    assert first.pts_s is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_anywhere_is_a_picture_or_an_error_by_name(
    tmp_path: Path, format_name: str, data: st.DataObject
) -> None:
    content = bytearray(encoded(format_name))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.jpg"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    (reading,) = ImagesReader([path], tmp_path, MEGAPIXEL).pictures()
    assert isinstance(reading, Picture | Unreadable)
    assert reading.image_id == "a.jpg"


@pytest.mark.parametrize("n_read", [0, 1, 3])
def test_readers_leave_no_file_open(tmp_path: Path, n_read: int) -> None:
    paths = [saved(tmp_path / f"{i}.png", quarters()) for i in range(2)]
    cut = tmp_path / "cut.png"
    cut.write_bytes(paths[0].read_bytes()[:80])
    open_fds: Callable[[], int] = lambda: len(os.listdir("/proc/self/fd"))  # noqa: E731, PTH208
    before = open_fds()
    for _ in range(50):
        reader = ImagesReader([paths[0], cut, paths[1]], tmp_path, MEGAPIXEL)
        for _reading in zip(range(n_read), reader.pictures(), strict=False):
            pass
        reader.close()
    assert open_fds() == before


@pytest.mark.shared
def test_every_image_of_coco_mini_reads_at_the_size_in_its_header() -> None:
    paths = sorted(COCO.glob("*.jpg"))
    assert len(paths) > 10
    for path, reading in zip(paths, ImagesReader(paths, COCO, MEGAPIXEL).pictures(), strict=True):
        assert isinstance(reading, Picture)
        with Image.open(path) as image:
            assert reading.image_hwc.shape == (image.height, image.width, 3)


def test_a_name_that_is_no_unicode_comes_escaped(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    named = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    (tmp_path / "a.png").rename(named)
    [reading] = ImagesReader([named], tmp_path, 10**6).pictures()
    assert isinstance(reading, Picture)
    assert reading.image_id == "\\udcff.png"
