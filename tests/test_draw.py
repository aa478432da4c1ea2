"""Boxes and labels are where they belong, on frames of any size."""

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.messages import Detection, FrameResult
from sinks.draw import PALETTE, color_of, draw, labels_of
from tests.messages import BRASS, GEAR, NUT, frame_result


def grey(width: int, height: int) -> NDArray[np.uint8]:
    """A frame of one shade that is in no colour of the palette."""
    return np.full((height, width, 3), 77, np.uint8)


def found(width: int, height: int, *boxes: tuple[float, float, float, float]) -> FrameResult:
    """One detection a box, each of a class of its own."""
    detections = tuple(
        Detection(box=box, score=0.9, class_id=index, class_name="gear")
        for index, box in enumerate(boxes)
    )
    return frame_result(width=width, height=height, detections=detections, classifications=())


def pixels_of(image: NDArray[np.uint8], class_id: int) -> NDArray[np.bool_]:
    """Where the picture has exactly the class's colour."""
    return np.asarray((image == color_of(class_id)).all(axis=2))


def test_picture_keeps_its_shape_and_the_original_is_not_touched() -> None:
    image = grey(160, 96)
    image.setflags(write=False)
    drawn = draw(image, frame_result())
    assert drawn.shape == (96, 160, 3)
    assert drawn.dtype == np.uint8
    assert (image == 77).all()
    assert not np.array_equal(drawn, image)


def test_picture_without_detections_is_unchanged() -> None:
    drawn = draw(grey(160, 96), frame_result(detections=(), classifications=()))
    assert (drawn == 77).all()


@pytest.mark.parametrize(("width", "height"), [(320, 240), (1280, 720), (3840, 2160)])
def test_box_has_its_classes_colour_on_all_four_sides(width: int, height: int) -> None:
    x1, y1, x2, y2 = width // 4, height // 4, width * 3 // 4, height * 3 // 4
    drawn = pixels_of(draw(grey(width, height), found(width, height, (x1, y1, x2, y2))), 0)
    assert drawn[(y1 + y2) // 2, [x1, x2 - 1]].all()
    assert drawn[[y1, y2 - 1], (x1 + x2) // 2].all()
    assert not drawn[y1 + height // 8 : y2 - height // 8, x1 + width // 8 : x2 - width // 8].any()


@pytest.mark.parametrize(("width", "height"), [(320, 240), (1280, 720), (3840, 2160)])
def test_label_grows_with_the_frame(width: int, height: int) -> None:
    box = width * 0.25, height * 0.5, width * 0.9, height * 0.9
    drawn = pixels_of(draw(grey(width, height), found(width, height, box)), 0)
    label_rows = drawn[: int(box[1])].any(axis=1).sum()
    assert 0.025 < label_rows / height < 0.09


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 60.0, 60.0),
        (580.0, 0.0, 640.0, 60.0),
        (0.0, 420.0, 60.0, 480.0),
        (580.0, 420.0, 640.0, 480.0),
        (0.0, 0.0, 640.0, 480.0),
        (200.2, 200.7, 201.9, 202.1),
    ],
)
def test_label_lies_whole_in_the_frame(box: tuple[float, float, float, float]) -> None:
    middle = pixels_of(draw(grey(640, 480), found(640, 480, (200.0, 200.0, 260.0, 260.0))), 0)
    drawn = pixels_of(draw(grey(640, 480), found(640, 480, box)), 0)
    label_pixels = middle[:199].sum()
    assert drawn.sum() >= label_pixels


def test_labels_of_two_boxes_at_one_place_do_not_cover_each_other() -> None:
    box = 200.0, 200.0, 400.0, 300.0
    alone = pixels_of(draw(grey(640, 480), found(640, 480, box)), 0)
    both = draw(grey(640, 480), found(640, 480, box, box))
    label_pixels = alone[:199].sum()
    assert label_pixels > 500
    for class_id in (0, 1):
        assert pixels_of(both, class_id).sum() >= label_pixels


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (16, 9), (40, 2000), (2000, 12)])
def test_frame_too_small_for_a_label_is_drawn_all_the_same(width: int, height: int) -> None:
    result = found(width, height, (0.0, 0.0, float(width), float(height)))
    assert draw(grey(width, height), result).shape == (height, width, 3)


def test_label_says_both_classes_and_how_sure_the_models_are() -> None:
    assert labels_of(frame_result()) == ["gear 98% | brass 99%", "nut 91%"]


def test_label_has_only_letters_that_the_font_has() -> None:
    odd = GEAR.model_copy(update={"class_name": "Größe\n"})
    label = labels_of(frame_result(detections=(odd,), classifications=(BRASS,)))[0]
    assert label.isascii()
    assert label.isprintable()


def test_class_keeps_its_colour_and_neighbours_differ() -> None:
    assert len(set(PALETTE)) == len(PALETTE)
    for class_id in range(100):
        assert color_of(class_id) == color_of(class_id)
        assert color_of(class_id) != color_of(class_id + 1)


@pytest.mark.parametrize("background", [0, 255])
def test_box_stands_out_from_any_background(background: int) -> None:
    image = np.full((240, 320, 3), background, np.uint8)
    result = found(320, 240, *[(100.0, 100.0, 200.0, 180.0)] * len(PALETTE))
    for detection in result.detections:
        drawn = draw(image, result.model_copy(update={"detections": (detection,)}))
        column = drawn[140, 95:106].astype(int)
        assert np.abs(column - background).max() > 60


def test_a_tracked_object_shows_its_number() -> None:
    gear = GEAR.model_copy(update={"track_id": 7})
    assert labels_of(frame_result(detections=(gear, NUT)))[0] == "gear #7 98% | brass 99%"
