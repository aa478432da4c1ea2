"""What is found in a region lies in the frame where it was found, to the pixel."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from contracts.errors import BadSetting
from contracts.frame import Frame
from contracts.messages import Detection, FrameFailure, FrameResult, MaskRle
from contracts.settings import SourceSettings
from pipeline.detect import RawDetections
from pipeline.inference import Pipeline, infer
from pipeline.region import Window, cut, put_back, put_back_mask, window_of
from pipeline.view import View, view_of
from tests.frames import BrightnessClassifier, FixedDetector, frame, noise

SIDE = st.integers(1, 40)
Bitmap = NDArray[np.uint8]


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, Window]:
    """A frame's width and height, and a window of whole pixels in it."""
    width, height = draw(SIDE), draw(SIDE)
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    return width, height, Window(x1, y1, x2, y2)


def encoded(bitmap: Bitmap) -> MaskRle:
    height, width = bitmap.shape
    found = coco_mask.encode(np.asfortranarray(bitmap))
    return MaskRle(size=(height, width), counts=found["counts"].decode("ascii"))


def decoded(mask: MaskRle) -> Bitmap:
    bitmap: Bitmap = coco_mask.decode({"size": mask.size, "counts": mask.counts.encode("ascii")})
    return bitmap


@pytest.mark.parametrize(
    ("region", "window"),
    [
        ((0.0, 0.0, 1.0, 1.0), (0, 0, 640, 480)),
        ((0.1, 0.5, 0.9, 1.0), (64, 240, 576, 480)),
        ((0.0, 0.0, 0.333, 0.333), (0, 0, 213, 160)),
        ((0.9999, 0.9999, 1.0, 1.0), (639, 479, 640, 480)),
        ((0.5, 0.5, 0.5001, 0.5001), (320, 240, 321, 241)),
    ],
)
def test_a_region_is_whole_pixels_and_never_empty(
    region: tuple[float, float, float, float], window: tuple[int, int, int, int]
) -> None:
    assert window_of(region, 640, 480) == window


@given(windows())
def test_a_window_is_found_again_from_its_fractions(case: tuple[int, int, Window]) -> None:
    width, height, (x1, y1, x2, y2) = case
    region = (x1 / width, y1 / height, x2 / width, y2 / height)
    assert window_of(region, width, height) == (x1, y1, x2, y2)


def test_the_cut_is_of_the_windows_pixels_side_by_side_and_of_the_same_frame() -> None:
    whole = frame(3, image_hwc=noise(48, 64))
    part = cut(whole, Window(5, 7, 30, 20))
    assert part.image_hwc.flags.c_contiguous
    assert (part.image_hwc == whole.image_hwc[7:20, 5:30]).all()
    assert (part.width, part.height) == (25, 13)
    assert (part.frame_index, part.trace_id) == (3, whole.trace_id)


@given(windows(), st.data())
def test_a_box_and_its_mask_come_back_exactly(
    case: tuple[int, int, Window], data: st.DataObject
) -> None:
    width, height, window = case
    inner_width, inner_height = window.x2 - window.x1, window.y2 - window.y1
    rows = st.lists(st.integers(0, 1), min_size=inner_width, max_size=inner_width)
    bitmap = np.array(
        data.draw(st.lists(rows, min_size=inner_height, max_size=inner_height)), np.uint8
    )
    thousandths = data.draw(st.lists(st.integers(0, 40_000), min_size=4, max_size=4))
    x1, y1, x2, y2 = (value / 1000 for value in thousandths)
    found = Detection(
        box=(x1, y1, x2, y2), score=0.5, class_id=1, class_name="thing", mask_rle=encoded(bitmap)
    )
    back = put_back(found, window, width, height)
    assert [round(1000 * value) for value in back.box] == [
        thousandth + 1000 * offset
        for thousandth, offset in zip(thousandths, (window.x1, window.y1) * 2, strict=True)
    ]
    assert all(value == round(value, 3) for value in back.box)
    expected = np.zeros((height, width), np.uint8)
    expected[window.y1 : window.y2, window.x1 : window.x2] = bitmap
    assert back.mask_rle
    assert back.mask_rle.size == (height, width)
    assert (decoded(back.mask_rle) == expected).all()
    assert back.mask_rle == encoded(expected)


def test_a_detection_without_a_mask_has_none_after() -> None:
    found = Detection(box=(1.0, 2.0, 3.0, 4.0), score=0.5, class_id=1, class_name="thing")
    back = put_back(found, Window(10, 20, 60, 40), 64, 48)
    assert (back.box, back.mask_rle) == ((11.0, 22.0, 13.0, 24.0), None)


