"""RapidOCR as it is: where it finds rendered text, what its networks are given, its manners."""

import gc
import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rapidocr
from numpy.typing import NDArray
from rapidocr.inference_engine.onnxruntime import ONNXRuntimeError

from contracts.boxes import BoxXYXY
from contracts.errors import InferenceError, OutOfMemory, WeightsUnreadable
from contracts.quads import bounds_of, quad_fault
from pipeline.text import Line
from pipeline.text.rapidocr import FILES, RapidOcr, _session
from tests.conftest import REPOSITORY
from tests.resources import held, released

Image = NDArray[np.uint8]
FONT = cv2.FONT_HERSHEY_SIMPLEX
RED, BLUE, WHITE, GREY = (255, 0, 0), (0, 0, 255), (255, 255, 255), (70, 80, 90)
MARGIN_PX = 8
"""The library's quadrilaterals keep a distance from the letters, of a third of their height."""


@pytest.fixture(scope="module")
def reader() -> RapidOcr:
    return RapidOcr()


def ground(height: int, width: int, color: tuple[int, int, int] = GREY) -> Image:
    """An RGB picture of one colour."""
    return np.full((height, width, 3), color, np.uint8)


def write(
    image: Image, text: str, x: int, y: int, scale: float = 1.0, color: Any = WHITE
) -> BoxXYXY:
    """The box of the letters, which stand on the line at y."""
    thick = max(2, round(2 * scale))
    cv2.putText(image, text, (x, y), FONT, scale, color, thick, cv2.LINE_AA)
    (width, height), _ = cv2.getTextSize(text, FONT, scale, thick)
    return float(x), float(y - height), float(x + width), float(y)


def one_line(lines: list[Line], text: str) -> Line:
    [line] = [line for line in lines if line.text == text]
    return line


def assert_around(line: Line, box: BoxXYXY, margin_px: float = MARGIN_PX) -> None:
    """The quadrilateral is the letters' box and a margin."""
    assert bounds_of(line.quad) == pytest.approx(box, abs=margin_px)


def test_texts_are_found_where_they_are_written(reader: RapidOcr) -> None:
    image = ground(480, 640)
    upper = write(image, "HELLO 42", 50, 100)
    lower = write(image, "FRAMEWIRE", 300, 400)
    lines = reader.read(image)
    assert [line.text for line in lines] == ["HELLO 42", "FRAMEWIRE"]
    assert_around(lines[0], upper)
    assert_around(lines[1], lower)
    assert all(line.score > 0.9 for line in lines)


@pytest.mark.parametrize(
    ("height", "width", "x", "y", "scale"),
    [(1080, 1920, 1400, 900, 1.5), (2160, 3840, 3000, 1900, 3.0), (777, 1013, 601, 555, 1.2)],
)
def test_pictures_that_are_reduced_for_it_have_their_texts_in_their_own_pixels(
    reader: RapidOcr, height: int, width: int, x: int, y: int, scale: float
) -> None:
    image = ground(height, width)
    box = write(image, "GATE 17", x, y, scale)
    [line] = reader.read(image)
    assert line.text.replace(" ", "") == "GATE17"
    assert_around(line, box, MARGIN_PX * max(scale, width / 960))


@pytest.mark.parametrize(("height", "width"), [(40, 1200), (28, 300), (60, 170)])
def test_a_picture_of_a_single_line_is_read_within_its_bounds(
    reader: RapidOcr, height: int, width: int
) -> None:
    image = ground(height, width)
    box = write(image, "AB 1234", 12, height - 8, 0.8)
    line = one_line(reader.read(image), "AB 1234")
    assert_around(line, box, 1.5 * MARGIN_PX)
    assert quad_fault(line.quad, width, height) is None


def test_a_slanted_line_has_a_slanted_quadrilateral_clockwise_from_its_top_left(
    reader: RapidOcr,
) -> None:
    image = ground(480, 640)
    x1, y1, x2, y2 = write(image, "SLANTED 88", 200, 250, 1.2)
    turn = cv2.getRotationMatrix2D((320, 240), 15, 1)
    turned = cv2.warpAffine(image, turn, (640, 480), borderValue=GREY)
    [line] = reader.read(np.asarray(turned, np.uint8))
    assert line.text == "SLANTED 88"
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]) @ turn[:, :2].T + turn[:, 2]
    for found, expected in zip(line.quad, corners, strict=True):
        assert math.dist(found, expected) < 2 * MARGIN_PX


