"""A failing model costs no frame but those that it fails on, even alone."""

import threading
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ContractViolation, InferenceError, OutOfMemory, WeightsUnavailable
from contracts.messages import FrameResult
from pipeline.classify import Label
from pipeline.contain import Health, InferenceHealth, contain, without_trace
from pipeline.inference import Pipeline, infer
from pipeline.track import Tracks
from pipeline.view import View
from tests.frames import BrightnessClassifier, FaultyDetector, FixedDetector, frame

CPU = torch.device("cpu")
BIG = (4.0, 4.0, 44.0, 40.0)


class Step:
    """Doubles numbers; remembers what it was asked together, and calls `fault` with that."""

    def __init__(self, fault: Callable[[list[int]], None]) -> None:
        self.fault = fault
        self.calls: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        self.fault(self.calls[-1])
        return [2 * item for item in items]


def above(limit: int) -> Callable[[list[int]], None]:
    """Memory runs out for more than so many at once."""

    def fault(items: list[int]) -> None:
        if len(items) > limit:
            raise OutOfMemory(f"no memory for {len(items)}")

    return fault


def on(*bad: int) -> Callable[[list[int]], None]:
    """Raises where one of these is among the items."""

    def fault(items: list[int]) -> None:
        if found := sorted(set(bad) & set(items)):
            raise RuntimeError(f"can't do {found}")

    return fault


def codes(outcome: Sequence[object]) -> list[object]:
    return [one.code if isinstance(one, InferenceError) else one for one in outcome]


def test_a_step_that_works_is_called_once() -> None:
    step, health = Step(on()), InferenceHealth()
    assert contain(step, [1, 2, 3], health) == [2, 4, 6]
    assert step.calls == [[1, 2, 3]]
    assert (health.now.retries, health.now.oom_events) == (0, 0)


def test_nothing_is_not_asked_for() -> None:
    step = Step(on())
    assert contain(step, [], InferenceHealth()) == []
    assert step.calls == []


def test_where_memory_runs_out_the_batch_is_halved_until_it_fits() -> None:
    step, health = Step(above(2)), InferenceHealth()
    assert contain(step, [1, 2, 3, 4, 5], health) == [2, 4, 6, 8, 10]
    assert step.calls == [[1, 2, 3, 4, 5], [1, 2], [3, 4, 5], [3], [4, 5]]
    assert (health.now.oom_events, health.now.retries) == (2, 4)


def test_what_does_not_fit_alone_fails_by_name_and_the_rest_does_not() -> None:
    def fault(items: list[int]) -> None:
        if 3 in items:
            raise OutOfMemory("no memory for this one")

    assert codes(contain(Step(fault), [1, 2, 3, 4], InferenceHealth())) == [
        2,
        4,
        "out_of_memory",
        8,
    ]


def test_what_raises_is_tried_alone_once() -> None:
    step, health = Step(on(2)), InferenceHealth()
    outcome = contain(step, [1, 2, 3], health)
    assert codes(outcome) == [2, "inference_error", 6]
    assert str(outcome[1]) == "RuntimeError: can't do [2]"
    assert step.calls == [[1, 2, 3], [1], [2], [3]]
    assert health.now.retries == 3


def test_what_raises_by_accident_costs_nothing_not_even_in_a_batch_of_one() -> None:
    raised: list[int] = []

    def once(items: list[int]) -> None:
        if not raised:
            raised.extend(items)
            raise RuntimeError("a cosmic ray")

    assert contain(Step(once), [7], InferenceHealth()) == [14]


def test_an_answer_too_few_is_an_error_and_no_item_gets_anothers() -> None:
    outcome = contain(lambda items: list(items)[1:], [1, 2], InferenceHealth())
    assert codes(outcome) == ["inference_error"] * 2
    assert str(outcome[0]) == "the model gave 0 answers for 1 questions"


@given(st.lists(st.integers(), max_size=12), st.sets(st.integers()), st.integers(1, 12))
def test_whatever_fails_each_item_has_its_own_answer(
    items: list[int], bad: set[int], limit: int
) -> None:
    def fault(asked: list[int]) -> None:
        above(limit)(asked)
        on(*bad)(asked)

    outcome = contain(Step(fault), items, InferenceHealth())
    assert codes(outcome) == ["inference_error" if item in bad else 2 * item for item in items]


