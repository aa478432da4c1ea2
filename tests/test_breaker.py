"""Models that keep failing are loaded again; meanwhile nothing hangs and nothing is lost."""

import logging
import threading
from collections.abc import Callable

import pytest
import torch

from contracts.errors import OutOfMemory, WeightsUnreadable
from contracts.messages import FrameFailure, FrameResult, SourceEnd
from pipeline.inference import Pipeline
from pipeline.track import Tracks
from pipeline.view import View
from tests.frames import FaultyDetector, FixedDetector, frame, raw
from tests.inference_line import PATIENCE_S, InferenceLine, outcomes

BIG = (4.0, 4.0, 44.0, 40.0)
BACKWARDS = raw((40.0, 30.0, 20.0, 10.0))
PATIENT = (0.0, *[0.01] * 10_000)
"""Waits for so many attempts that a test which hangs is found out first."""


def good(*_: object) -> Pipeline:
    return Pipeline(FixedDetector(BIG), None, torch.device("cpu"))


def broken(error: Exception | None = None) -> Pipeline:
    """Raises whatever it is shown."""

    def fault(_indices: list[int]) -> None:
        raise error or RuntimeError("the device fell over")

    return Pipeline(FaultyDetector(BIG, fault=fault), None, torch.device("cpu"))


class Rebuild:
    """Gives these pipelines one after the other, then good ones."""

    def __init__(self, *made: Pipeline) -> None:
        self.made = list(made)
        self.calls = 0

    def __call__(self) -> Pipeline:
        self.calls += 1
        return self.made.pop(0) if self.made else good()


def is_busy(line: InferenceLine) -> bool:
    return line.pipeline.health.now.busy_since_ns is not None


def file_job(line: InferenceLine, n_frames: int) -> list[str]:
    """What becomes of a file's frames."""
    source = line.add("file")
    source.put(*(frame(index, "file") for index in range(n_frames)))
    source.end()
    with line.running():
        taken = line.take_all()
    assert isinstance(taken[-1].message, SourceEnd)
    return outcomes(taken)


def test_models_that_fail_three_batches_in_a_row_are_loaded_again_and_go_on() -> None:
    rebuild = Rebuild()
    line = InferenceLine(broken(), max_batch=2, rebuild=rebuild)
    assert file_job(line, 10) == ["inference_error"] * 6 + ["result"] * 4
    health = line.pipeline.health.now
    assert (rebuild.calls, health.rebuilds, health.batches) == (1, 1, 5)
    assert (health.ready, health.reasons) == (True, ())


def test_a_batch_of_which_one_frame_works_shows_that_the_models_do() -> None:
    def fault(indices: list[int]) -> None:
        if set(indices) & {0, 1, 2, 3, 5, 6, 7, 8}:
            raise RuntimeError("the device fell over")

    pipeline = Pipeline(FaultyDetector(BIG, fault=fault), None, torch.device("cpu"))
    outcome = file_job(InferenceLine(pipeline, max_batch=2), 10)
    assert [index for index, what in enumerate(outcome) if what == "result"] == [4, 9]


def test_models_that_fail_again_are_loaded_again_after_one_batch() -> None:
    rebuild = Rebuild(broken(), broken())
    line = InferenceLine(broken(), max_batch=1, rebuild=rebuild, waits_s=PATIENT)
    assert file_job(line, 8) == ["inference_error"] * 5 + ["result"] * 3
    assert rebuild.calls == 3


