"""torchvision's models behind our two protocols give what the library itself gives."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import get_model
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from contracts.errors import UnknownModel, WeightsMismatch, WeightsUnreadable
from pipeline.catalog import BUNDLED_FOLDER, architectures, find_model
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.crop import CropBox, crop, pixel_bounds
from pipeline.detect import Thresholds
from pipeline.detect.torchvision import TorchvisionDetector
from stream.file import FileReader
from tests.computing import CPU, by
from tests.conftest import REPOSITORY, RandomWeights
from tests.frames import frame, noise

SSDLITE = "ssdlite320_mobilenet_v3_large"
FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"
CLIP = REPOSITORY / "scripts" / "demo_clip" / "conveyor.mp4"


def detector(name: str, weights: Path | None, min_score: float = 0.5) -> TorchvisionDetector:
    return TorchvisionDetector(
        find_model("detector", name, weights), by("torch"), Thresholds(min_score, 50)
    )


def as_the_library_wants_it(image_hwc: object) -> Tensor:
    """(3, H, W) float32 in [0, 1]: the library's `ObjectDetection` transform."""
    return torch.as_tensor(image_hwc).permute(2, 0, 1).float() / 255


def test_the_bundled_detector_finds_what_the_library_finds_on_the_clip() -> None:
    bundled = detector("bundled:parts", None)
    file = BUNDLED_FOLDER / "parts_detector.safetensors"
    model = get_model(
        SSDLITE, weights=None, weights_backbone=None, num_classes=len(bundled.class_names)
    )
    model.load_state_dict(load_file(file))
    pictures = list(FileReader(CLIP, 10**7).pictures())[::20]
    frames = [frame(i, image_hwc=p.image_hwc) for i, p in enumerate(pictures)]  # type: ignore[union-attr]
    with torch.inference_mode():
        expected = model.eval()([as_the_library_wants_it(f.image_hwc) for f in frames])
    found = 0
    for ours, theirs in zip(bundled.detect(frames), expected, strict=True):
        keep = theirs["scores"] >= 0.5
        torch.testing.assert_close(ours.boxes_xyxy, theirs["boxes"][keep], atol=0.1, rtol=0)
        torch.testing.assert_close(ours.scores, theirs["scores"][keep], atol=1e-3, rtol=0)
        assert torch.equal(ours.class_ids, theirs["labels"][keep])
        found += len(ours.scores)
    assert found > 10


def test_weights_trained_with_frozen_norm_compute_what_they_computed_in_training(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    reference = get_model("fasterrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    reference.backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d
    )
    overwrite_eps(reference, 0.0)
    for module in reference.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_var.uniform_(0.3, 1.0)
    path = tmp_path / "frozen.safetensors"
    save_file(reference.state_dict(), path)
    ours = detector("torchvision:fasterrcnn_resnet50_fpn", path).model
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for key, features in reference.eval().backbone(picture).items():
            torch.testing.assert_close(ours.backbone(picture)[key], features, rtol=1e-4, atol=0)


def test_empty_boxes_of_the_librarys_clipping_are_left_out(random_weights: RandomWeights) -> None:
    found = detector(f"torchvision:{SSDLITE}", random_weights.detector(SSDLITE), 0.0)
    [result] = found.detect([frame(image_hwc=noise(100, 100))])
    assert len(result.scores) > 0
    sides = result.boxes_xyxy[:, 2:] - result.boxes_xyxy[:, :2]
    assert (sides > 0).all()


def test_a_classifiers_logits_equal_the_reference_on_the_same_crops(
    random_weights: RandomWeights,
) -> None:
    spec = find_model(
        "classifier", "torchvision:convnext_tiny", random_weights.classifier("convnext_tiny")
    )
    classifier = TorchvisionClassifier(spec, by("torch"))
    reference = spec.published.transforms()
    image = noise(300, 400)
    boxes = [CropBox(0, b) for b in ((3.2, 4.9, 130.0, 90.0), (0.0, 0.0, 400.0, 300.0))]
    logits = classifier.logits(crop([image], boxes, classifier.transform, CPU))
    for ours, (_, box) in zip(logits, boxes, strict=True):
        x1, y1, x2, y2 = pixel_bounds(box)
        picture = torch.from_numpy(image[y1:y2, x1:x2]).permute(2, 0, 1)
        theirs = classifier.logits(reference(picture)[None])[0]
        assert ours.argmax() == theirs.argmax()
        assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "googlenet", "mobilenet_v3_small"])
def test_classifiers_of_every_kind_load_and_name_what_they_see(
    name: str, random_weights: RandomWeights
) -> None:
    spec = find_model("classifier", f"torchvision:{name}", random_weights.classifier(name))
    classifier = TorchvisionClassifier(spec, by("torch"))
    assert classifier.class_names[0] == "tench"
    crops = crop([noise(99, 99)], [CropBox(0, (0, 0, 99, 99))], classifier.transform, CPU)
    [label] = classifier.classify(crops)
    assert 0 <= label.class_id < 1000
    assert 0 < label.score <= 1


def test_labels_come_from_the_published_weights(random_weights: RandomWeights) -> None:
    found = detector(f"torchvision:{SSDLITE}", random_weights.detector(SSDLITE))
    assert found.class_names[1] == "person"
    assert found.identity.name == f"torchvision:{SSDLITE}"


def test_weights_with_other_classes_are_a_mismatch_until_their_labels_are_named(
    random_weights: RandomWeights,
) -> None:
    path = random_weights.detector(SSDLITE, classes=3)
    with pytest.raises(WeightsMismatch, match=r"labels\.txt"):
        detector(f"torchvision:{SSDLITE}", path)
    labels = path.with_name(path.name + ".labels.txt")
    labels.write_text("background\ncat\ndog\n")
    assert detector(f"torchvision:{SSDLITE}", path).class_names == ["background", "cat", "dog"]


def test_weights_of_another_architecture_are_a_mismatch(random_weights: RandomWeights) -> None:
    with pytest.raises(WeightsMismatch, match="another architecture"):
        detector(f"torchvision:{FASTER}", random_weights.detector(SSDLITE))


def test_an_unknown_name_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownModel, match="fasterrcnn_resnet50_fpn"):
        find_model("detector", "torchvision:fasterrcnn_resnet50")


def test_the_catalogue_has_torchvisions_whole_zoo() -> None:
    assert {"maskrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn"} < set(architectures("detector"))
    assert {"convnext_tiny", "vit_b_16"} < set(architectures("classifier"))


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[224]",
        '{"size": 224}',
        '{"resize_size": "big", "crop_size": 224, "mean": [0, 0, 0], "std": [1, 1, 1]}',
    ],
)
def test_a_transform_that_is_none_is_unreadable(
    said: str, random_weights: RandomWeights, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(load_file(random_weights.classifier("resnet18")), path, {"transform": said})
    with pytest.raises(WeightsUnreadable, match="`transform`") as caught:
        TorchvisionClassifier(find_model("classifier", "torchvision:resnet18", path), by("torch"))
    assert "\n" not in str(caught.value)
