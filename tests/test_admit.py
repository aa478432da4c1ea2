"""The boundary behind the detector: what sticks out is clamped, what is wrong is refused."""

import pytest
import torch

from contracts.errors import ContractViolation
from pipeline.admit import admit
from pipeline.detect import RawDetections
from tests.frames import FixedDetector, frame, raw

FRAME = frame(7, "cam", size=(100, 200))
DETECTOR = FixedDetector()


def test_a_box_inside_is_taken_as_it_is() -> None:
    [detection] = admit(FRAME, raw((10.5, 20.25, 30.0, 40.0)), DETECTOR)
    assert detection.box == (10.5, 20.25, 30.0, 40.0)
    assert (detection.class_id, detection.class_name) == (1, "thing")


def test_a_box_that_sticks_out_by_less_than_half_is_clamped() -> None:
    [detection] = admit(FRAME, raw((-49.0, 60.0, 51.0, 139.0)), DETECTOR)
    assert detection.box == (0.0, 60.0, 51.0, 100.0)


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ((-51.0, 10.0, 49.0, 40.0), "centre lies outside"),
        ((10.0, 60.0, 20.0, 141.0), "centre lies outside"),
        ((150.0, 50.0, 40.0, 30.0), r"\(cx, cy, w, h\)"),
        ((10.0, 20.0, 10.0, 40.0), "not ordered"),
        ((10.0, float("nan"), 20.0, 40.0), "not finite"),
        ((10.0, 10.0, float("inf"), 40.0), "not finite"),
    ],
)
def test_a_box_that_cant_be_one_is_refused_naming_detector_box_and_frame(
    box: tuple[float, float, float, float], fault: str
) -> None:
    with pytest.raises(ContractViolation, match=fault) as caught:
        admit(FRAME, raw((10.0, 10.0, 20.0, 20.0), box), DETECTOR)
    text = str(caught.value)
    assert "fixed-detector" in text
    assert "cam#7 (200×100)" in text
    assert f"({box[0]:.6g}, " in text


def test_a_frame_whose_boxes_all_lie_in_the_first_pixel_is_refused_as_normalised() -> None:
    specks = ((0.1, 0.2, 0.7, 0.9), (0.3, 0.1, 1.0, 0.6))
    with pytest.raises(ContractViolation, match=r"box \(0\.1, .*cam#7.*normalised"):
        admit(FRAME, raw(*specks), DETECTOR)
    with pytest.raises(ContractViolation, match="normalised"):
        admit(FRAME, raw(specks[0]), DETECTOR)


def test_a_tiny_box_in_the_corner_is_taken_beside_others() -> None:
    admitted = admit(FRAME, raw((-0.4, -0.3, 0.9, 0.8), (10.0, 10.0, 20.0, 20.0)), DETECTOR)
    assert [detection.box for detection in admitted] == [
        pytest.approx((0.0, 0.0, 0.9, 0.8)),
        (10.0, 10.0, 20.0, 20.0),
    ]


def test_centre_and_size_read_as_corners_are_refused() -> None:
    boxes_xyxy = torch.tensor([[20.0, 30.0, 60.0, 80.0], [120.0, 20.0, 180.0, 70.0]])
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    boxes_cxcywh = torch.cat([(low + high) / 2, high - low], dim=1)
    said = RawDetections(boxes_cxcywh, torch.tensor([0.9, 0.8]), torch.tensor([1, 1]))
    with pytest.raises(ContractViolation, match=r"\(cx, cy, w, h\)"):
        admit(FRAME, said, DETECTOR)


@pytest.mark.parametrize("score", [1.2, -0.1, float("nan")])
def test_a_score_outside_0_to_1_is_refused(score: float) -> None:
    with pytest.raises(ContractViolation, match="fixed-detector"):
        admit(FRAME, raw((10.0, 10.0, 20.0, 20.0), score=score), DETECTOR)


def test_a_class_without_a_name_is_refused() -> None:
    with pytest.raises(ContractViolation, match="class id 2 has no name"):
        admit(FRAME, raw((10.0, 10.0, 20.0, 20.0), class_id=2), DETECTOR)


def test_nothing_found_is_an_empty_list() -> None:
    assert admit(FRAME, raw(), DETECTOR) == []