def test_while_they_can_not_be_loaded_a_cameras_frames_fail_at_once_and_a_files_wait() -> None:
    mended = threading.Event()

    def rebuild() -> Pipeline:
        if not mended.is_set():
            raise WeightsUnreadable("m.safetensors: cut short")
        return good()

    line = InferenceLine(broken(), max_batch=1, rebuild=rebuild, waits_s=PATIENT)
    file, camera = line.add("file"), line.add("camera", "drop_oldest")
    with line.running():
        file.put(*(frame(index, "file") for index in range(3)))
        assert outcomes([line.take() for _ in range(3)]) == ["inference_error"] * 3
        file.put(*(frame(index, "file") for index in range(3, 8)))
        for index in range(5):
            camera.put(frame(index, "camera"))
            failure = line.take().message
            assert isinstance(failure, FrameFailure)
            assert (failure.source_id, failure.code) == ("camera", "model_unavailable")
            assert "m.safetensors: cut short" in failure.message
        assert len(file.queue) == 5
        health = line.pipeline.health.now
        assert not health.ready
        assert health.reasons == ("weights_unreadable: m.safetensors: cut short",)
        camera.end()
        assert isinstance(line.take().message, SourceEnd)
        mended.set()
        file.end()
        assert outcomes([line.take() for _ in range(5)]) == ["result"] * 5
    assert line.pipeline.health.now.ready


def test_where_every_attempt_fails_a_file_fails_by_name_and_the_job_ends() -> None:
    def rebuild() -> Pipeline:
        raise WeightsUnreadable("m.safetensors: cut short")

    line = InferenceLine(broken(), max_batch=1, rebuild=rebuild, waits_s=(0.0, 0.0))
    assert file_job(line, 9) == ["inference_error"] * 3 + ["model_unavailable"] * 6
    assert not line.pipeline.health.now.ready


@pytest.mark.parametrize(
    "pipeline",
    [
        lambda: broken(OutOfMemory("no memory for 1 frame")),
        lambda: Pipeline(
            FixedDetector(by_index=dict.fromkeys(range(4), BACKWARDS)), None, torch.device("cpu")
        ),
    ],
    ids=["out_of_memory", "contract_violation"],
)
def test_what_loading_again_would_not_heal_makes_it_only_not_ready(
    pipeline: Callable[[], Pipeline], request: pytest.FixtureRequest
) -> None:
    line = InferenceLine(pipeline(), max_batch=1)
    code = request.node.callspec.id
    assert file_job(line, 4) == [code] * 4
    health = line.pipeline.health.now
    assert (health.ready, health.rebuilds) == (False, 0)
    assert health.reasons[0].startswith(f"{code}: ")


def test_an_empty_batch_tells_nothing_of_the_models() -> None:
    line = InferenceLine(broken(), max_batch=1)
    source = line.add()
    with line.running():
        source.put(frame(0), frame(1))
        source.end()
        assert len(line.take_all()) == 3
    assert line.pipeline.health.now.ready


def test_models_that_are_loaded_again_go_on_with_the_tracks_and_views_of_before() -> None:
    def fault(indices: list[int]) -> None:
        if set(indices) & {2, 3, 4}:
            raise RuntimeError("the device fell over")

    worn = Pipeline(
        FaultyDetector(BIG, fault=fault),
        None,
        torch.device("cpu"),
        tracks=Tracks(0.5),
        views={"cam": View(track=True)},
    )
    line = InferenceLine(worn, max_batch=1, rebuild=Rebuild())
    source = line.add()
    with line.running():
        source.put(*(frame(index) for index in range(7)))
        source.end()
        messages = [delivery.message for delivery in line.take_all()]
    ids = [m.detections[0].track_id for m in messages if isinstance(m, FrameResult)]
    assert ids == [None, 0, 0, 0]


def test_loading_counts_as_being_busy_and_each_step_of_it_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "framewire")
    entered, gate = threading.Event(), threading.Event()

    def rebuild() -> Pipeline:
        entered.set()
        assert gate.wait(PATIENCE_S)
        return good()

    line = InferenceLine(broken(), max_batch=1, rebuild=rebuild)
    source = line.add()
    with line.running():
        source.put(*(frame(index) for index in range(4)))
        source.end()
        assert entered.wait(PATIENCE_S)
        assert is_busy(line)
        gate.set()
        line.take_all()
    assert not is_busy(line)
    assert [record.getMessage() for record in caplog.records] == [
        "cam: inference_error from frame 0 on: RuntimeError: the device fell over",
        "model_unavailable: the models keep failing and are loaded again in 0 s: "
        "inference_error: RuntimeError: the device fell over",
        "the models are loaded again",
    ]