def test_what_a_failed_try_had_in_memory_is_gone_before_the_next_one() -> None:
    tensors: list[weakref.ref[np.ndarray[tuple[int], np.dtype[np.float32]]]] = []
    alive: list[bool] = []

    def fault(items: list[int]) -> None:
        alive.extend(one() is not None for one in tensors)
        activations = np.zeros(8, np.float32)
        tensors.append(weakref.ref(activations))
        if len(items) > 1:
            raise OutOfMemory("no memory")

    assert contain(Step(fault), [1, 2], InferenceHealth()) == [2, 4]
    assert alive == [False, False, False]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyError("boxes"), "inference_error", "KeyError: 'boxes'"),
        (MemoryError(), "out_of_memory", "MemoryError: "),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory", "OutOfMemoryError: CUDA"),
        (ContractViolation("a box is no box"), "contract_violation", "a box is no box"),
        (WeightsUnavailable("m.onnx: gone"), "inference_error", "weights_unavailable: m.onnx"),
    ],
)
def test_an_error_keeps_its_name_and_text(error: Exception, code: str, text: str) -> None:
    failure = without_trace(error)
    assert failure.code == code
    assert str(failure).startswith(text.strip())


def test_health_is_read_whole_while_another_thread_writes_it() -> None:
    health = InferenceHealth()
    assert health.now == Health(ready=False, reasons=("starting",))
    done = threading.Event()
    seen: set[tuple[bool, tuple[str, ...]]] = set()

    def read() -> None:
        while not done.is_set():
            now = health.now
            seen.add((now.ready, now.reasons))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2000):
        health.works()
        health.fails("inference_error: it fell over")
    done.set()
    reader.join()
    assert seen <= {
        (False, ("starting",)),
        (True, ()),
        (False, ("inference_error: it fell over",)),
    }


def test_a_model_that_hangs_is_seen_to_be_busy_by_others() -> None:
    entered, gate = threading.Event(), threading.Event()
    health = InferenceHealth()

    def hang() -> None:
        with health.busy():
            entered.set()
            assert gate.wait(30)

    thread = threading.Thread(target=hang)
    thread.start()
    assert entered.wait(30)
    assert health.now.busy_since_ns is not None
    gate.set()
    thread.join()
    assert health.now.busy_since_ns is None


class FaultyClassifier(BrightnessClassifier):
    """Calls `fault` with the number of crops."""

    def __init__(self, fault: Callable[[list[int]], None]) -> None:
        super().__init__()
        self.fault = fault

    def classify(self, crops: torch.Tensor) -> list[Label]:
        made = super().classify(crops)
        self.fault(list(range(len(crops))))
        return made


def test_memory_that_runs_out_for_crops_halves_the_crops_and_costs_no_frame() -> None:
    classifier = FaultyClassifier(above(2))
    pipeline = Pipeline(FixedDetector(BIG, BIG, BIG), classifier, CPU)
    results = infer(pipeline, [frame(0), frame(1)])
    assert [len(one.classifications) for one in results if isinstance(one, FrameResult)] == [3, 3]
    assert classifier.batch_sizes == [6, 3, 1, 2, 3, 1, 2]
    assert pipeline.health.now.oom_events == 3


def test_a_frame_that_is_tried_again_is_seen_by_the_tracker_once() -> None:
    def tracked(detector: FixedDetector) -> list[list[int | None]]:
        pipeline = Pipeline(
            detector, None, CPU, tracks=Tracks(0.5), views={"cam": View(track=True)}
        )
        results = infer(pipeline, [frame(index) for index in range(5)])
        return [
            [detection.track_id for detection in result.detections]
            for result in results
            if isinstance(result, FrameResult)
        ]

    whole = tracked(FixedDetector(BIG))
    assert whole == [[None], [0], [0], [0], [0]]
    assert tracked(FaultyDetector(BIG, fault=above(2))) == whole
    # The frame that fails is to the tracker as one that was dropped.
    assert tracked(FaultyDetector(BIG, fault=on(2))) == [[None], [0], [0], [0]]
