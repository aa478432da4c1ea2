"""Where texts show: in the picture, on a line, in the summary, and with README's command."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from contracts.messages import FrameResult, Text, parse_message
from scripts.cli import main
from scripts.listen import result_line
from scripts.models import show_models
from scripts.report import Report, show, summarise
from sinks.draw import draw
from tests.messages import MODELS, frame_result
from tests.test_readme import command_lines

EXIT = Text(
    detection_index=None,
    text="EXIT 4",
    score=0.9,
    quad=((100.0, 60.0), (200.0, 70.0), (198.0, 90.0), (98.0, 80.0)),
    read_at_frame=0,
)


def with_texts(*texts: Text) -> FrameResult:
    return frame_result(width=320, height=240, detections=(), classifications=(), texts=texts)


def test_a_text_is_framed_in_white_and_said_beside_it() -> None:
    grey = np.full((240, 320, 3), 77, np.uint8)
    white = (draw(grey, with_texts(EXIT)) == 255).all(axis=2)
    for (x1, y1), (x2, y2) in zip(EXIT.quad, (*EXIT.quad[1:], EXIT.quad[0]), strict=True):
        assert white[round((y1 + y2) / 2), round((x1 + x2) / 2)]
    assert not white[72:78, 120:180].any()
    label = white[:58]
    assert label.sum() > 150
    assert not white[100:].any()


def test_letters_that_the_font_lacks_are_drawn_as_question_marks() -> None:
    grey = np.full((240, 320, 3), 77, np.uint8)
    foreign, asked = (EXIT.model_copy(update={"text": text}) for text in ("出口", "??"))
    assert np.array_equal(draw(grey, with_texts(foreign)), draw(grey, with_texts(asked)))


def test_a_subscribers_line_says_what_is_written() -> None:
    nasty = EXIT.model_copy(update={"text": "A\x1b[31m"})
    line = result_line(with_texts(EXIT, nasty)).plain
    assert "nothing  “EXIT 4” “A�[31m”" in line


@pytest.mark.parametrize("asked", [True, False])
def test_the_summary_counts_texts_where_they_are_asked_for(asked: bool) -> None:
    report, console = Report(), Console(record=True, width=200)
    report.observe(with_texts(EXIT, EXIT), 0.1)
    models = MODELS.model_copy(update={"text": MODELS.detector}) if asked else MODELS
    summary = summarise(report, {}, {}, {}, models, {}, None)
    show(summary, console)
    shown = console.export_text()
    assert summary["texts"] == 2
    assert (", 2 texts" in shown) == asked
    assert "│ text " not in shown


def test_a_stage_that_was_at_work_has_its_row() -> None:
    report, console = Report(), Console(record=True, width=200)
    result = with_texts(EXIT)
    times = result.stage_ms.model_copy(update={"text_ms": 12.5})
    report.observe(result.model_copy(update={"stage_ms": times}), 0.1)
    show(summarise(report, {}, {}, {}, MODELS, {}, None), console)
    assert "│ text     │ 12.50 │ 12.50 │" in console.export_text()


def test_the_models_of_the_text_head_are_listed_with_their_terms() -> None:
    console = Console(record=True, width=200)
    show_models(console)
    shown = console.export_text()
    assert "--text, in the package rapidocr, Apache-2.0" in shown
    assert "PP-OCRv6_rec_small.onnx" in shown


def test_readmes_command_reads_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = next(line[1:] for line in command_lines() if "signs/*.jpg" in line)
    (tmp_path / "signs").mkdir()
    picture = np.full((480, 640, 3), 60, np.uint8)
    cv2.putText(picture, "PLATFORM 9", (120, 200), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255,) * 3, 3)
    cv2.imwrite(str(tmp_path / "signs" / "one.jpg"), picture)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--zmq", "none"])
    assert ended.value.code == 0
    lines = (tmp_path / "out" / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    results = [one for one in map(parse_message, lines) if isinstance(one, FrameResult)]
    assert [[text.text for text in result.texts] for result in results] == [["PLATFORM 9"]]
    assert (tmp_path / "out" / "texts.mp4").exists()
