"""The pipeline, ready to run, from its piece of the configuration."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from contracts.errors import BadSetting
from contracts.settings import Settings
from pipeline.carry import Carried
from pipeline.catalog import Role, find_model
from pipeline.classify import Classifier
from pipeline.classify.onnx import OnnxClassifier
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.detect import Detector
from pipeline.detect.onnx import OnnxDetector
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.device import choose_device
from pipeline.inference import Pipeline

if TYPE_CHECKING:
    from pipeline.track import Tracks

LOW_SCORE = 0.1
"""With tracking, detections down to here are asked for: they may carry a track on (ByteTrack)."""

log = logging.getLogger("framewire.pipeline")


def load_pipeline(settings: Settings) -> Pipeline:
    """Models loaded and on their device. Raises ModelError before anything is read or written."""
    device = choose_device(settings.device)
    tracks = make_tracks(settings)
    detector = _load_detector(settings, device, LOW_SCORE if tracks else 1.0)
    _say(detector, device)
    classifier = None if settings.classifier == "none" else load_classifier(settings, device)
    if classifier:
        _say(classifier, device)
    return Pipeline(
        detector,
        classifier,
        device,
        settings.min_score,
        settings.min_crop_px,
        tracks,
        Carried(settings.classify_every),
        settings.track,
    )


def _load_detector(settings: Settings, device: torch.device, low_score: float) -> Detector:
    min_score = min(settings.min_score, low_score)
    origin, _, rest = settings.detector.partition(":")
    if origin != "onnx":
        return TorchvisionDetector(
            find_model("detector", settings.detector, settings.detector_weights),
            device,
            min_score,
            settings.max_detections,
            masks=settings.masks,
            nms_iou=settings.nms_iou,
            runtime=settings.runtime,
            precision=settings.precision,
        )
    runtime = _runtime_of_onnx(settings, "detector", settings.detector_weights)
    if settings.masks:
        raise BadSetting("masks: an ONNX detector makes none; torchvision's Mask R-CNN does")
    return OnnxDetector(
        Path(rest),
        settings.detector,
        device,
        min_score,
        settings.max_detections,
        settings.nms_iou,
        settings.layout,
        runtime,
        settings.precision,
    )


def load_classifier(settings: Settings, device: torch.device) -> Classifier:
    """The classifier alone, which must not be `none`. Raises ModelError or BadSetting."""
    origin, _, rest = settings.classifier.partition(":")
    if origin != "onnx":
        spec = find_model("classifier", settings.classifier, settings.classifier_weights)
        return TorchvisionClassifier(spec, device, settings.runtime, settings.precision)
    runtime = _runtime_of_onnx(settings, "classifier", settings.classifier_weights)
    return OnnxClassifier(Path(rest), settings.classifier, device, runtime, settings.precision)


def _runtime_of_onnx(
    settings: Settings, role: Role, weights: Path | None
) -> Literal["auto", "openvino", "onnxruntime"]:
    """What is to compute the file. Raises BadSetting for what only torchvision's models take."""
    if weights:
        raise BadSetting(
            f"{role}_weights: an ONNX file has its own weights; name it in {role} only"
        )
    if settings.runtime == "torch":
        raise BadSetting(f"runtime torch: can't compute an ONNX {role}; take auto")
    return settings.runtime


def make_tracks(settings: Settings) -> "Tracks | None":
    """None where no source is tracked; the tracker and what it needs is loaded only then."""
    if not settings.track and not any(source.track for source in settings.sources):
        return None
    try:
        from pipeline.track import Tracks
    except ImportError as error:
        raise BadSetting(
            f"track: needs the tracker: pip install 'framewire[track]' ({error})"
        ) from error
    return Tracks(settings.min_score)


def _say(model: Detector | Classifier, device: torch.device) -> None:
    identity, classes = model.identity, len(model.class_names)
    log.info(
        "%s: %d classes, computed by %s in %s on %s, weights sha256 %s…",
        *(identity.name, classes, identity.runtime, identity.precision, device),
        identity.weights_sha256[:12],
    )
