"""Draws a result into its picture: boxes and labels that are readable at any resolution."""

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from contracts.boxes import BoxXYXY
from contracts.messages import FrameResult
from contracts.quads import Quad, bounds_of

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

RGB = tuple[int, int, int]
Rect = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in pixels; x2 and y2 are exclusive."""

# Okabe and Ito's colours, told apart by most colour-blind people, in an order that keeps neighbours
# far apart; black is left out because the outlines are black.
PALETTE: tuple[RGB, ...] = (
    (240, 228, 66),
    (86, 180, 233),
    (230, 120, 0),
    (0, 190, 140),
    (204, 121, 167),
    (0, 114, 178),
    (213, 60, 0),
    (255, 255, 255),
)
BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclasses.dataclass(frozen=True, slots=True)
class Pen:
    """Sizes in pixels that fit the frame."""

    line_px: int
    padding_px: int
    font_scale: float
    font_px: int

    @classmethod
    def for_frame(cls, width: int, height: int) -> "Pen":
        """A line is 1/360 of the frame's shorter side, a letter 1/40 and at least 9 pixels."""
        side = min(width, height)
        line_px = max(1, round(side / 360))
        letter_px = max(9, side // 40)
        stroke_px = max(1, round(letter_px / 12))
        scale = cv2.getFontScaleFromHeight(FONT, letter_px, stroke_px)
        return cls(line_px, max(2, letter_px // 3), scale, stroke_px)


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """A text and the room that it takes, padding included."""

    text: str
    width: int
    height: int
    baseline: int


def draw(image_hwc: "ImageHWC", result: FrameResult) -> "ImageHWC":
    """A copy with every detection's box and label, "gear 98% | brass 99%", and every text.

    `image_hwc` is (height, width, 3) uint8 RGB, and so is the copy. A class keeps its colour. Boxes
    are drawn worst score first, so that the best lie on top; labels lie above all boxes, within the
    frame, and move to another side of their box where they would cover an earlier label. What is
    read is framed in white, and said in black on white.
    """
    drawn = np.ascontiguousarray(image_hwc).copy()
    height, width = drawn.shape[:2]
    pen = Pen.for_frame(width, height)
    for detection in sorted(result.detections, key=lambda item: item.score):
        _draw_box(drawn, _pixels(detection.box), color_of(detection.class_id), pen)
    for text in result.texts:
        _draw_quad(drawn, text.quad, pen)
    taken: list[Rect] = []
    for said, box, color in _labelled(result):
        label = _measure(said, pen)
        room = _place(label, _pixels(box), taken, width, height)
        _draw_label(drawn, label, room, color, pen)
        taken.append(room)
    return drawn


def _labelled(result: FrameResult) -> Iterator[tuple[str, BoxXYXY, RGB]]:
    """What is to be said where, and in which colour."""
    for said, detection in zip(labels_of(result), result.detections, strict=True):
        yield said, detection.box, color_of(detection.class_id)
    for text in result.texts:
        yield _drawable(text.text), bounds_of(text.quad), WHITE


def color_of(class_id: int) -> RGB:
    """The class's colour, the same in every frame and run."""
    return PALETTE[class_id % len(PALETTE)]


def labels_of(result: FrameResult) -> list[str]:
    """One text a detection. OpenCV 4 draws only ASCII; other letters become question marks."""
    finer = {item.detection_index: item for item in result.classifications}
    texts = []
    for index, detection in enumerate(result.detections):
        track = "" if detection.track_id is None else f" #{detection.track_id}"
        text = f"{detection.class_name}{track} {detection.score:.0%}"
        if index in finer:
            text += f" | {finer[index].class_name} {finer[index].score:.0%}"
        texts.append(_drawable(text))
    return texts


def _drawable(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def _pixels(box: BoxXYXY) -> Rect:
    x1, y1, x2, y2 = box
    return math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)


def _draw_box(image: "ImageHWC", box: Rect, color: RGB, pen: Pen) -> None:
    """A coloured frame between two black ones, so that it shows on any background."""
    corners = (box[0], box[1]), (box[2] - 1, box[3] - 1)
    cv2.rectangle(image, *corners, BLACK, pen.line_px + 2)
    cv2.rectangle(image, *corners, color, pen.line_px)


def _draw_quad(image: "ImageHWC", quad: Quad, pen: Pen) -> None:
    """As a box."""
    corners = np.array(quad).round().astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(image, [corners], True, BLACK, pen.line_px + 2)
    cv2.polylines(image, [corners], True, WHITE, pen.line_px)


def _measure(text: str, pen: Pen) -> Label:
    (width, height), baseline = cv2.getTextSize(text, FONT, pen.font_scale, pen.font_px)
    full_height = height + baseline + pen.padding_px
    return Label(text, width + 2 * pen.padding_px, full_height, baseline)


def _place(label: Label, box: Rect, taken: list[Rect], width: int, height: int) -> Rect:
    """The first free place at the box, or the first of all where none is free."""
    places = [_within(place, width, height) for place in _places(label, box)]
    free = (place for place in places if not any(_overlap(place, other) for other in taken))
    return next(free, places[0])


def _places(label: Label, box: Rect) -> Iterator[Rect]:
    """Above the box, below it, inside at its top, inside at its bottom; left, then right."""
    x1, y1, x2, y2 = box
    for y in (y1 - label.height, y2, y1, y2 - label.height):
        for x in (x1, x2 - label.width):
            yield x, y, x + label.width, y + label.height


def _within(rect: Rect, width: int, height: int) -> Rect:
    """Moved into the frame; one that is larger than the frame begins at its left or top edge."""
    x = max(0, min(rect[0], width - (rect[2] - rect[0])))
    y = max(0, min(rect[1], height - (rect[3] - rect[1])))
    return x, y, x + rect[2] - rect[0], y + rect[3] - rect[1]


def _overlap(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_label(image: "ImageHWC", label: Label, room: Rect, color: RGB, pen: Pen) -> None:
    x1, y1, x2, y2 = room
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), color, cv2.FILLED)
    at = x1 + pen.padding_px, y2 - label.baseline - pen.padding_px // 2
    ink = BLACK if _luminance(color) > 0.4 else WHITE
    cv2.putText(image, label.text, at, FONT, pen.font_scale, ink, pen.font_px, cv2.LINE_AA)


def _luminance(color: RGB) -> float:
    """Perceived brightness, 0 to 1 (ITU-R BT.601 weights)."""
    red, green, blue = color
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255
