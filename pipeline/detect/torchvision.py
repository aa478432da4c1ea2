"""torchvision's detectors: SSD, SSDlite, Faster R-CNN, Mask R-CNN, RetinaNet, FCOS.

The library's own model does it all, resizing and normalising included; what is changed here is
the order (resize first, so that a frame is never held as a full-size normalised picture more than
once) and what is left out (masks and keypoints nobody asked for, boxes below `min_score`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import remove_small_boxes

from contracts.errors import BadSetting
from contracts.frame import Frame
from contracts.messages import ModelIdentity
from pipeline.catalog import ModelSpec
from pipeline.detect import SMALLEST_BOX_PX, RawDetections
from pipeline.detect.masks import encode_masks
from pipeline.runtime import Precision
from pipeline.runtime.failure import failures_named
from pipeline.runtime.torch_modules import on_openvino, openvino_takes, precision_of
from pipeline.weights_file import categories_of, load_into

# The published weights of these were trained with frozen batch norm without an epsilon, and their
# builders set it to 0 where they load them (`overwrite_eps` in torchvision/models/detection).
NO_NORM_EPS = (
    "fasterrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
)

_ALWAYS = ("boxes", "scores", "labels")


class FrameTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """The library's transform of uint8 frames, one frame at a time, resized before normalised.

    Bilinear resizing is linear, so the order makes no difference but rounding.
    """

    def normalize(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 to float32 in [0, 1]; normalising waits until it is small."""
        return image.float().div_(255)

    def resize(self, image: Tensor, target: None = None) -> tuple[Tensor, None]:
        """Resized as the model wants it, then normalised."""
        resized, _ = super().resize(image, target)
        return super().normalize(resized), None

    def postprocess(
        self, result: list[dict[str, Tensor]], *sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Boxes in pixels of the original frames. Masks stay small: each would be a whole frame."""
        boxes_only = [{key: found[key] for key in _ALWAYS} for found in result]
        pairs = zip(super().postprocess(boxes_only, *sizes), result, strict=True)
        return [{**whole, **found, "boxes": whole["boxes"]} for whole, found in pairs]


class TorchvisionDetector:
    """A torchvision detection model with its weights, on a device; frames in, float32 out.

    Heads for masks and keypoints are left out where nobody asked for them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        device: torch.device,
        min_score: float,
        max_detections: int,
        *,
        masks: bool = False,
        nms_iou: float | None = None,
        runtime: str = "torch",
        precision: Precision = "float32",
    ) -> None:
        weights = spec.read_weights()
        self.class_names = categories_of(weights, spec.published.meta["categories"])
        model = get_model(
            spec.architecture,
            weights=None,
            weights_backbone=None,
            num_classes=len(self.class_names),
        )
        if masks and getattr(getattr(model, "roi_heads", None), "mask_head", None) is None:
            raise BadSetting(f"masks: {spec.name} makes none; a Mask R-CNN does")
        load_into(model, weights, spec.architecture)
        _take_frozen_norm_eps(model, spec.architecture, weights.tensors)
        _keep_only(model, min_score, max_detections, nms_iou)
        _leave_out_heads(model, masks)
        model.transform = frame_transform(model.transform)
        self.model = model.eval().to(device)
        computes, has = "torch", "float32"
        if openvino_takes(runtime, precision, device):
            parts = _costly_parts(self.model)
            if compiled := on_openvino(parts, precision, f"{spec.architecture} {weights.sha256}"):
                for name, module in compiled.items():
                    self.model.set_submodule(name, module)
                computes, has = "openvino", precision_of(compiled.values())
        self.identity = ModelIdentity(
            name=spec.name,
            weights_sha256=weights.sha256,
            runtime=computes,
            precision=has,
            # torchvision's fixed size is (width, height).
            input_size=model.transform.fixed_size and model.transform.fixed_size[::-1],
        )
        self._device = device
        self._min_score = min_score
        self._masks = masks

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """One entry a frame, scores highest first; boxes inside the frame (the library clips)."""
        images = [torch.from_numpy(frame.image_hwc).permute(2, 0, 1) for frame in frames]
        with failures_named(self.identity.name):
            found = self.model([image.to(self._device, non_blocking=True) for image in images])
            return [self._raw(*pair) for pair in zip(found, frames, strict=True)]

    def _raw(self, result: dict[str, Tensor], frame: Frame) -> RawDetections:
        boxes, scores, labels = (result[key].cpu() for key in _ALWAYS)
        # NaN is kept: not to be seen is the one thing that must not happen to it.
        keep = ~(scores < self._min_score)
        keep &= _not_empty(boxes) | ~boxes.isfinite().all(dim=1)
        masks = None
        if self._masks:
            small = result["masks"].cpu()[keep]
            masks = encode_masks(small, boxes[keep], frame.height, frame.width)
        return RawDetections(boxes[keep], scores[keep], labels[keep], masks)


def _not_empty(boxes: Tensor) -> Tensor:
    """(N,) bool: neither side is below SMALLEST_BOX_PX."""
    mask = torch.zeros(len(boxes), dtype=torch.bool)
    mask[remove_small_boxes(boxes, SMALLEST_BOX_PX)] = True
    return mask


def _take_frozen_norm_eps(model: nn.Module, architecture: str, tensors: dict[str, Tensor]) -> None:
    """Norms whose weights were trained frozen compute what they computed in training.

    Frozen batch norm counts no batches, so the file has no `num_batches_tracked` for it.
    """
    if architecture not in NO_NORM_EPS:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{name}.num_batches_tracked" not in tensors:
            module.eps = 0.0


def _keep_only(
    model: nn.Module, min_score: float, max_detections: int, nms_iou: float | None
) -> None:
    """The model's own thresholds. NMS goes by score, so what is below changes nothing above."""
    head = getattr(model, "roi_heads", model)
    head.score_thresh = max(min_score - 1e-6, 0.0)
    head.detections_per_img = max_detections
    if nms_iou is not None:
        head.nms_thresh = nms_iou


def _leave_out_heads(model: Any, masks: bool) -> None:
    """What nobody asked for is not computed: torchvision's RoIHeads skip a head that is None."""
    if not hasattr(model, "roi_heads"):
        return
    for kind in ("keypoint",) if masks else ("keypoint", "mask"):
        for part in ("roi_pool", "head", "predictor"):
            setattr(model.roi_heads, f"{kind}_{part}", None)


def _costly_parts(model: Any) -> dict[str, tuple[nn.Module, Any]]:
    """The parts that cost the time, by name, each with an input to trace it with."""
    height, width = model.transform.fixed_size or (320, 320)
    picture = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        features = list(model.backbone(picture).values())
    examples: dict[str, Tensor | list[Tensor]] = {"backbone": picture}
    if hasattr(model, "roi_heads"):
        pooled = model.roi_heads.box_roi_pool.output_size
        examples["roi_heads.box_head"] = torch.zeros(2, model.backbone.out_channels, *pooled)
    else:
        examples["head"] = features
    return {name: (model.get_submodule(name), example) for name, example in examples.items()}


def frame_transform(library: GeneralizedRCNNTransform) -> FrameTransform:
    """Does what the model's own transform does, with the same sizes, mean and deviation."""
    return FrameTransform(
        library.min_size,
        library.max_size,
        library.image_mean,
        library.image_std,
        library.size_divisible,
        library.fixed_size,
    )
