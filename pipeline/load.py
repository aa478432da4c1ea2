"""The pipeline, ready to run, from its piece of the configuration."""

import logging

import torch

from contracts.settings import Settings
from pipeline.catalog import find_model
from pipeline.classify import Classifier
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.detect import Detector
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.device import choose_device
from pipeline.inference import Pipeline

log = logging.getLogger("framewire.pipeline")


def load_pipeline(settings: Settings) -> Pipeline:
    """Models loaded and on their device. Raises ModelError before anything is read or written."""
    device = choose_device(settings.device)
    spec = find_model("detector", settings.detector, settings.detector_weights)
    detector = TorchvisionDetector(
        spec, device, settings.min_score, settings.max_detections, settings.masks
    )
    _say(detector, device)
    if settings.classifier == "none":
        return Pipeline(detector, None, device, settings.min_crop_px)
    spec = find_model("classifier", settings.classifier, settings.classifier_weights)
    classifier = TorchvisionClassifier(spec, device)
    _say(classifier, device)
    return Pipeline(detector, classifier, device, settings.min_crop_px)


def _say(model: Detector | Classifier, device: torch.device) -> None:
    name, sha256 = model.identity.name, model.identity.weights_sha256
    classes = len(model.class_names)
    log.info("%s on %s: %d classes, weights sha256 %s…", name, device, classes, sha256[:12])
