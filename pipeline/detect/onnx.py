"""Any detector in an ONNX file whose family we know: YOLO of most kinds, and the DETR family."""

import ast
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from contracts.errors import UnsupportedModel
from contracts.frame import Frame
from contracts.messages import ModelIdentity
from pipeline.detect import SMALLEST_BOX_PX, RawDetections, Thresholds
from pipeline.detect.coco import WELL_KNOWN
from pipeline.detect.families import Seen
from pipeline.detect.families.recognise import recognise
from pipeline.detect.letterbox import InputBuffer, Placement, to_frame, without_strays
from pipeline.runtime import Compute, Network
from pipeline.runtime.failure import failures_named, made_ready
from pipeline.runtime.labels import labels_of
from pipeline.runtime.network import load_network
from pipeline.runtime.onnx_file import DEFAULT_SIDE, OnnxFile, read_onnx, with_size

log = logging.getLogger("framewire.pipeline")


class OnnxDetector:
    """A detection network from an ONNX file, compiled for a device."""

    def __init__(
        self,
        file: Path,
        name: str,
        compute: Compute,
        thresholds: Thresholds,
        layout: str = "auto",
    ) -> None:
        """Raises ModelError or BadSetting. `layout` names the family; `auto` recognises it."""
        read = read_onnx(file)
        input_hw = _input_hw(read)
        with made_ready(name):
            self.network: Network = load_network(with_size(read, *input_hw), compute)
            seen = Seen(_try_out(self.network, input_hw), input_hw, read.metadata)
        self.identity = ModelIdentity(
            name=name,
            weights_sha256=read.sha256,
            runtime=self.network.runtime,
            precision=self.network.precision,
            input_size=input_hw,
        )
        self.family = recognise(str(file), seen, layout)
        self.class_names = labels_of(read, self.family.class_count, WELL_KNOWN)
        self._buffer = InputBuffer(self.family.picture, input_hw)
        self._thresholds = thresholds
        log.info("%s: layout %s (%s)", name, self.family.layout, seen)

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        """One entry a frame, scores highest first, boxes in pixels of the frame."""
        with failures_named(self.identity.name):
            batch, placements = self._buffer.fill([frame.image_hwc for frame in frames])
            outputs = self.network.run(batch)
            # What is not a number is looked for below.
            with np.errstate(all="ignore"):
                found = self.family.decode(outputs)
        return [
            self._of_one_frame(boxes, scores, class_ids, placement)
            for boxes, scores, class_ids, placement in zip(*found, placements, strict=True)
        ]

    def _of_one_frame(
        self,
        all_boxes: NDArray[np.float32],
        all_scores: NDArray[np.float32],
        all_class_ids: NDArray[np.int64],
        placement: Placement,
    ) -> RawDetections:
        # NaN is kept: not to be seen is the one thing that must not happen to it.
        keep = ~(all_scores < self._thresholds.min_score)
        boxes, scores, class_ids = (
            torch.from_numpy(values[keep]) for values in (all_boxes, all_scores, all_class_ids)
        )
        broken = ~(boxes.isfinite().all(dim=1) & scores.isfinite())
        if broken.any():
            first = broken.nonzero()[: self._thresholds.max_detections, 0]
            return RawDetections(boxes[first], scores[first], class_ids[first])
        boxes, shows = without_strays(boxes, placement)
        best = self._best(boxes, scores, class_ids, shows)
        return _not_thin(to_frame(boxes[best], placement), scores[best], class_ids[best])

    def _best(self, boxes: Tensor, scores: Tensor, class_ids: Tensor, shows: Tensor) -> Tensor:
        """Positions of the detections to keep, highest score first."""
        at = shows.nonzero()[:, 0]
        nms_iou = self._thresholds.nms_iou or self.family.nms_iou
        if nms_iou is None:
            order = scores[at].argsort(descending=True, stable=True)
        else:
            order = batched_nms(boxes[at], scores[at], class_ids[at], nms_iou)
        return at[order[: self._thresholds.max_detections]]


def _not_thin(boxes: Tensor, scores: Tensor, class_ids: Tensor) -> RawDetections:
    """Sides of the wrong sign stay, to be refused: they are a sign of a wrong layout."""
    sides = boxes[:, 2:] - boxes[:, :2]
    keep = ~((sides >= 0) & (sides < SMALLEST_BOX_PX)).any(dim=1)
    return RawDetections(boxes[keep], scores[keep], class_ids[keep])


def _input_hw(file: OnnxFile) -> tuple[int, int]:
    """The graph's own size; where it takes any, the one that it was trained at, or 640."""
    height, width = file.input_shape[2:]
    if height is not None and width is not None:
        return height, width
    try:
        stated = ast.literal_eval(file.metadata.get("imgsz", str(DEFAULT_SIDE)))
        sides = stated if isinstance(stated, list | tuple) else [stated]
        return height or int(sides[0]), width or int(sides[-1])
    except (ValueError, TypeError, LookupError, SyntaxError) as error:
        raise UnsupportedModel(f"model {file.path}: `imgsz` can't be read: {error}") from error


def _try_out(network: Network, input_hw: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """What the network gives for one grey picture."""
    outputs = network.run(np.full((1, 3, *input_hw), 0.5, np.float32))
    return dict(zip(network.output_names, outputs, strict=True))
