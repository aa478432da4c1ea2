"""Pictures that somebody waits for: first in line, together, refused or dropped by name."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Overloaded
from contracts.frame import Frame
from contracts.messages import FrameFailure, FrameResult
from contracts.upload import UPLOAD, Upload, Wishes
from pipeline.batcher import Batcher
from pipeline.detect import RawDetections
from pipeline.inference import Pipeline
from pipeline.uploads import Uploads
from stream.queue import BoundedQueue
from tests.frames import BrightnessClassifier, FaultyDetector, FixedDetector, frame
from tests.inference_line import InferenceLine
from tests.messages import frame_failure

BOX = (4.0, 4.0, 44.0, 44.0)
PATIENCE_S = 30.0
Answer = FrameResult | FrameFailure


class Waiter:
    """Somebody who waits for one picture."""

    def __init__(self, index: int = 0, wishes: Wishes | None = None, in_s: float = 60.0) -> None:
        self.answers: list[Answer] = []
        self.left = threading.Event()
        self.answered = threading.Event()
        self.upload = Upload(
            frame=frame(index, UPLOAD),
            wishes=wishes or Wishes(),
            deadline_ns=time.monotonic_ns() + int(in_s * 1e9),
            reply=self._take,
            gone=self.left.is_set,
        )

    def _take(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.answered.set()

    def result(self) -> Answer:
        """Waited for."""
        assert self.answered.wait(PATIENCE_S)
        [answer] = self.answers
        return answer


def uploads(depth: int = 8) -> Uploads:
    return Uploads(depth, threading.Condition())


def offer(queue: Uploads, *waiters: Waiter) -> None:
    """Announced and offered, one after the other."""
    for waiter in waiters:
        queue.announce()
        queue.offer(waiter.upload)


def balanced(counts: dict[str, int]) -> bool:
    return counts["accepted"] == sum(n for name, n in counts.items() if name != "accepted")


def test_a_full_queue_refuses_at_once_and_accepts_nothing() -> None:
    queue = uploads(depth=2)
    offer(queue, Waiter(), Waiter())
    with pytest.raises(Overloaded, match="2 requests wait already"):
        offer(queue, Waiter())
    assert not queue.coming
    assert queue.counts()["accepted"] == 2


def test_what_nobody_wants_any_more_is_not_run_and_counted() -> None:
    queue = uploads()
    gone, late, wanted = Waiter(), Waiter(in_s=0), Waiter()
    offer(queue, gone, late, wanted)
    gone.left.set()
    assert queue.take_nowait() is wanted.upload
    assert queue.take_nowait() is None
    counts = queue.counts()
    assert (counts["abandoned"], counts["expired"], counts["running"]) == (1, 1, 1)
    assert balanced(counts)


def test_an_answer_that_comes_too_late_goes_nowhere() -> None:
    queue, waiter = uploads(), Waiter()
    offer(queue, waiter)
    assert queue.take_nowait() is waiter.upload
    waiter.left.set()
    queue.settle(waiter.upload, failure())
    assert waiter.answers == []
    assert queue.counts()["abandoned"] == 1


def failure() -> FrameFailure:
    return frame_failure(0, UPLOAD)


@given(st.lists(st.sampled_from(["offer", "take", "settle", "leave"]), max_size=50))
def test_counts_add_up_whatever_happens(steps: list[str]) -> None:
    queue = uploads(depth=5)
    waiting: list[Waiter] = []
    running: list[Upload] = []
    for step in steps:
        if step == "offer":
            waiting.append(Waiter())
            queue.announce()
            try:
                queue.offer(waiting[-1].upload)
            except Overloaded:
                waiting.pop()
        elif step == "leave" and waiting:
            waiting.pop().left.set()
        elif step == "take" and (upload := queue.take_nowait()):
            running.append(upload)
        elif step == "settle" and running:
            queue.settle(running.pop(), failure())
        assert balanced(queue.counts())


class Gathering:
    """A batcher with one source behind it."""

    def __init__(self, max_batch: int = 4, max_wait_ms: float = 0.0, sources: int = 1) -> None:
        self.bell = threading.Condition()
        self.uploads = Uploads(100, self.bell)
        self.batcher = Batcher(
            self.bell, max_batch, max_wait_ms, 10**9, lambda _frame, _why: None, self.uploads
        )
        self.queues = [
            BoundedQueue[Frame](
                depth=99, max_bytes=10**9, when_full="block", size_of=lambda _i: 1, bell=self.bell
            )
            for _ in range(sources)
        ]
        for number, queue in enumerate(self.queues):
            self.batcher.add(f"cam{number}", queue)

    def gather(self) -> list[str]:
        """`u1` for an upload, `1` for a frame."""
        return [
            f"u{item.frame.frame_index}" if isinstance(item, Upload) else f"{item.frame_index}"
            for item, _ in self.batcher.gather()
            if isinstance(item, Upload | Frame)
        ]


def test_uploads_come_first_and_leave_a_place_to_the_sources() -> None:
    line = Gathering(max_batch=3)
    for index in range(3):
        line.queues[0].put(frame(index))
    offer(line.uploads, *(Waiter(index) for index in range(5)))
    assert line.gather() == ["u0", "u1", "0"]
    assert line.gather() == ["u2", "u3", "1"]
    assert line.gather() == ["u4", "2"]


def test_batches_of_one_go_to_uploads_and_sources_in_turn() -> None:
    line = Gathering(max_batch=1)
    for index in range(2):
        line.queues[0].put(frame(index))
    offer(line.uploads, *(Waiter(index) for index in range(3)))
    assert [line.gather() for _ in range(5)] == [["u0"], ["0"], ["u1"], ["1"], ["u2"]]


def test_without_sources_uploads_fill_the_batch() -> None:
    line = Gathering(max_batch=3, sources=0)
    offer(line.uploads, *(Waiter(index) for index in range(4)))
    assert line.gather() == ["u0", "u1", "u2"]
    assert line.gather() == ["u3"]


def test_a_lone_upload_waits_for_nobody_even_while_a_source_is_silent() -> None:
    line = Gathering(max_batch=8, max_wait_ms=60_000)
    offer(line.uploads, Waiter(7))
    assert line.gather() == ["u7"]


def test_an_upload_waits_for_another_that_is_on_its_way() -> None:
    line = Gathering(max_batch=8, max_wait_ms=60_000)
    offer(line.uploads, Waiter(1))
    line.uploads.announce()
    with ThreadPoolExecutor(1) as threads:
        gathering = threads.submit(line.gather)
        line.uploads.offer(Waiter(2).upload)
        assert gathering.result(PATIENCE_S) in (["u1", "u2"], ["u1"])


def test_an_upload_does_not_wait_for_one_that_was_withdrawn() -> None:
    line = Gathering(max_batch=8, max_wait_ms=60_000)
    offer(line.uploads, Waiter(1))
    line.uploads.announce()
    with ThreadPoolExecutor(1) as threads:
        gathering = threads.submit(line.gather)
        line.uploads.withdraw()
        assert gathering.result(PATIENCE_S) == ["u1"]


def test_what_waits_when_all_is_closed_is_still_gathered() -> None:
    line = Gathering(sources=0)
    offer(line.uploads, Waiter(1))
    line.batcher.close()
    assert not line.batcher.ended
    assert line.gather() == ["u1"]
    assert line.batcher.ended


def line_of(detector: FixedDetector, classifier: bool = True) -> InferenceLine:
    made = BrightnessClassifier() if classifier else None
    return InferenceLine(Pipeline(detector, made, torch.device("cpu"), min_score=0.5))


def ask(line: InferenceLine, *waiters: Waiter) -> list[Answer]:
    """The answers of the inference thread, all asked at once."""
    offer(line.batcher.uploads, *waiters)
    with line.running():
        answers = [waiter.result() for waiter in waiters]
    assert balanced(line.batcher.uploads.counts())
    return answers


def test_an_upload_is_answered_and_nothing_of_it_goes_to_the_sinks() -> None:
    line = line_of(FixedDetector(BOX))
    [answer] = ask(line, Waiter(3))
    assert isinstance(answer, FrameResult)
    assert [detection.box for detection in answer.detections] == [BOX]
    assert [label.class_name for label in answer.classifications] == ["bright"]
    assert line.outbox.counts().put == 0


def scored(*scores: float) -> RawDetections:
    boxes = torch.tensor([BOX] * len(scores))
    return RawDetections(boxes, torch.tensor(scores), torch.ones(len(scores), dtype=torch.int64))


def test_each_upload_is_looked_at_as_it_was_asked_for() -> None:
    detector = FixedDetector(by_index={index: scored(0.9, 0.6, 0.2) for index in range(4)})
    wishes = [
        Wishes(),
        Wishes(min_score=0.1),
        Wishes(min_score=0.1, max_detections=1),
        Wishes(classify=False),
    ]
    answers = ask(line_of(detector), *(Waiter(index, wish) for index, wish in enumerate(wishes)))
    results = [answer for answer in answers if isinstance(answer, FrameResult)]
    assert [len(result.detections) for result in results] == [2, 3, 1, 2]
    assert [len(result.classifications) for result in results] == [2, 3, 1, 0]
    assert [result.models.classifier is None for result in results] == [False, False, False, True]
    assert all(result.degraded == () for result in results)
    assert detector.batches == [[0, 1, 2, 3]]


def test_a_picture_that_the_model_fails_on_fails_alone() -> None:
    def fault(batch: Sequence[int]) -> None:
        if 1 in batch:
            raise ValueError("not this one")

    answers = ask(line_of(FaultyDetector(BOX, fault=fault)), *(Waiter(index) for index in range(3)))
    assert [isinstance(answer, FrameFailure) for answer in answers] == [False, True, False]
    assert "not this one" in getattr(answers[1], "message", "")


def test_streams_go_on_beside_uploads_without_end() -> None:
    line = line_of(FixedDetector(BOX), classifier=False)
    source = line.add()
    busy = threading.Event()

    def keep_asking(again: Callable[[], bool]) -> None:
        while again():
            offer(line.batcher.uploads, waiter := Waiter())
            waiter.result()

    with ThreadPoolExecutor(6) as clients, line.running():
        asking = [clients.submit(keep_asking, lambda: not busy.is_set()) for _ in range(6)]
        source.put(*(frame(index) for index in range(20)))
        source.end()
        taken = line.take_all()
        busy.set()
        assert [client.result(PATIENCE_S) for client in asking] == [None] * 6
    assert len(taken) == 21
    assert balanced(line.batcher.uploads.counts())
    assert dataclasses.asdict(line.pipeline.health.now)["ready"]
