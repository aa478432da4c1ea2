"""What tracking saves is counted on the pipeline itself, and so is what it costs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from contracts.frame import Frame
from pipeline.carry import Carried
from pipeline.inference import Pipeline
from pipeline.track import Tracks
from pipeline.view import View
from scripts.measure_tracking import Tally, main, measure, table_of
from tests.conftest import REPOSITORY
from tests.frames import BrightnessClassifier, FixedDetector, frame

BOX = (10.0, 10.0, 60.0, 60.0)


def pipeline(classify_every: int) -> Pipeline:
    """One object that stands still."""
    return Pipeline(
        FixedDetector(BOX),
        BrightnessClassifier(),
        torch.device("cpu"),
        min_score=0.5,
        tracks=Tracks(0.5),
        carried=Carried(classify_every),
        views={"cam": View(track=True)},
    )


def frames(count: int, flicker: bool) -> list[Frame]:
    """Bright, or bright and dark in turn."""
    level = [200 if not flicker or index % 2 else 50 for index in range(count)]
    return [
        frame(index, image_hwc=np.full((100, 100, 3), grey, np.uint8))
        for index, grey in enumerate(level)
    ]


def test_a_label_that_is_carried_saves_a_call_and_knows_its_age() -> None:
    # Frame 0 has no track yet, frame 1 has; then each tenth frame makes a label.
    tally = measure(pipeline(10), frames(21, flicker=False))
    assert (tally.frames, tally.labels, tally.carried) == (21, 21, 18)
    assert tally.carried_age == 2 * sum(range(1, 10))
    assert tally.carried_differ == tally.pairs_differ == 0
    assert tally.pairs == 19


def test_a_classifier_that_flickers_shows_in_both_figures() -> None:
    tally = measure(pipeline(10), frames(21, flicker=True))
    assert tally.pairs == tally.pairs_differ == 19
    assert tally.carried_differ == 2 * 5


def test_without_a_track_nothing_is_carried() -> None:
    tally = measure(pipeline(1), frames(5, flicker=True))
    assert (tally.labels, tally.carried) == (5, 0)
    assert list(table_of(tally).columns[2].cells)[-2] == "–"


def test_the_table_has_shares_of_what_they_are_shares_of() -> None:
    tally = Tally(
        frames=10, fresh_s=2.0, tracked_s=0.5, labels=40, carried=30, carried_differ=3,
        carried_age=150, pairs=20, pairs_differ=1,
    )  # fmt: skip
    _, fresh, tracked = (list(column.cells) for column in table_of(tally).columns)
    assert fresh == ["40", "200.0", "5.0", "–", "–", "5.0 %"]
    assert tracked == ["10, 75.0 % saved", "50.0", "20.0", "5.0", "10.0 %", "–"]


def test_the_command_measures_the_bundled_models_on_their_clip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY)
    ended = CliRunner().invoke(main, ["--max-frames", "12", "--markdown"])
    assert ended.exit_code == 0, ended.output
    assert "12 frames of scripts/demo_clip/conveyor.mp4" in ended.output
    assert "% saved" in ended.output


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["--source", str(tmp_path / "no.mp4")])
    assert ended.exit_code == 1
    assert ended.output.startswith("Error: source_not_found: ")
