"""`scripts/demo` does what it says, and what it finds is what is in the clip."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import torch
from torchvision.ops import box_iou

from contracts.boxes import BoxXYXY
from contracts.messages import FrameResult, SourceEnd, parse_message
from tests.conftest import REPOSITORY

OUT = REPOSITORY / "out" / "demo"
TRUTH = REPOSITORY / "scripts" / "demo_clip" / "conveyor.truth.json"


@pytest.fixture(scope="module")
def demo() -> "subprocess.CompletedProcess[str]":
    """The demo, run once in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "scripts.demo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )


@pytest.fixture(scope="module")
def results(demo: "subprocess.CompletedProcess[str]") -> list[FrameResult]:
    """What it wrote."""
    assert demo.returncode == 0, demo.stderr
    messages = [parse_message(line) for line in (OUT / "results.jsonl").read_text().splitlines()]
    assert isinstance(messages[-1], SourceEnd)
    return [message for message in messages if isinstance(message, FrameResult)]


def iou(first: BoxXYXY, second: BoxXYXY) -> float:
    return float(box_iou(torch.tensor([first]), torch.tensor([second])))


def matches(results: list[FrameResult]) -> Iterator[tuple[bool, bool]]:
    """For each part in the clip that counts: whether it was found, and named by its finish."""
    truth = json.loads(TRUTH.read_text())
    for frame, result in zip(truth["frames"], results, strict=True):
        finishes = {c.detection_index: c.class_name for c in result.classifications}
        for part in frame["parts"]:
            found = [
                index
                for index, detection in enumerate(result.detections)
                if detection.class_name == part["type"]
                and iou(detection.box, tuple(part["box_xyxy"])) >= 0.5
            ]
            if not part["ignore"]:
                yield bool(found), any(finishes.get(i) == part["finish"] for i in found)


def test_every_frame_of_the_clip_has_a_result_with_its_time(results: list[FrameResult]) -> None:
    frames = json.loads(TRUTH.read_text())["frames"]
    assert [result.frame_index for result in results] == list(range(len(frames)))
    assert [result.pts_s for result in results] == pytest.approx(
        [f["pts_s"] for f in frames], abs=1e-5
    )


def test_what_is_on_the_belt_is_found_and_named(results: list[FrameResult]) -> None:
    found, named = zip(*matches(results), strict=True)
    assert len(found) > 500
    assert sum(found) / len(found) > 0.9
    assert sum(named) / sum(found) > 0.95


def test_an_empty_stretch_gives_empty_results(results: list[FrameResult]) -> None:
    frames = json.loads(TRUTH.read_text())["frames"]
    empty = [r for f, r in zip(frames, results, strict=True) if not f["parts"]]
    assert len(empty) >= 15
    assert sum(len(result.detections) for result in empty) <= len(empty) // 10


def test_a_second_process_printed_what_it_received(
    demo: "subprocess.CompletedProcess[str]", results: list[FrameResult]
) -> None:
    lines = [line for line in demo.stderr.splitlines() if line.startswith("subscriber conveyor #")]
    assert len(lines) == len(results)
    assert f"subscriber conveyor ended  captured {len(results)}" in demo.stderr


def test_the_summary_says_where_the_time_went_and_where_the_files_are(
    demo: "subprocess.CompletedProcess[str]", results: list[FrameResult]
) -> None:
    for shown in ("Every frame accounted for", "frames/s", "p95", "out/demo/annotated.mp4"):
        assert shown in demo.stderr
    summary = json.loads((OUT / "summary.json").read_text())
    assert summary["frames"] == len(results)
    assert summary["models"]["detector"]["name"] == "bundled:parts"


def test_the_annotated_video_has_every_frame(results: list[FrameResult]) -> None:
    with av.open(str(Path(OUT / "annotated.mp4"))) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(results)
