"""Filters in a configuration: what is refused and how it is said, and that README's is one."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import BadSetting, WeightsUnavailable
from contracts.filters import RedactSettings
from contracts.messages import FrameResult
from contracts.settings import Settings
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.inference import infer
from pipeline.load import load_pipeline
from scripts.configure import load_settings
from tests.conftest import REPOSITORY
from tests.frames import frame
from tests.onnx_models import constant, yolox

BLUR = {"kind": "blur", "classes": ["gear"]}


def configured(tmp_path: Path, text: str) -> Settings:
    """As from a file."""
    file = tmp_path / "filters.yaml"
    file.write_text("sources: [clip.mp4]\n" + text)
    return load_settings({}, file, {})


def with_filters(*filters: dict[str, Any], **settings: Any) -> Settings:
    raw = {"sources": ["clip.mp4"], "filters": list(filters), **settings}
    return Settings.model_validate(raw)


def nsfw_model(folder: Path) -> Path:
    """Says `nsfw` of everything."""
    scores = {"output": np.array([[0.1, 0.9]], np.float32)}
    return constant(folder / "nsfw.onnx", scores, {"names": "['safe', 'nsfw']"}, (1, 3, 64, 64))


def test_the_filters_in_readme_are_some_and_the_bundled_models_know_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```yaml\n(filters:.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(nsfw_model(tmp_path).parent)
    pipeline = load_pipeline(configured(tmp_path, shown))
    assert [each.name for each in pipeline.filters] == ["no_gears", "redact", "blur", "nsfw"]
    [message] = infer(pipeline, [frame(0, image_hwc=np.zeros((320, 320, 3), np.uint8))])
    assert isinstance(message, FrameResult)
    assert message.filtered == {"nsfw": 1}
    assert message.models.filters["nsfw"].name == "onnx:nsfw.onnx"


def test_a_filter_is_called_by_its_kind_where_it_has_no_name() -> None:
    settings = with_filters(BLUR, {**BLUR, "name": "faces"})
    assert [each.name for each in settings.filters] == ["blur", "faces"]


def test_redacting_hides_all_unless_something_is_named() -> None:
    [given] = with_filters({"kind": "redact", "classes": ["gear"]}).filters
    assert isinstance(given, RedactSettings)
    assert given.hide == ("class", "label", "text", "mask")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filters: [{kind: blur}]", "filter blur: say which classes or labels"),
        ("filters: [{kind: blurr, classes: [gear]}]", "'blurr'"),
        ("filters: [{classes: [gear]}]", "kind"),
        ("filters: [{kind: blur, clases: [gear]}]", "clases: unknown key, did you mean classes;"),
        ("filters: [{kind: redact, classes: [gear], hide: [box]}]", "hide.0: "),
        ("filters: [{kind: block, classes: []}]", "classes: "),
        ("filters: [{kind: block, classes: [gear], min_score: 2}]", "min_score: "),
        ("filters: [{kind: block, classes: [gear], name: No Gears}]", "name: "),
        ("filters: [{kind: whole_image, classifier: 'onnx:a.onnx', action: block}]", "classes: "),
        (
            "filters: [{kind: blur, classes: [gear]}, {kind: blur, classes: [nut]}]",
            "two are called blur; give each a name of its own",
        ),
        (
            "classifier: none\nfilters: [{kind: block, labels: [brass]}]",
            "filter block: no labels while classifier is none",
        ),
    ],
)
def test_what_is_no_filter_is_refused_in_a_line_that_says_why(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting) as refused:
        configured(tmp_path, text)
    assert said in str(refused.value)


def test_filters_are_read_from_a_file_only() -> None:
    with pytest.raises(BadSetting, match="FRAMEWIRE_FILTERS: unknown setting"):
        load_settings({"sources": ["a.mp4"]}, None, {"FRAMEWIRE_FILTERS": "blur"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"classes": ["gera"]}, "filter blur: classes: the detector knows no 'gera'; did you mean"),
        ({"labels": ["bras"]}, "filter blur: labels: the classifier knows no 'bras'; did you mean"),
    ],
)
def test_a_class_that_no_model_knows_is_refused_at_the_start(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadSetting) as refused:
        load_pipeline(with_filters({"kind": "blur", **given}, runtime="torch"))
    assert str(refused.value).startswith(said)


def test_the_classifier_of_whole_images_is_loaded_at_the_start_with_the_classes_named(
    tmp_path: Path,
) -> None:
    boxes = yolox((((10.0, 20.0, 90.0, 80.0), 0.9, 1),))
    found = constant(tmp_path / "found.onnx", boxes, {"names": "['cat', 'dog', 'bird']"})
    quick = {"detector": f"onnx:{found}", "classifier": "none", "runtime": "onnxruntime"}
    file = tmp_path / "nsfw.onnx"
    nsfw = {"kind": "whole_image", "classifier": f"onnx:{file}", "action": "block"}
    with pytest.raises(WeightsUnavailable):
        load_pipeline(with_filters({**nsfw, "classes": ["nsfw"]}, **quick))
    nsfw_model(tmp_path)
    with pytest.raises(BadSetting, match=r"classes: the classifier onnx:.* knows no 'porn'"):
        load_pipeline(with_filters({**nsfw, "classes": ["porn"]}, **quick))


def test_a_rule_that_wants_to_know_of_less_sure_objects_has_the_detector_say_them() -> None:
    careful = load_pipeline(with_filters({**BLUR, "min_score": 0.2}, runtime="torch"))
    assert isinstance(careful.detector, TorchvisionDetector)
    assert careful.detector._min_score == 0.2
