"""Texts in results: of which pixels, carried along which track, and what becomes of a failure."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from contracts.boxes import BoxXYXY
from contracts.errors import BadSetting, OutOfMemory
from contracts.messages import FrameFailure, FrameResult, ModelIdentity, Text, parse_message
from contracts.quads import Quad, bounds_of
from contracts.settings import Settings
from pipeline.carry import Carried
from pipeline.inference import Pipeline, infer
from pipeline.load import load_pipeline
from pipeline.text import Line
from pipeline.text.read import TextHead
from pipeline.track import Tracks
from pipeline.view import View
from tests.frames import BrightnessClassifier, FixedDetector, frame
from tests.messages import frame_result

LEFT, RIGHT = (10.0, 20.0, 110.0, 80.0), (200.5, 30.25, 300.5, 90.25)
SMALL = (10.0, 100.0, 60.0, 131.0)


def square(x1: float, y1: float, x2: float, y2: float) -> Quad:
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


class SpotReader:
    """Reads the brightest spot of the picture, and says how large the picture is."""

    identity = ModelIdentity(name="spots", weights_sha256="2" * 64, runtime="onnxruntime")

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.error: Exception | None = None
        self.lines: Callable[[Line], list[Line]] = lambda line: [line]

    def read(self, image_hwc: NDArray[np.uint8]) -> list[Line]:
        """One line, around the spot."""
        height, width, _ = image_hwc.shape
        self.sizes.append((height, width))
        if self.error:
            raise self.error
        ys, xs = np.nonzero(image_hwc[..., 0] == 255)
        if not len(xs):
            return []
        spot = square(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        return self.lines(Line(f"{width}×{height}", 0.75, spot))


def with_spots(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    image = np.full((200, 400, 3), 60, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return image


def reads(reader: SpotReader, *boxes: BoxXYXY, classes: Sequence[str] = ("thing",)) -> Pipeline:
    """A pipeline that finds these things and reads them; without classes it reads all."""
    head = TextHead(reader, frozenset(classes))
    return Pipeline(FixedDetector(*boxes), None, torch.device("cpu"), text=head)


def one_result(pipeline: Pipeline, image: NDArray[np.uint8], index: int = 0) -> FrameResult:
    [result] = infer(pipeline, [frame(index, image_hwc=image)])
    assert isinstance(result, FrameResult), result
    return result


def test_what_is_read_on_a_detection_has_its_place_in_the_frame() -> None:
    reader = SpotReader()
    image = with_spots((30, 40, 50, 48), (220, 50, 260, 60), (350, 150, 370, 160))
    result = one_result(reads(reader, LEFT, RIGHT), image)
    said = [(text.detection_index, text.text, text.quad) for text in result.texts]
    # The crop of RIGHT has the pixels that its box touches, so it begins at (200, 30).
    assert said == [
        (0, "100×60", square(30, 40, 50, 48)),
        (1, "101×61", square(220, 50, 260, 60)),
    ]
    assert {text.read_at_frame for text in result.texts} == {0}
    assert result.models.text == SpotReader.identity
    assert result.stage_ms.text_ms > 0
    assert result.inference_ms >= result.stage_ms.text_ms


def test_a_text_that_merely_sticks_out_of_the_frame_is_clamped() -> None:
    reader = SpotReader()
    reader.lines = lambda line: [line._replace(quad=square(-5, -9, 60, 40))]
    [text] = one_result(reads(reader, classes=()), with_spots((1, 1, 9, 9))).texts
    assert text.quad == square(0, 0, 60, 40)


def test_without_classes_the_whole_frame_is_read_once() -> None:
    reader = SpotReader()
    result = one_result(reads(reader, LEFT, classes=()), with_spots((350, 150, 370, 160)))
    [text] = result.texts
    assert (text.detection_index, text.text) == (None, "400×200")
    assert text.quad == square(350, 150, 370, 160)
    assert reader.sizes == [(200, 400)]


def test_of_a_whole_frame_only_its_sources_region_is_read() -> None:
    reader = SpotReader()
    pipeline = reads(reader, classes=())
    pipeline.views["cam"] = View(region=(0.25, 0.1, 0.75, 0.9))
    result = one_result(pipeline, with_spots((150, 50, 160, 55), (380, 10, 390, 15)))
    [text] = result.texts
    assert (text.text, text.quad) == ("200×160", square(150, 50, 160, 55))


def test_detections_of_other_classes_are_not_read() -> None:
    reader = SpotReader()
    result = one_result(reads(reader, LEFT, classes=("sign",)), with_spots((30, 40, 50, 48)))
    assert (result.texts, reader.sizes, result.degraded) == ((), [], ())


def test_a_detection_without_text_has_none_and_that_is_no_failure() -> None:
    result = one_result(reads(SpotReader(), LEFT), with_spots())
    assert (result.texts, result.degraded) == ((), ())
    assert len(result.detections) == 1


def test_a_detection_below_the_minimum_is_not_read_and_the_result_says_so() -> None:
    reader = SpotReader()
    pipeline = dataclasses.replace(reads(reader, SMALL, LEFT), min_crop_px=32)
    result = one_result(pipeline, with_spots((30, 40, 50, 48)))
    assert [text.detection_index for text in result.texts] == [1]
    assert result.degraded == ("crop_too_small",)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("it\nfell over"), "inference_error", "RuntimeError: it fell over"),
        (OutOfMemory("text: bad_alloc"), "out_of_memory", "text: bad_alloc"),
    ],
)
@pytest.mark.parametrize("classes", [(), ("thing",)])
def test_a_reader_that_raises_fails_the_frame_by_name(
    error: Exception, code: str, message: str, classes: tuple[str, ...]
) -> None:
    reader = SpotReader()
    reader.error = error
    [failure] = infer(reads(reader, LEFT, classes=classes), [frame(image_hwc=with_spots())])
    assert isinstance(failure, FrameFailure)
    assert (failure.code, failure.message) == (code, message)


@pytest.mark.parametrize(
    "line",
    [
        Line("A", 1.5, square(1, 1, 9, 9)),
        Line("", 0.9, square(1, 1, 9, 9)),
        Line("A", 0.9, square(350, 1, 470, 9)),
        Line("A", 0.9, square(1, 1, 9, float("nan"))),
        Line("A", 0.9, square(1, 1, 9, 9)[::-1]),
    ],
)
def test_a_reader_that_breaks_the_contract_fails_its_frame_alone(line: Line) -> None:
    reader = SpotReader()
    reader.lines = lambda spot: [line if spot.quad[0][0] == 1 else spot]
    images = [with_spots((11, 21, 19, 29)), with_spots((40, 40, 60, 50))]
    frames = [frame(index, image_hwc=image) for index, image in enumerate(images)]
    broken, whole = infer(reads(reader, LEFT), frames)
    assert isinstance(broken, FrameFailure)
    assert broken.code == "contract_violation"
    assert isinstance(whole, FrameResult)
    assert len(whole.texts) == 1


def tracked(reader: SpotReader, every: int) -> Pipeline:
    head = TextHead(reader, frozenset({"thing"}), Carried(every))
    return dataclasses.replace(
        reads(reader),
        text=head,
        tracks=Tracks(0.5),
        views={"cam": View(track=True)},
        classifier=BrightnessClassifier(),
        carried=Carried(every),
    )


def test_a_text_is_carried_along_its_track_and_moves_with_the_box() -> None:
    reader = SpotReader()
    pipeline = tracked(reader, every=4)
    seen: list[tuple[int, float, float]] = []
    for index in range(7):
        box = (10.0 + 4 * index, 20.0, 110.0 + 4 * index, 80.0)
        moved = dataclasses.replace(pipeline, detector=FixedDetector(box))
        # The spot itself stays, so a text that was not read anew stands where the box has gone.
        result = one_result(moved, with_spots((60, 40, 80, 48)), index)
        [text] = result.texts
        seen.append((text.read_at_frame, *text.quad[0]))
    # Frame 0 has no track yet; the track begins with frame 1 and is read again 4 frames later.
    assert [read_at for read_at, _, _ in seen] == [0, 1, 1, 1, 1, 5, 5]
    assert [x for _, x, _ in seen] == [60, 60, 64, 68, 72, 60, 64]
    assert {y for _, _, y in seen} == {40}
    assert len(reader.sizes) == 3


def test_a_text_that_could_not_be_read_is_not_carried_and_a_source_that_ends_is_forgotten() -> None:
    reader = SpotReader()
    pipeline = dataclasses.replace(tracked(reader, every=30), detector=FixedDetector(LEFT))
    image = with_spots((30, 40, 50, 48))
    one_result(pipeline, image, 0)
    reader.error = RuntimeError("once")
    [failure] = infer(pipeline, [frame(1, image_hwc=image)])
    assert isinstance(failure, FrameFailure)
    reader.error = None
    assert [text.read_at_frame for text in one_result(pipeline, image, 2).texts] == [2]
    assert [text.read_at_frame for text in one_result(pipeline, image, 3).texts] == [2]
    pipeline.forget("cam")
    assert [text.read_at_frame for text in one_result(pipeline, image, 4).texts] == [4]


def test_a_reader_that_is_loaded_again_goes_on_with_the_tracks() -> None:
    worn, fresh = reads(SpotReader()), reads(SpotReader())
    assert worn.text
    assert fresh.text
    going_on = fresh.instead_of(worn).text
    assert going_on
    assert going_on.reader is fresh.text.reader
    assert going_on.carried is worn.text.carried


sides = st.floats(min_value=33, max_value=90)


@given(st.floats(0, 300), st.floats(0, 100), sides, sides, st.integers(0, 20), st.integers(0, 20))
def test_a_spot_has_its_own_pixels_whatever_box_it_is_read_in(
    x: float, y: float, width: float, height: float, dx: int, dy: int
) -> None:
    box = (x, y, x + width, y + height)
    spot = (int(x) + dx + 1, int(y) + dy + 1, int(x) + dx + 9, int(y) + dy + 6)
    [text] = one_result(reads(SpotReader(), box), with_spots(spot)).texts
    assert bounds_of(text.quad) == pytest.approx(spot, abs=2e-3)


PLATE = Text(
    detection_index=0, text="AB 1234", score=0.9, quad=square(12, 14, 40, 22), read_at_frame=0
)


def test_a_result_with_texts_goes_over_the_wire_and_back() -> None:
    result = frame_result(texts=(PLATE, PLATE.model_copy(update={"detection_index": None})))
    assert parse_message(result.model_dump_json()) == result


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"detection_index": 2}, "detection_index 2 beyond the 2 detections"),
        ({"quad": square(150, 80, 168, 90)}, "reaches outside the frame"),
        ({"quad": square(200, 80, 240, 90)}, "its centre lies outside the frame"),
        ({"quad": square(40, 14, 12, 22)}, "don't go clockwise"),
    ],
)
def test_a_text_that_is_nowhere_in_its_frame_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        frame_result(texts=(PLATE.model_copy(update=changes),))


def settings(**changes: Any) -> Settings:
    return Settings.model_validate({"sources": ["a.mp4"], "text": "rapidocr", **changes})


def test_a_class_that_the_detector_lacks_is_refused_at_the_start() -> None:
    with pytest.raises(BadSetting, match=r"^text_classes: the detector knows no 'gera'.* gear\?$"):
        load_pipeline(settings(text_classes="bolt,gera", classifier="none"))


def test_without_the_library_the_refusal_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "pipeline.text.rapidocr", raising=False)
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(BadSetting, match=r"pip install 'framewire\[text\]'"):
        load_pipeline(settings())


def test_class_names_are_a_list_or_one_text_with_commas() -> None:
    assert settings(text_classes="stop sign, bus").text_classes == ("stop sign", "bus")
    assert settings(text_classes=["a,b"]).text_classes == ("a,b",)
    with pytest.raises(ValidationError, match="text_classes: not read while text is none"):
        settings(text="none", text_classes="bus")
    with pytest.raises(ValidationError):
        settings(text_classes="bus,,")
