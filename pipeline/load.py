"""The pipeline, ready to run, from its piece of the configuration."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from contracts.errors import BadSetting
from contracts.filters import FilterSettings, ObjectFilter, WholeImageSettings
from contracts.settings import Settings
from pipeline.budget import MAX_CROPS_AT_ONCE, Budget
from pipeline.carry import Carried
from pipeline.catalog import Role, find_model
from pipeline.classify import Classifier
from pipeline.classify.onnx import OnnxClassifier
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.detect import Detector, Thresholds
from pipeline.detect.onnx import OnnxDetector
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.device import choose_device
from pipeline.filters import Filter
from pipeline.filters.objects import ObjectRule
from pipeline.filters.whole_image import WholeImage
from pipeline.inference import Pipeline
from pipeline.runtime import Compute
from pipeline.text import TextReader
from pipeline.text.read import TextHead
from pipeline.view import check_classes

if TYPE_CHECKING:
    from pipeline.track import Tracks

LOW_SCORE = 0.1
"""With tracking, detections down to here are asked for: they may carry a track on (ByteTrack)."""

log = logging.getLogger("framewire.pipeline")


def load_pipeline(settings: Settings, lowest_score: float = 1.0) -> Pipeline:
    """Models loaded and on their device. Raises ModelError before anything is read or written.

    `lowest_score` is the lowest that a single picture may be asked for, where that is below
    `min_score`.
    """
    device = choose_device(settings.device)
    tracks = make_tracks(settings)
    reader = make_reader(settings)
    lowest_score = min(lowest_score, LOW_SCORE if tracks else 1.0, *_scores_of(settings.filters))
    detector = _load_detector(settings, device, lowest_score)
    _say(detector, device)
    text = None if reader is None else _make_head(settings, reader, detector.class_names)
    classifier = None if settings.classifier == "none" else load_classifier(settings, device)
    if classifier:
        _say(classifier, device)
    filters = [
        _make_filter(each, settings, detector.class_names, classifier, device)
        for each in settings.filters
    ]
    return Pipeline(
        detector,
        classifier,
        device,
        settings.min_score,
        settings.min_crop_px,
        tracks,
        Carried(settings.classify_every),
        settings.track,
        text=text,
        budget=Budget(settings.classifier_timeout_ms),
        filters=filters,
    )


def _load_detector(settings: Settings, device: torch.device, low_score: float) -> Detector:
    compute = Compute(device, settings.runtime, settings.precision, settings.max_batch)
    thresholds = Thresholds(
        min(settings.min_score, low_score), settings.max_detections, settings.nms_iou
    )
    origin, _, rest = settings.detector.partition(":")
    if origin != "onnx":
        spec = find_model("detector", settings.detector, settings.detector_weights)
        return TorchvisionDetector(spec, compute, thresholds, masks=settings.masks)
    _refuse_weights("detector", settings.detector_weights)
    if settings.masks:
        raise BadSetting("masks: an ONNX detector makes none; torchvision's Mask R-CNN does")
    return OnnxDetector(Path(rest), settings.detector, compute, thresholds, settings.layout)


def load_classifier(settings: Settings, device: torch.device) -> Classifier:
    """The classifier alone, which must not be `none`. Raises ModelError or BadSetting."""
    compute = Compute(device, settings.runtime, settings.precision, MAX_CROPS_AT_ONCE)
    origin, _, rest = settings.classifier.partition(":")
    if origin != "onnx":
        spec = find_model("classifier", settings.classifier, settings.classifier_weights)
        return TorchvisionClassifier(spec, compute)
    _refuse_weights("classifier", settings.classifier_weights)
    return OnnxClassifier(Path(rest), settings.classifier, compute)


def _refuse_weights(role: Role, weights: Path | None) -> None:
    if weights:
        raise BadSetting(
            f"{role}_weights: an ONNX file has its own weights; name it in {role} only"
        )


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


def make_reader(settings: Settings) -> TextReader | None:
    """None where no text is to be read; the reader and what it needs is loaded only then."""
    if settings.text == "none":
        return None
    try:
        from pipeline.text.rapidocr import RapidOcr
    except ImportError as error:
        raise BadSetting(
            f"text: needs RapidOCR: pip install 'framewire[text]' ({error})"
        ) from error
    return RapidOcr()


def _make_head(settings: Settings, reader: TextReader, class_names: Sequence[str]) -> TextHead:
    classes = settings.text_classes or ()
    check_classes("text_classes", classes, class_names)
    identity = reader.identity
    log.info(
        "%s: reads %s, computed by %s in %s on cpu, weights sha256 %s…",
        *(identity.name, ", ".join(classes) or "whole frames", identity.runtime),
        *(identity.precision, identity.weights_sha256[:12]),
    )
    return TextHead(reader, frozenset(classes), Carried(settings.classify_every))


def _scores_of(filters: Sequence[FilterSettings]) -> list[float]:
    """Down to which they want to know of objects, which may be less sure than those reported."""
    return [
        each.min_score
        for each in filters
        if isinstance(each, ObjectFilter) and each.min_score is not None
    ]


def _make_filter(
    given: FilterSettings,
    settings: Settings,
    class_names: Sequence[str],
    classifier: Classifier | None,
    device: torch.device,
) -> Filter:
    """Raises BadSetting where a model has no class of a name, ModelError where one can't load."""
    where = f"filter {given.name}"
    if isinstance(given, WholeImageSettings):
        asked = {"classifier": given.classifier, "classifier_weights": given.classifier_weights}
        model = load_classifier(settings.model_copy(update=asked), device)
        speaker = f"classifier {given.classifier}"
        check_classes(f"{where}: classes", given.classes, model.class_names, speaker)
        _say(model, device)
        return WholeImage(given, model, device)
    check_classes(f"{where}: classes", given.classes, class_names)
    labels = classifier.class_names if classifier else ()
    check_classes(f"{where}: labels", given.labels, labels, "classifier")
    return ObjectRule(given, settings.min_score)


def _say(model: Detector | Classifier, device: torch.device) -> None:
    identity, classes = model.identity, len(model.class_names)
    log.info(
        "%s: %d classes, computed by %s in %s on %s, weights sha256 %s…",
        *(identity.name, classes, identity.runtime, identity.precision, device),
        identity.weights_sha256[:12],
    )
