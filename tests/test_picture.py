"""From bytes to pixels: by their own kind, upright, whole, and never more of them than allowed."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import FramewireError, TooManyPixels, UnsupportedMediaType
from sinks.http.picture import decode, read_header
from tests.picture_corpus import JPEG, PNG, READABLE, REFUSED, WEBP, Sent, encoded, photo
from tests.test_images_reader import corners

MAX_PIXELS = 10**6
TAKEN = {"JPEG": JPEG, "PNG": PNG, "WEBP": WEBP}


@pytest.mark.parametrize("sent", READABLE, ids=lambda sent: sent.name)
def test_is_read(sent: Sent) -> None:
    image_hwc, degraded = decode(sent.data, read_header(sent.data, MAX_PIXELS))
    assert sent.size
    assert image_hwc.shape == (sent.size[1], sent.size[0], 3)
    assert image_hwc.dtype == np.uint8
    assert image_hwc.flags.c_contiguous
    assert degraded == sent.degraded
    if "turned" in sent.name:
        assert corners(image_hwc) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("sent", REFUSED, ids=lambda sent: sent.name)
def test_is_refused_by_name(sent: Sent) -> None:
    with pytest.raises(FramewireError) as caught:
        decode(sent.data, read_header(sent.data, MAX_PIXELS))
    assert caught.value.code == sent.code
    assert caught.value.http_status in (400, 413)


@pytest.mark.parametrize("size", [(1300, 1700), (2**20 + 5, 3), (3, 2**20 + 5)])
def test_a_picture_of_several_strips_is_whole(size: tuple[int, int]) -> None:
    image = photo(*size)
    data = encoded(image, "PNG")
    image_hwc, _ = decode(data, read_header(data, 10**7))
    assert np.array_equal(image_hwc, np.asarray(image))


def test_there_are_many_of_them() -> None:
    names = [sent.name for sent in (*READABLE, *REFUSED)]
    assert len(set(names)) == len(names)
    assert len(REFUSED) >= 60


@pytest.mark.parametrize("kind", TAKEN)
def test_a_picture_of_just_as_many_pixels_as_allowed_is_taken(kind: str) -> None:
    data = encoded(photo(1000, 1000), kind)
    assert read_header(data, 10**6).n_bytes == 3 * 10**6
    with pytest.raises(TooManyPixels, match=f"the {kind} has 1000×1000 pixels, at most 999999"):
        read_header(data, 10**6 - 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a GIF", "got a GIF"),
        ("an HEIC", "got an HEIC"),
        ("an AVIF", "got an AVIF"),
        ("an SVG", "got an SVG"),
        ("a PDF", "got a PDF"),
        ("a TIFF", "got a TIFF"),
        ("a page", "got HTML or XML"),
        ("a JPEG in gzip", "got gzip; send it as it is"),
        ("text", "got 25 bytes that begin with 68 65 6c 6c 6f"),
    ],
)
def test_what_it_is_instead_is_said(name: str, said: str) -> None:
    [sent] = [sent for sent in REFUSED if sent.name in (name, name.replace("an AVIF", "a AVIF"))]
    with pytest.raises(UnsupportedMediaType, match=said):
        read_header(sent.data, MAX_PIXELS)


@given(st.sampled_from(sorted(TAKEN)), st.data())
def test_bytes_that_were_changed_give_pixels_or_a_name(kind: str, data: st.DataObject) -> None:
    changed = bytearray(TAKEN[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(changed) - 1, 700)))
        changed[at] = data.draw(st.integers(0, 255))
    del changed[data.draw(st.integers(1, len(changed))) :]
    with contextlib.suppress(FramewireError):
        header = read_header(bytes(changed), MAX_PIXELS)
        image_hwc, _ = decode(bytes(changed), header)
        assert image_hwc.size == header.n_bytes <= 3 * MAX_PIXELS


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(FramewireError):
        decode(data, read_header(data, MAX_PIXELS))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", [b"<!---->", b"<!-- -->\n", b"<?xml?>", b"<!DOCTYPE ", b"\n "])
def test_bytes_made_to_be_slow_to_name_are_named(piece: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        read_header(piece * 500 + b"x", MAX_PIXELS)