def test_a_picture_without_text_has_no_lines(reader: RapidOcr) -> None:
    for image in (ground(480, 640), ground(1, 1), ground(16, 3000), ground(3000, 16)):
        assert reader.read(image) == []


class Recorded:
    """A network that also remembers what it was given."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.given: list[NDArray[np.float32]] = []

    def __call__(self, batch: NDArray[np.float32]) -> Any:
        """(1, 3, H, W), values -1 to 1."""
        self.given.append(batch)
        return self._network(batch)


@pytest.mark.parametrize("part", ["text_det", "text_cls", "text_rec"])
def test_the_networks_are_given_blue_green_red(reader: RapidOcr, part: str) -> None:
    image = ground(96, 320, BLUE)
    write(image, "RED 7", 90, 60, 1.5, RED)
    network = getattr(reader.ocr, part)
    recorded = Recorded(network.session)
    network.session = recorded
    try:
        [line] = reader.read(image)
    finally:
        network.session = recorded._network
    assert line.text.replace(" ", "") == "RED7"
    [blue, green, red] = recorded.given[0][0]
    # The library fills up with zeros on the right; the letters are of one colour, the rest of one.
    looked_at = np.abs(green) > 0.5
    ground_px, letter_px = looked_at & (blue > 0.9), looked_at & (red > 0.9)
    assert ground_px.sum() > letter_px.sum() > 100
    assert (red[ground_px] < -0.9).all()
    assert (blue[letter_px] < -0.9).all()


class Fails:
    """A network that can't."""

    def __init__(self, cause: Exception) -> None:
        self._cause = cause

    def __call__(self, _batch: NDArray[np.float32]) -> Any:
        raise ONNXRuntimeError("Traceback (most recent call last):\n  …") from self._cause


@pytest.mark.parametrize(
    ("cause", "kind"),
    [(RuntimeError("the node fell over"), InferenceError), (MemoryError("bad_alloc"), OutOfMemory)],
)
def test_what_a_network_raises_is_named_by_its_cause_and_is_no_empty_result(
    cause: Exception, kind: type[InferenceError]
) -> None:
    broken = RapidOcr()
    image = ground(96, 320)
    write(image, "NO 1", 20, 60)
    text_rec: Any = broken.ocr.text_rec
    text_rec.session = Fails(cause)
    with pytest.raises(kind) as raised:
        broken.read(image)
    assert type(raised.value) is kind
    assert str(raised.value) == f"text rapidocr: {cause}"


def test_the_identity_is_the_hash_of_the_packages_files_one_after_the_other(
    reader: RapidOcr,
) -> None:
    folder = Path(rapidocr.__file__).parent / "models"
    whole = b"".join((folder / name).read_bytes() for name in FILES.values())
    assert reader.identity.weights_sha256 == hashlib.sha256(whole).hexdigest()
    assert (reader.identity.runtime, reader.identity.precision) == ("onnxruntime", "float32")


def test_a_damaged_file_is_named() -> None:
    with pytest.raises(WeightsUnreadable, match=r"text rapidocr: det\.onnx: "):
        _session("det.onnx", b"not a graph")


def test_no_thread_stays_when_a_reader_goes() -> None:
    gc.collect()
    before = held()
    assert RapidOcr().read(ground(64, 64)) == []
    gc.collect()
    assert released(before)


def test_it_calls_nobody_and_says_nothing() -> None:
    """Loading and reading, in a process of its own, which is ended where it opens a connection."""
    code = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        os._exit(9)
sys.addaudithook(watch)
import cv2, numpy
from pipeline.text.rapidocr import RapidOcr
image = numpy.full((480, 640, 3), 80, numpy.uint8)
cv2.putText(image, "QUIET 5", (50, 100), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
reader = RapidOcr()
print([line.text for line in reader.read(image)], reader.read(image[200:]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "['QUIET 5'] []\n", "")
