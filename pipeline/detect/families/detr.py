"""The DETR family: queries with class logits and boxes in units of the picture, stretched to fit.

All three take a sigmoid for each class on its own, so one query may be several detections, and the
best (query, class) pairs are taken, as many as there are queries. None suppresses overlaps.

- RT-DETR (lyuwenyu/RT-DETR, Apache-2.0, rtdetrv2_pytorch): `RTDETRPostProcessor` with
  `use_focal_loss`, tools/export_onnx.py; RGB 0 to 1 and no more (preprocessor_config.json of
  PekingU/rtdetr_r50vd: `do_normalize: false`, bilinear). D-FINE (Peterande/D-FINE, Apache-2.0) took
  both over: tools/inference/onnx_inf.py. Their pictures are resized with Pillow, which antialiases.
  Their own exports hold the post-processing; what is exported from transformers does not.
- RF-DETR (roboflow/rf-detr, Apache-2.0): export/_runtime/decode.py (sigmoid, all slots), and
  export/_runtime/preprocess.py (ImageNet mean and deviation, bilinear, not antialiased).
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.detect.families import Candidates, Picture, Seen, corners

BOX_NAMES = ("pred_boxes", "dets", "boxes")
LOGIT_NAMES = ("logits", "pred_logits", "labels")
BYTE_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
BYTE_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class RtDetr:
    """RT-DETR and D-FINE without post-processing: logits (B, Q, C), boxes (B, Q, 4) cx cy w h."""

    layout = "rtdetr"
    picture = Picture("stretch", "rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0), antialias=True)
    nms_iou = None

    def __init__(
        self, input_hw: tuple[int, int], class_count: int, logits_at: int, boxes_at: int
    ) -> None:
        height, width = input_hw
        self.class_count = class_count
        self._size = np.array([width, height, width, height], np.float32)
        self._logits_at, self._boxes_at = logits_at, boxes_at

    @classmethod
    def of(cls, seen: Seen) -> Self | None:
        """For these outputs, or None where they are of another form. Masks are left alone."""
        places = {name: at for at, name in enumerate(seen.outputs)}
        logits = next((name for name in LOGIT_NAMES if name in places), None)
        boxes = next((name for name in BOX_NAMES if name in places), None)
        if logits is None or boxes is None:
            return None
        scored, placed = seen.outputs[logits], seen.outputs[boxes]
        if scored.ndim != 3 or placed.ndim != 3 or placed.shape[2] != 4:
            return None
        if scored.shape[1] != placed.shape[1]:
            return None
        return cls(seen.input_hw, scored.shape[2], places[logits], places[boxes])

    def decode(self, outputs: list[NDArray[Any]]) -> Candidates:
        """The best (query, class) pairs, as many as there are queries."""
        logits, boxes = outputs[self._logits_at], outputs[self._boxes_at]
        queries, classes = logits.shape[1:]
        scores = 1 / (1 + np.exp(-logits.reshape(len(logits), -1)))
        # NaN is sorted behind everything else, so from the end it comes first.
        pairs = scores.argsort(axis=1)[:, : -queries - 1 : -1]
        query = (pairs // classes)[..., None]
        taken = np.take_along_axis(corners(boxes * self._size), query, axis=1)
        return Candidates(taken, np.take_along_axis(scores, pairs, axis=1), pairs % classes)


class RfDetr(RtDetr):
    """RF-DETR: the same outputs as RT-DETR's, but a normalised picture."""

    layout = "rfdetr"
    picture = Picture("stretch", "rgb", BYTE_MEAN, BYTE_STD)


class RtDetrScored:
    """RT-DETR's and D-FINE's own exports: labels (B, Q), boxes (B, Q, 4) corners, scores (B, Q).

    The boxes are in pixels of the size that the graph's second input gives, which is fixed to the
    network's input where the file is read.
    """

    layout = "rtdetr_scored"
    picture = RtDetr.picture
    nms_iou = None
    class_count = None

    def __init__(self, names: tuple[str, ...]) -> None:
        self._at = tuple(names.index(name) for name in ("boxes", "scores", "labels"))

    @classmethod
    def of(cls, seen: Seen) -> Self | None:
        """For these outputs, or None where they are of another form."""
        shapes = {name: value.shape for name, value in seen.outputs.items()}
        if not {"labels", "boxes", "scores"} <= set(shapes):
            return None
        queries = shapes["scores"]
        if shapes["labels"] != queries or shapes["boxes"] != (*queries, 4):
            return None
        return cls(tuple(shapes))

    def decode(self, outputs: list[NDArray[Any]]) -> Candidates:
        """The rows as they are."""
        boxes, scores, labels = (outputs[at] for at in self._at)
        return Candidates(boxes, scores, labels.astype(int))


def recognise(seen: Seen) -> RtDetr | None:
    """RF-DETR by its metadata or by what it calls its outputs, RT-DETR otherwise."""
    is_rfdetr = "rfdetr_inference" in seen.metadata or "dets" in seen.outputs
    return RfDetr.of(seen) if is_rfdetr else RtDetr.of(seen)
