"""The pipeline, ready to run, from its piece of the configuration."""

import logging
from typing import TYPE_CHECKING

import torch

from contracts.errors import BadSetting
from contracts.settings import Settings
from pipeline.carry import Carried
from pipeline.catalog import find_model
from pipeline.classify import Classifier
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.detect import Detector
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
    spec = find_model("detector", settings.detector, settings.detector_weights)
    detector = TorchvisionDetector(
        spec,
        device,
        min(settings.min_score, LOW_SCORE) if tracks else settings.min_score,
        settings.max_detections,
        settings.masks,
    )
    _say(detector, device)
    classifier: Classifier | None = None
    if settings.classifier != "none":
        spec = find_model("classifier", settings.classifier, settings.classifier_weights)
        classifier = TorchvisionClassifier(spec, device)
        _say(classifier, device)
    return Pipeline(
        detector,
        classifier,
        device,
        settings.min_score,
        settings.min_crop_px,
        tracks,
        Carried(settings.classify_every),
    )


def make_tracks(settings: Settings) -> "Tracks | None":
    """None where no source is tracked; the tracker and what it needs is loaded only then."""
    tracked = {
        source.id
        for source in settings.sources
        if (settings.track if source.track is None else source.track)
    }
    if not tracked:
        return None
    try:
        from pipeline.track import Tracks
    except ImportError as error:
        raise BadSetting(
            f"track: needs the tracker: pip install 'framewire[track]' ({error})"
        ) from error
    return Tracks(tracked, settings.min_score)


def _say(model: Detector | Classifier, device: torch.device) -> None:
    name, sha256 = model.identity.name, model.identity.weights_sha256
    classes = len(model.class_names)
    log.info("%s on %s: %d classes, weights sha256 %s…", name, device, classes, sha256[:12])