def test_an_empty_mask_stays_empty() -> None:
    empty = encoded(np.zeros((4, 5), np.uint8))
    assert not decoded(put_back_mask(empty, Window(1, 2, 6, 6), 8, 9)).any()


class LooksAtSizes(FixedDetector):
    """Remembers how large the frames were that it was shown."""

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        super().__init__(*boxes)
        self.sizes: list[tuple[int, int]] = []

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        self.sizes += [(item.width, item.height) for item in frames]
        return super().detect(frames)


def looking(detector: FixedDetector, view: View) -> Pipeline:
    return Pipeline(
        detector, BrightnessClassifier(), torch.device("cpu"), min_crop_px=4, views={"cam": view}
    )


def test_the_detector_sees_the_region_only_and_the_classifier_the_full_frames_pixels() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[24:36, 32:48] = 255
    detector = LooksAtSizes((0.0, 0.0, 16.0, 12.0))
    pipeline = looking(detector, View(region=(0.5, 0.5, 1.0, 1.0)))
    results = infer(pipeline, [frame(image_hwc=image), frame(source_id="other")])
    assert detector.sizes == [(32, 24), (64, 48)]
    here, elsewhere = results
    assert isinstance(here, FrameResult)
    assert isinstance(elsewhere, FrameResult)
    assert (here.width, here.height) == (64, 48)
    assert here.detections[0].box == (32.0, 24.0, 48.0, 36.0)
    assert here.classifications[0].class_name == "bright"
    assert elsewhere.detections[0].box == (0.0, 0.0, 16.0, 12.0)


def test_a_box_that_sticks_out_of_the_region_is_clamped_to_it() -> None:
    pipeline = looking(FixedDetector((-4.0, -4.0, 40.0, 20.0)), View(region=(0.25, 0.25, 0.75, 1)))
    [result] = infer(pipeline, [frame()])
    assert isinstance(result, FrameResult)
    assert result.detections[0].box == (16.0, 12.0, 48.0, 32.0)


def test_a_box_that_is_none_in_the_region_breaks_the_contract() -> None:
    pipeline = looking(FixedDetector((40.0, 4.0, 60.0, 20.0)), View(region=(0.0, 0.0, 0.5, 0.5)))
    [failure] = infer(pipeline, [frame()])
    assert isinstance(failure, FrameFailure)
    assert failure.code == "contract_violation"


class TwoKinds(FixedDetector):
    """A cat and a dog in every frame."""

    class_names = ("background", "cat", "dog")

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        both = RawDetections(
            torch.tensor([[0.0, 0.0, 20.0, 20.0], [8.0, 8.0, 40.0, 40.0]]),
            torch.tensor([0.9, 0.8]),
            torch.tensor([1, 2]),
        )
        return [both for _ in frames]


def test_a_source_reports_the_classes_that_it_asks_for_and_the_others_all() -> None:
    pipeline = looking(TwoKinds(), View(classes=frozenset({"dog"})))
    here, elsewhere = infer(pipeline, [frame(), frame(source_id="other")])
    assert isinstance(here, FrameResult)
    assert isinstance(elsewhere, FrameResult)
    assert [one.class_name for one in here.detections] == ["dog"]
    assert [one.detection_index for one in here.classifications] == [0]
    assert [one.class_name for one in elsewhere.detections] == ["cat", "dog"]


def test_a_view_is_what_the_source_says_and_tracking_what_the_run_says_unless_it_does() -> None:
    source = SourceSettings(uri="a.mp4", id="a", classes=("dog",), region=(0, 0, 0.5, 1))
    expected = View((0, 0, 0.5, 1), frozenset({"dog"}), track=True)
    assert view_of(source, TwoKinds.class_names, track=True) == expected
    untracked = source.model_copy(update={"track": False})
    assert not view_of(untracked, TwoKinds.class_names, track=True).track


@pytest.mark.parametrize(
    ("name", "hint"),
    [("dogs", "did you mean dog"), ("lorry", "there is background, cat, dog")],
)
def test_a_class_that_the_detector_does_not_know_is_refused(name: str, hint: str) -> None:
    source = SourceSettings(uri="a.mp4", id="a", classes=("cat", name))
    with pytest.raises(BadSetting, match=f"source a: classes: .*'{name}'; {hint}"):
        looking(TwoKinds(), View()).view_of(source)


def test_tracking_is_refused_where_the_models_were_not_loaded_for_it() -> None:
    source = SourceSettings(uri="a.mp4", id="a", track=True)
    with pytest.raises(BadSetting, match="source a: track: "):
        looking(FixedDetector(), View()).view_of(source)
