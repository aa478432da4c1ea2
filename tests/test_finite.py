"""A torchvision detector that computes no numbers fails the frame, it doesn't find nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from contracts.errors import ContractViolation
from pipeline.admit import admit
from pipeline.catalog import find_model
from pipeline.detect import Thresholds
from pipeline.detect.finite import FiniteWatch
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.runtime import AskedRuntime
from tests.computing import by
from tests.conftest import RandomWeights
from tests.frames import frame, noise

SSDLITE = "ssdlite320_mobilenet_v3_large"
FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"
MASK = "maskrcnn_resnet50_fpn"
HEADS = (
    (SSDLITE, "head.classification_head.module_list.0.1.weight"),
    (SSDLITE, "head.regression_head.module_list.5.1.bias"),
    ("retinanet_resnet50_fpn", "head.classification_head.cls_logits.weight"),
    ("fcos_resnet50_fpn", "head.regression_head.bbox_ctrness.bias"),
    (FASTER, "rpn.head.cls_logits.weight"),
    (FASTER, "rpn.head.bbox_pred.bias"),
    (FASTER, "roi_heads.box_predictor.cls_score.weight"),
    (FASTER, "roi_heads.box_predictor.bbox_pred.bias"),
    (MASK, "roi_heads.mask_predictor.mask_fcn_logits.bias"),
)
FRAMES = [frame(0, image_hwc=noise(90, 130)), frame(1, image_hwc=noise(100, 70))]


def detector(
    architecture: str, weights: Path, runtime: AskedRuntime = "torch"
) -> TorchvisionDetector:
    """Looks at small pictures, so that it takes no time."""
    spec = find_model("detector", f"torchvision:{architecture}", weights)
    masks = architecture == MASK
    made = TorchvisionDetector(spec, by(runtime), Thresholds(0.0, 20), masks=masks)
    made.model.transform.min_size, made.model.transform.max_size = (96,), 128
    return made


def refuses_both(model: TorchvisionDetector) -> bool:
    for item, raw in zip(FRAMES, model.detect(FRAMES), strict=True):
        with pytest.raises(ContractViolation, match=r"detector torchvision:.*: box .nan"):
            admit(item, raw, model)
    return True


@pytest.mark.parametrize(("architecture", "tensor"), HEADS)
def test_a_head_that_gives_nan_breaks_the_contract(
    architecture: str, tensor: str, random_weights: RandomWeights
) -> None:
    broken = detector(architecture, random_weights.detector(architecture))
    broken.model.get_parameter(tensor).data.fill_(torch.nan)
    assert refuses_both(broken)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_weights_that_are_numbers_but_overflow_break_the_contract(
    runtime: AskedRuntime, random_weights: RandomWeights, tmp_path: Path
) -> None:
    tensors = load_file(random_weights.detector(SSDLITE))
    for tensor in ("0.0.1.bias", "0.1.weight"):
        tensors[f"head.classification_head.module_list.{tensor}"].fill_(3e38)
    save_file(tensors, tmp_path / "huge.safetensors")
    assert refuses_both(detector(SSDLITE, tmp_path / "huge.safetensors", runtime))


@pytest.mark.parametrize("architecture", [SSDLITE, FASTER])
def test_only_the_picture_that_is_broken_is_told(
    architecture: str, random_weights: RandomWeights
) -> None:
    model = detector(architecture, random_weights.detector(architecture)).model
    watch = FiniteWatch(model)
    pictures = [torch.rand(3, 90, 120) for _ in range(3)]
    pictures[1][0, 40, 60] = torch.nan
    with torch.inference_mode():
        model(pictures)
        assert watch.broken() == [False, True, False]
        model(pictures[::2])
        assert watch.broken() == [False, False]


def test_after_a_batch_that_failed_midway_the_next_one_is_looked_at_alone(
    random_weights: RandomWeights,
) -> None:
    model = detector(SSDLITE, random_weights.detector(SSDLITE)).model
    watch = FiniteWatch(model)

    def fall_over(*_: object) -> None:
        raise RuntimeError("the device fell over")

    hook = model.head.register_forward_hook(fall_over)
    with torch.inference_mode(), pytest.raises(RuntimeError):
        model([torch.rand(3, 90, 120) for _ in range(3)])
    hook.remove()
    with torch.inference_mode():
        model([torch.rand(3, 90, 120)])
    assert watch.broken() == [False]
