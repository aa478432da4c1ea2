"""Texts for a batch: which detections are read, and which carry their texts along.

A carried text moves with the box of its object, as if painted on it.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from contracts.boxes import BoxXYXY
from contracts.errors import InferenceError
from contracts.frame import Frame
from contracts.messages import Detection, FrameFailure
from contracts.quads import Quad, scale_and_move
from contracts.settings import Region
from pipeline.admit import BOX_DECIMALS
from pipeline.carry import Carried
from pipeline.contain import InferenceHealth, contain
from pipeline.crop import pixel_bounds
from pipeline.label import is_large_enough
from pipeline.region import window_of
from pipeline.stopwatch import Stopwatch
from pipeline.text import Line, TextReader

Lines = Sequence[Line]


@dataclasses.dataclass(frozen=True, eq=False)
class TextHead:
    """What is read, and by whom. Used by the inference thread only."""

    reader: TextReader
    classes: frozenset[str] = frozenset()
    """Detections of these are read; empty: the whole frame is, or its source's region."""
    carried: Carried[Lines] = dataclasses.field(default_factory=lambda: Carried(every_n_frames=1))
    """Quads in them are in fractions of the detection's box."""

    def instead_of(self, worn: "TextHead") -> "TextHead":
        """This reader, going on with what the other one knew of the tracks."""
        return dataclasses.replace(self, carried=worn.carried)


class FoundText(NamedTuple):
    """A line in the frame; its quad is in pixels of the frame."""

    detection_index: int | None
    line: Line
    read_at_frame: int


@dataclasses.dataclass(frozen=True, slots=True)
class FrameTexts:
    """What is written in one frame."""

    found: Sequence[FoundText] = ()
    left_out: bool = False
    """A detection that should have been read is too small."""
    error: InferenceError | None = None
    """Why something could not be read; then the frame has no result."""


NOTHING_READ = FrameTexts()


def read_batch(
    frames: Sequence[Frame],
    found: Sequence[list[Detection] | FrameFailure],
    regions: Sequence[Region | None],
    head: TextHead,
    min_crop_px: int,
    watch: Stopwatch,
    health: InferenceHealth,
) -> list[FrameTexts]:
    """What is written in each frame. Crops are cut and read one by one: one is in memory."""
    head.carried.begin_batch(frames)
    with watch.stage("text"):
        return [
            NOTHING_READ
            if isinstance(detections, FrameFailure)
            else _read_detections(frame, detections, head, min_crop_px, health)
            if head.classes
            else _read_whole(frame, region, head.reader, health)
            for frame, detections, region in zip(frames, found, regions, strict=True)
        ]


def _read_whole(
    frame: Frame, region: Region | None, reader: TextReader, health: InferenceHealth
) -> FrameTexts:
    box = window_of(region or (0.0, 0.0, 1.0, 1.0), frame.width, frame.height)
    lines = _read(frame, box, reader, health)
    if isinstance(lines, InferenceError):
        return FrameTexts(error=lines)
    return FrameTexts([_place(None, box, line, frame.frame_index) for line in lines])


def _read_detections(
    frame: Frame,
    detections: Sequence[Detection],
    head: TextHead,
    min_crop_px: int,
    health: InferenceHealth,
) -> FrameTexts:
    asked = [(index, one) for index, one in enumerate(detections) if one.class_name in head.classes]
    large = [(index, one) for index, one in asked if is_large_enough(one, min_crop_px)]
    found: list[FoundText] = []
    for index, detection in large:
        carried, is_due = head.carried.label_for(frame, detection)
        if is_due:
            carried.label = _read(frame, detection.box, head.reader, health)
        if isinstance(carried.label, InferenceError):
            return FrameTexts(error=carried.label)
        found += [
            _place(index, detection.box, line, carried.frame_index) for line in carried.label or ()
        ]
    return FrameTexts(found, len(large) < len(asked))


def _read(
    frame: Frame, box: BoxXYXY, reader: TextReader, health: InferenceHealth
) -> Lines | InferenceError:
    """The lines in the box, with their quads in fractions of it."""

    def read(boxes: Sequence[BoxXYXY]) -> Sequence[Lines]:
        return [_lines_in(frame, one, reader) for one in boxes]

    [lines] = contain(read, [box], health)
    return lines


def _lines_in(frame: Frame, box: BoxXYXY, reader: TextReader) -> Lines:
    left, top, right, bottom = pixel_bounds(box)
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    lines = reader.read(frame.image_hwc[top:bottom, left:right])
    by, then = (1 / width, 1 / height), ((left - x1) / width, (top - y1) / height)
    return [line._replace(quad=scale_and_move(line.quad, by, then)) for line in lines]


def _place(index: int | None, box: BoxXYXY, line: Line, read_at_frame: int) -> FoundText:
    """Where the line stands in the frame, as long as it keeps its place in the box."""
    x1, y1, x2, y2 = box
    quad = scale_and_move(line.quad, (x2 - x1, y2 - y1), (x1, y1))
    return FoundText(index, line._replace(quad=_rounded(quad)), read_at_frame)


def _rounded(quad: Quad) -> Quad:
    """To the decimals of a box."""
    first, second, third, fourth = (
        (round(x, BOX_DECIMALS), round(y, BOX_DECIMALS)) for x, y in quad
    )
    return first, second, third, fourth
