"""Masks over the whole frame, encoded so that COCO's own tools read the same pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from safetensors.torch import load_file
from torchvision.models import get_model
from torchvision.models.detection.roi_heads import paste_masks_in_image

from contracts.errors import BadSetting
from contracts.messages import MaskRle
from pipeline.admit import admit
from pipeline.catalog import find_model
from pipeline.detect import Thresholds
from pipeline.detect import masks as masks_module
from pipeline.detect.masks import encode_masks
from pipeline.detect.torchvision import TorchvisionDetector
from tests.computing import by
from tests.conftest import RandomWeights
from tests.frames import frame, noise
from tests.messages import frame_result

MASK_RCNN = "maskrcnn_resnet50_fpn"


def decoded(mask: MaskRle) -> np.ndarray:
    pixels: np.ndarray = coco_mask.decode({"size": list(mask.size), "counts": mask.counts})
    return pixels


def blobs(count: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth random masks, and boxes all over the frame."""
    torch.manual_seed(1)
    coarse = torch.rand(count, 1, 4, 4)
    masks = torch.nn.functional.interpolate(coarse, (28, 28), mode="bicubic").clamp(0, 1)
    corner = torch.rand(count, 2) * torch.tensor([width, height]) * 0.6
    size = 8 + torch.rand(count, 2) * torch.tensor([width, height]) * 0.39
    return masks, torch.cat([corner, corner + size], dim=1)


@pytest.mark.parametrize("size", [(120, 160), (75, 201), (1, 40)])
def test_decoded_masks_are_the_librarys_pixels(size: tuple[int, int]) -> None:
    masks, boxes = blobs(7, *size)
    expected = (paste_masks_in_image(masks, boxes, size)[:, 0] > 0.5).numpy()
    encoded = encode_masks(masks, boxes, *size)
    assert [mask.size for mask in encoded] == [size] * 7
    for ours, theirs in zip(encoded, expected, strict=True):
        assert np.array_equal(decoded(ours), theirs)


def test_masks_are_pasted_a_few_at_a_time_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks, boxes = blobs(5, 60, 80)
    together = encode_masks(masks, boxes, 60, 80)
    monkeypatch.setattr(masks_module, "BYTES_AT_ONCE", 2 * 60 * 80 * 4)
    assert encode_masks(masks, boxes, 60, 80) == together


def test_no_objects_have_no_masks() -> None:
    assert encode_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), 60, 80) == []


def test_ten_objects_at_1080p_stay_far_below_a_megabyte_of_json() -> None:
    masks, boxes = blobs(10, 1080, 1920)
    encoded = encode_masks(masks, boxes, 1080, 1920)
    detections = tuple(
        frame_result().detections[0].model_copy(update={"mask_rle": mask}) for mask in encoded
    )
    result = frame_result(width=1920, height=1080, detections=detections, classifications=())
    assert len(result.model_dump_json()) < 100_000


def mask_rcnn(weights: Path, masks: bool) -> TorchvisionDetector:
    spec = find_model("detector", f"torchvision:{MASK_RCNN}", weights)
    return TorchvisionDetector(spec, by("torch"), Thresholds(0.0, 5), masks=masks)


def test_mask_rcnn_gives_the_masks_that_the_library_gives(random_weights: RandomWeights) -> None:
    weights = random_weights.detector(MASK_RCNN, classes=3)
    weights.with_name(weights.name + ".labels.txt").write_text("background\ncat\ndog\n")
    picture = frame(image_hwc=noise(90, 130))
    [found] = mask_rcnn(weights, masks=True).detect([picture])
    assert found.masks is not None
    assert len(found.masks) == len(found.scores) > 0
    detections = admit(picture, found, mask_rcnn(weights, masks=True))
    library = get_model(MASK_RCNN, weights=None, weights_backbone=None, num_classes=3)
    library.load_state_dict(load_file(weights))
    library.roi_heads.score_thresh, library.roi_heads.detections_per_img = 0.0, 5
    with torch.inference_mode():
        image = torch.from_numpy(picture.image_hwc).permute(2, 0, 1).float() / 255
        [expected] = library.eval()([image])
    for detection, theirs in zip(detections, expected["masks"][:, 0] > 0.5, strict=True):
        assert detection.mask_rle is not None
        different = decoded(detection.mask_rle) != theirs.numpy()
        assert different.mean() < 0.01
    plain = mask_rcnn(weights, masks=False)
    [without] = plain.detect([picture])
    assert without.masks is None
    torch.testing.assert_close(without.boxes_xyxy, found.boxes_xyxy)
    # Nothing is computed that nobody asked for.
    assert not plain.model.roi_heads.has_mask()


def test_keypoints_are_not_computed(random_weights: RandomWeights) -> None:
    weights = random_weights.detector("keypointrcnn_resnet50_fpn", classes=2)
    spec = find_model("detector", "torchvision:keypointrcnn_resnet50_fpn", weights)
    detector = TorchvisionDetector(spec, by("torch"), Thresholds(0.0, 5))
    assert not detector.model.roi_heads.has_keypoint()
    [found] = detector.detect([frame(image_hwc=noise(90, 130))])
    assert len(found.scores) > 0


def test_masks_of_a_detector_that_makes_none_are_refused(random_weights: RandomWeights) -> None:
    architecture = "ssdlite320_mobilenet_v3_large"
    spec = find_model(
        "detector", f"torchvision:{architecture}", random_weights.detector(architecture)
    )
    with pytest.raises(BadSetting, match="makes none"):
        TorchvisionDetector(spec, by("torch"), Thresholds(), masks=True)
