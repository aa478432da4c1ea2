"""Results are compared object by object and label by label, and a difference shows."""

import numpy as np
from pycocotools import mask as coco_mask

from contracts.messages import Detection, MaskRle
from pipeline.classify import Label
from scripts.agreement import Agreement, compare_detections, compare_labels
from tests.messages import GEAR, NUT

EDGE = 0.6


def compared(*found: Detection, reference: tuple[Detection, ...] = (GEAR, NUT)) -> Agreement:
    return compare_detections([reference], [found], EDGE)


def mask(*rows: int) -> MaskRle:
    """Over a frame of 8 × 8 pixels, these rows."""
    pixels = np.zeros((8, 8), np.uint8, order="F")
    pixels[list(rows)] = 1
    return MaskRle(size=(8, 8), counts=coco_mask.encode(pixels)["counts"].decode())


def test_the_same_objects_in_any_order_agree() -> None:
    agreement = compared(NUT, GEAR)
    assert agreement.within("float32")
    assert (agreement.compared, agreement.unpaired, agreement.worst_iou) == (2, 0, 1.0)


def test_a_shifted_box_shows() -> None:
    shifted = GEAR.model_copy(update={"box": (12.0, 12.0, 52.0, 44.0)})
    agreement = compared(shifted, NUT)
    assert 0.9 < agreement.worst_iou < 0.99
    assert not agreement.within("float32")


def test_half_precision_may_move_a_score_by_twice_as_much() -> None:
    agreement = compared(GEAR.model_copy(update={"score": GEAR.score - 0.015}), NUT)
    assert not agreement.within("float32")
    assert agreement.within("bfloat16")


def test_an_object_that_only_one_found_is_unpaired_on_either_side() -> None:
    assert compared(GEAR).unpaired == compared(GEAR, NUT, reference=(GEAR,)).unpaired == 1
    assert not compared(GEAR).within("float32")


def test_an_object_next_to_the_threshold_may_fall_on_either_side() -> None:
    faint = NUT.model_copy(update={"score": EDGE - 0.005})
    agreement = compared(GEAR, reference=(GEAR, faint))
    assert (agreement.unpaired, agreement.at_edge) == (1, 1)
    assert agreement.within("float32")


def test_another_class_is_another_object() -> None:
    assert compared(GEAR.model_copy(update={"class_id": 4}), NUT).unpaired == 2


def test_frames_without_objects_agree() -> None:
    assert compared(reference=()).within("float32")
    assert compared(GEAR, reference=()).unpaired == 1


def test_a_mask_counts_as_its_box_does() -> None:
    whole, part = (GEAR.model_copy(update={"mask_rle": mask(*rows)}) for rows in ([1, 2], [1]))
    assert compared(whole, reference=(whole,)).worst_iou == 1.0
    assert compared(part, reference=(whole,)).worst_iou == 0.5
    empty = GEAR.model_copy(update={"mask_rle": mask()})
    assert compared(empty, reference=(empty,)).worst_iou == 1.0


def test_labels_are_compared_crop_by_crop() -> None:
    agreement = compare_labels(
        [[Label(1, 0.9), Label(2, 0.8)], [Label(3, 0.7)]],
        [[Label(1, 0.894), Label(0, 0.4)], [Label(3, 0.7)]],
    )
    assert (agreement.compared, agreement.unpaired) == (3, 1)
    assert abs(agreement.worst_score - 0.006) < 1e-9
    assert not agreement.within("bfloat16")
