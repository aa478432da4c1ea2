"""Masks decode to the frame's size, lie in their boxes, and leave a message small."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from contracts.messages import MaskRle
from contracts.settings import Settings
from pipeline.detect import RawDetections
from pipeline.detect.masks import encode_masks
from pipeline.inference import Pipeline
from pipeline.load import load_pipeline
from scripts.measure_masks import (
    DETECTOR,
    OBJECTS,
    SIZE,
    at_1080p,
    bytes_at_worst,
    decode,
    main,
    measure,
    outside,
    table_of,
)
from scripts.verify import read
from tests.conftest import SHARED, RandomWeights
from tests.frames import FixedDetector, frame
from tests.messages import GEAR

VTEST = SHARED / "data" / "clips" / "vtest.avi"


@pytest.mark.shared
def test_mask_rcnns_masks_of_real_frames_decode_and_lie_in_their_boxes(
    random_weights: RandomWeights,
) -> None:
    settings = Settings.model_validate(
        {
            "sources": [str(VTEST)],
            "detector": DETECTOR,
            "detector_weights": random_weights.detector("maskrcnn_resnet50_fpn_v2"),
            "classifier": "none",
            "masks": True,
            "min_score": 0.0,
            "max_detections": OBJECTS,
            "runtime": "torch",
        }
    )
    [picture] = read(settings, settings.sources[0], 1)
    seen = measure(load_pipeline(settings), [at_1080p(picture)])
    assert seen.masks == seen.of_frame_size == seen.inside_box == OBJECTS
    assert max(seen.message_bytes) < 1_000_000


def of_masks(*boxes: tuple[float, float, float, float], shift_px: float = 0.0) -> Pipeline:
    """Finds these boxes, with masks that fill them, moved to the right."""
    at = torch.tensor(boxes)
    masks = encode_masks(
        torch.ones(len(boxes), 1, 28, 28), at + torch.tensor([shift_px, 0, shift_px, 0]), 120, 200
    )
    found = RawDetections(
        at, torch.full((len(boxes),), 0.9), torch.ones(len(boxes), dtype=torch.int64), masks
    )
    return Pipeline(FixedDetector(by_index={0: found}), None, torch.device("cpu"))


def test_a_mask_beside_its_box_is_seen() -> None:
    picture = frame(size=(120, 200))
    boxes = ((10.0, 20.0, 60.0, 90.0), (100.0, 5.0, 150.5, 70.25))
    right = measure(of_masks(*boxes), [picture])
    assert (right.masks, right.of_frame_size, right.inside_box) == (2, 2, 2)
    wrong = measure(of_masks(*boxes, shift_px=9), [picture])
    assert (wrong.of_frame_size, wrong.inside_box) == (2, 0)


def test_what_lies_outside_is_what_the_box_and_its_rim_leave() -> None:
    pixels = np.ones((96, 160), np.uint8)
    rest = outside(pixels, GEAR)
    x1, y1, x2, y2 = (int(side) for side in GEAR.box)
    assert rest.sum() == pixels.sum() - (x2 - x1 + 5) * (y2 - y1 + 5)


def test_an_empty_mask_decodes_to_nothing() -> None:
    [mask] = encode_masks(torch.zeros(1, 1, 28, 28), torch.tensor([[1.0, 1, 9, 9]]), 20, 30)
    assert isinstance(mask, MaskRle)
    assert decode(mask).shape == (20, 30)
    assert decode(mask).sum() == 0


def test_ten_masks_of_noise_over_a_whole_1080p_frame_are_below_a_megabyte() -> None:
    assert 100_000 < bytes_at_worst() < 1_000_000


def test_frames_are_stretched_to_1080p_and_stay_the_same_frame() -> None:
    picture = frame(7, size=(48, 64))
    large = at_1080p(picture)
    assert (large.height, large.width) == SIZE
    assert large.frame_index == 7


def test_the_table_has_the_sizes_in_kilobytes() -> None:
    seen = measure(of_masks((10.0, 20.0, 60.0, 90.0)), [frame(size=(120, 200))])
    figures = [str(cell) for cell in table_of(seen).columns[1].cells]
    assert figures[:3] == ["1", "1", "1"]
    assert figures[3].startswith(f"{seen.message_bytes[0] / 1e3:.1f} (")


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["--source", str(tmp_path / "no.mp4")])
    assert ended.exit_code == 1
    assert ended.output.startswith("Error: source_not_found: ")
