"""Every runtime here is compared with the reference on the same frames, detector and classifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from contracts.errors import BadSetting, WeightsUnavailable
from contracts.messages import ModelIdentity
from contracts.settings import Settings
from scripts.agreement import Agreement
from scripts.verify import Row, print_rows, read, verify
from scripts.ways import CROPS, Way, boxes_of, classifier_ways, detector_ways
from tests.frames import frame
from tests.messages import GEAR, NUT
from tests.test_onnx_classifier import NAMES, by_colour
from tests.test_torchvision_models import CLIP


def settings(**changes: object) -> Settings:
    return Settings.model_validate({"sources": [str(CLIP)], **changes})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def computed_by(ways: Sequence[Way]) -> list[str]:
    return [f"{way.identity.runtime} {way.identity.precision}" for way in ways]


def test_the_runtimes_here_agree_on_the_bundled_models() -> None:
    console = Console(record=True, width=100)
    assert verify(settings(), 3, 2, console) == 0
    shown = console.export_text()
    for expected in ("3 frames of", "detector bundled:parts", "classifier bundled:parts, 8 crops"):
        assert expected in shown
    assert shown.count("torch float32") == shown.count("reference") == 2
    assert shown.count("openvino float32") == 2
    assert "differs" not in shown


def test_the_reference_is_torch_for_torchvision_and_onnxruntime_for_a_file(tmp_path: Path) -> None:
    assert computed_by(list(detector_ways(settings())))[:1] == ["torch float32"]
    file = by_colour(tmp_path / "m.onnx", NAMES)
    ways = list(classifier_ways(settings(classifier=f"onnx:{file}"), {}))
    assert computed_by(ways) == ["onnxruntime float32", "openvino float32"]


def test_detector_and_classifier_may_be_of_different_kinds(tmp_path: Path) -> None:
    file = by_colour(tmp_path / "m.onnx", NAMES)
    console = Console(record=True, width=100)
    assert verify(settings(classifier=f"onnx:{file}"), 1, 1, console) == 0
    assert "onnxruntime float32" in console.export_text()


def test_what_the_reference_can_t_load_is_raised() -> None:
    with pytest.raises(WeightsUnavailable):
        list(detector_ways(settings(detector="onnx:no.onnx")))


def test_a_tracked_source_is_verified_frame_by_frame() -> None:
    [first, *_] = list(detector_ways(settings(track=True)))
    [picture] = read(settings(), settings().sources[0], 1)
    again = [first.compute(picture)[1] for _ in range(2)]
    assert again[0] == again[1]
    assert all(detection.track_id is None for detection in again[1])


def test_frames_are_so_far_apart_and_know_their_source() -> None:
    [source] = settings().sources
    near, far = (list(read(settings(), source, 3, apart)) for apart in (1, 5))
    assert [picture.image_id for picture in far] == ["conveyor/0", "conveyor/1", "conveyor/2"]
    assert np.array_equal(near[0].image_hwc, far[0].image_hwc)
    assert not np.array_equal(near[1].image_hwc, far[1].image_hwc)


def test_a_source_without_a_frame_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    empty = settings(sources=[str(tmp_path / "broken.png")])
    with pytest.raises(BadSetting, match="no frame to verify with"):
        list(read(empty, empty.sources[0], 1))


def test_a_classifier_gets_eight_boxes_the_best_objects_first_and_parts_of_the_frame() -> None:
    tiny = NUT.model_copy(update={"box": (1.0, 1.0, 9.0, 60.0)})
    picture = frame(size=(96, 160))
    [boxes] = boxes_of([picture], [[GEAR, tiny]], min_crop_px=16).values()
    assert len(boxes) == CROPS
    assert boxes[0] == GEAR.box
    assert boxes[1:3] == [(0.0, 0.0, 40.0, 48.0), (40.0, 0.0, 80.0, 48.0)]


def row(runtime: str, *round_ms: float, **seen: float) -> Row:
    identity = ModelIdentity(name="m", weights_sha256="0" * 64, runtime=runtime)
    return Row("detector m", identity, round_ms, Agreement(compared=9, **seen))  # type: ignore[arg-type]


def test_times_are_medians_with_their_range_and_speed_is_the_rounds_own_ratio() -> None:
    rows = [
        row("torch", 20.0, 200.0, 22.0),
        row("openvino", 10.0, 100.0, 10.0, worst_iou=0.5),
        row("onnxruntime", 5.0, 10.0, 11.0, unpaired=2, at_edge=2),
    ]
    console = Console(record=True, width=110)
    print_rows(rows, console)
    _, *lines = (line for line in console.export_text().splitlines() if line.startswith("│"))
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in [_, *lines]]
    assert [line[1] for line in shown] == ["22.0 (20.0–200)", "10.0 (10.0–100)", "10.0 (5.0–11.0)"]
    assert [line[2] for line in shown] == ["1.0×", "2.0×", "4.0×"]
    assert [line[-1] for line in shown] == ["reference", "differs", "agrees"]
    assert shown[2][4] == "2 (2 at edge)"
