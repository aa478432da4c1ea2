"""torchvision's detectors: SSD, SSDlite, Faster R-CNN, Mask R-CNN, RetinaNet, FCOS.

The library's own model does it all, resizing and normalising included. What is changed here is what
is left out (masks and keypoints nobody asked for, boxes below `min_score`), and what computes it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import remove_small_boxes

from contracts.errors import BadSetting
from contracts.frame import Frame
from contracts.messages import ModelIdentity
from pipeline.catalog import ModelSpec
from pipeline.detect import SMALLEST_BOX_PX, RawDetections, Thresholds
from pipeline.detect.finite import FiniteWatch
from pipeline.detect.frame_transform import BOXES, canvases_of, frame_transform
from pipeline.detect.masks import encode_masks
from pipeline.runtime import Compute
from pipeline.runtime.failure import failures_named, made_ready
from pipeline.runtime.torch_module import Part
from pipeline.runtime.torch_parts import Computed, compute_parts
from pipeline.weights_file import Weights, categories_of, load_into

# The published weights of these were trained with frozen batch norm without an epsilon, and their
# builders set it to 0 where they load them (`overwrite_eps` in torchvision/models/detection).
NO_NORM_EPS = (
    "fasterrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
)

NOT_A_NUMBER = RawDetections(
    torch.full((1, 4), torch.nan), torch.full((1,), torch.nan), torch.zeros(1, dtype=torch.int64)
)
"""Said of a frame for which the network gave no numbers; it is refused where detections are."""


class TorchvisionDetector:
    """A torchvision detection model with its weights, on a device; frames in, float32 out.

    Heads for masks and keypoints are left out where nobody asked for them.
    """

    def __init__(
        self, spec: ModelSpec, compute: Compute, thresholds: Thresholds, *, masks: bool = False
    ) -> None:
        """Raises ModelError or BadSetting."""
        weights = spec.read_weights()
        self.class_names = categories_of(weights, spec.published.meta["categories"])
        self.model = _build(spec, weights, len(self.class_names))
        if masks and not _makes_masks(self.model):
            raise BadSetting(f"masks: {spec.name} makes none; a Mask R-CNN does")
        _keep_only(self.model, thresholds)
        _leave_out_heads(self.model, masks)
        with made_ready(spec.name):
            key = f"{spec.architecture} {weights.sha256}"
            computed = _compute_in_place(self.model, key, compute)
        self.identity = ModelIdentity(
            name=spec.name,
            weights_sha256=weights.sha256,
            runtime=computed.runtime,
            precision=computed.precision,
            input_size=_input_size(self.model),
        )
        self._watch = FiniteWatch(self.model)
        self._device = compute.device
        self._min_score = thresholds.min_score
        self._masks = masks

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """One entry a frame, scores highest first; boxes inside the frame (the library clips)."""
        images = [torch.from_numpy(frame.image_hwc).permute(2, 0, 1) for frame in frames]
        with failures_named(self.identity.name):
            found = self.model([image.to(self._device, non_blocking=True) for image in images])
            broken = self._watch.broken()
            return [
                NOT_A_NUMBER if is_broken else self._raw(result, frame)
                for result, frame, is_broken in zip(found, frames, broken, strict=True)
            ]

    def _raw(self, result: dict[str, Tensor], frame: Frame) -> RawDetections:
        boxes, scores, labels = (result[key].cpu() for key in BOXES)
        # NaN is kept: not to be seen is the one thing that must not happen to it.
        keep = ~(scores < self._min_score)
        keep &= _not_empty(boxes) | ~boxes.isfinite().all(dim=1)
        masks = None
        if self._masks:
            small = result["masks"].cpu()[keep]
            if not small.isfinite().all():
                return NOT_A_NUMBER
            masks = encode_masks(small, boxes[keep], frame.height, frame.width)
        return RawDetections(boxes[keep], scores[keep], labels[keep], masks)


def _build(spec: ModelSpec, weights: Weights, class_count: int) -> Any:
    """The library's model with the weights. Raises WeightsMismatch."""
    model = get_model(
        spec.architecture, weights=None, weights_backbone=None, num_classes=class_count
    )
    load_into(model, weights, spec.architecture)
    _take_frozen_norm_eps(model, spec.architecture, weights.tensors)
    model.transform = frame_transform(model.transform)
    return model.eval()


def _compute_in_place(model: Any, key: str, compute: Compute) -> Computed:
    """The model is on the device, and its costly parts are computed by the runtime."""
    model.to(compute.device)
    computed = compute_parts(key, _costly_parts(model, compute), compute)
    for name, module in computed.modules.items():
        model.set_submodule(name, module)
    if computed.runtime == "compile":
        model.transform.canvases = canvases_of(model.transform)
    return computed


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


def _keep_only(model: nn.Module, thresholds: Thresholds) -> None:
    """The model's own thresholds. NMS goes by score, so what is below changes nothing above."""
    head = getattr(model, "roi_heads", model)
    head.score_thresh = max(thresholds.min_score - 1e-6, 0.0)
    head.detections_per_img = thresholds.max_detections
    if thresholds.nms_iou is not None:
        head.nms_thresh = thresholds.nms_iou


def _leave_out_heads(model: Any, masks: bool) -> None:
    """What nobody asked for is not computed: torchvision's RoIHeads skip a head that is None."""
    if not hasattr(model, "roi_heads"):
        return
    for kind in ("keypoint",) if masks else ("keypoint", "mask"):
        for part in ("roi_pool", "head", "predictor"):
            setattr(model.roi_heads, f"{kind}_{part}", None)


def _makes_masks(model: Any) -> bool:
    return getattr(getattr(model, "roi_heads", None), "mask_head", None) is not None


def _costly_parts(model: Any, compute: Compute) -> dict[str, Part]:
    """The parts that cost the time, by name, with the sizes that they are to be ready for."""
    sizes = canvases_of(model.transform)
    if len(sizes) > 1 and compute.runtime != "compile":
        # What is not compiled takes any size, and shows with a small picture whether it works.
        sizes = ((320, 320),)
    pictures = [torch.zeros(1, 3, *size, device=compute.device) for size in sizes]
    parts = {"backbone": Part(model.backbone, pictures)}
    if hasattr(model, "roi_heads"):
        pooled = model.roi_heads.box_roi_pool.output_size
        regions = torch.zeros(1, model.backbone.out_channels, *pooled, device=compute.device)
        parts["roi_heads.box_head"] = Part(model.roi_heads.box_head, [regions], of_regions=True)
        return parts
    with torch.inference_mode():
        features = [list(model.backbone(picture).values()) for picture in pictures]
    return parts | {"head": Part(model.head, features)}


def _input_size(model: Any) -> tuple[int, int] | None:
    """(height, width) where all frames are brought to the same."""
    sizes = canvases_of(model.transform)
    return sizes[0] if len(sizes) == 1 else None
