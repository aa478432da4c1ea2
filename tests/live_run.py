"""A run of live cameras, watched from outside while a test does something to them.

All is as in production but for the detector, which reads the number that the camera painted.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import torch

from contracts.errors import FramewireError
from contracts.frame import Frame
from contracts.messages import FrameResult, SourceEvent, SourceStatus
from contracts.settings import Settings
from pipeline.detect import RawDetections
from pipeline.inference import Pipeline
from scripts.wiring import Run
from tests.cameras import camera_number
from tests.frames import FaultyDetector, raw
from tests.witness import Heard, Witness, assert_account

TIMEOUT_S = 40.0
"""Nothing that is waited for takes so long, however busy the machine is."""
MEASURED_S = 5.0
"""A rate is measured over so long at least."""

State = tuple[str, str | None]
"""Of an event: the state and the code."""


class CameraDetector(FaultyDetector):
    """Says as the class of one box which number the camera painted; `fault` may fail or hang."""

    class_names = tuple(str(number) for number in range(1 << 16))

    def __init__(self, fault: Callable[[list[int]], None] = lambda _indices: None) -> None:
        super().__init__(fault=fault)

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        super().detect(frames)
        numbers = [camera_number(frame.image_hwc) for frame in frames]
        return [raw((0, 0, 100, 100), class_id=number) for number in numbers]


class LiveRun:
    """A run on a thread while the context lasts; then it is stopped, and all is accounted for.

    `breaks_off` is the error that the run is expected to end with.
    """

    def __init__(
        self,
        *sources: object,
        detector: CameraDetector | None = None,
        breaks_off: type[FramewireError] | None = None,
        kind: type[Run] = Run,
        **settings: object,
    ) -> None:
        pipeline = Pipeline(detector or CameraDetector(), None, torch.device("cpu"))
        settled = Settings.model_validate({"zmq": "none", "sources": sources, **settings})
        self.run = kind(settled, lambda: pipeline, threading.Event())
        self.failure: FramewireError | None = None
        self.rates: dict[str, float] = {}
        """As `keeping` measured them."""
        self._breaks_off = breaks_off
        self._bell = threading.Condition()
        self._witness = Witness(self._bell)
        self.run.sinks.append(self._witness)
        self._unbalanced: list[SourceStatus] = []
        self._over = False
        self._thread = threading.Thread(target=self._execute, name="framewire-run")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.run.stop.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "the run does not end"
        if kind is None:
            assert type(self.failure) is (self._breaks_off or type(None)), self.failure
            self._assert_all_accounted_for()

    def wait_for(self, happened: Callable[[], object], what: str) -> None:
        """It has happened: looked at whenever a message leaves, and ten times a second."""
        with self._bell:
            self._bell.wait_for(lambda: self._over or happened(), TIMEOUT_S)
            assert happened(), f"{what} never came; {self.run.status()}"

    def wait_s(self, seconds: float) -> None:
        """So long a fault lasts, or a rate is measured."""
        until_s = time.monotonic() + seconds
        self.wait_for(lambda: time.monotonic() >= until_s, f"{seconds} s")

    def wait_for_states(self, name: str, *states: State) -> None:
        """These have come, in this order, maybe with others between them."""

        def came() -> bool:
            events = iter(self.states(name))
            return all(state in events for state in states)

        self.wait_for(came, f"{states} of {name}")

    def wait_until_live(self, *names: str) -> None:
        """A frame of each has left."""
        for name in names:
            self.wait_for(functools.partial(self.results, name), f"a result of {name}")

    def wait_for_results(self, name: str, n_more: int = 1) -> None:
        """So many results more than now."""
        wanted = len(self.results(name)) + n_more
        self.wait_for(lambda: len(self.results(name)) >= wanted, f"{n_more} results of {name}")

    def back_after_s(self, name: str, since_s: float) -> float:
        """How long after that moment (monotonic) the source is live once more; waited for."""

        def back_at_s() -> float | None:
            live = (one.at_s for one in self.heard_of(name) if _is_live(one))
            return next((at_s for at_s in live if at_s > since_s), None)

        self.wait_for(lambda: back_at_s() is not None, f"{name} once more")
        return (back_at_s() or 0.0) - since_s

    @contextmanager
    def keeping(self, **rates: float) -> Iterator[None]:
        """What is done inside harms none of these sources: each keeps its rate within a tenth."""
        # What came while the stream was opened and looked into comes all at once.
        self.wait_for(
            lambda: all(self._captured(name) > 1.5 * rate for name, rate in rates.items()),
            f"the first frames of {', '.join(rates)}",
        )
        started_s = time.monotonic()
        before = {name: self._captured(name) for name in rates}
        yield
        self.wait_s(max(0, started_s + MEASURED_S - time.monotonic()))
        elapsed_s = time.monotonic() - started_s
        for name, rate in rates.items():
            self.rates[name] = (self._captured(name) - before[name]) / elapsed_s
            assert 0.9 * rate <= self.rates[name] <= 1.1 * rate, f"{name}: {self.rates[name]}"
            assert {state for state, _ in self.states(name)} == {"connecting", "live"}

    @property
    def kept(self) -> str:
        """What `keeping` measured, for people."""
        rates = [f"{name} {rate:.1f}" for name, rate in self.rates.items()]
        return f"{', '.join(rates)} frames/s"

    def heard_of(self, name: str) -> list[Heard]:
        """What was said of a source, in order."""
        return self._witness.heard_of(name)

    def results(self, name: str) -> list[FrameResult]:
        """In order."""
        return [m for m, _ in self.heard_of(name) if isinstance(m, FrameResult)]

    def numbers(self, name: str) -> list[int]:
        """Those that the camera painted into the frames of the results."""
        return [result.detections[0].class_id for result in self.results(name)]

    def wrong_pictures(self, name: str, fps: float, tolerance: int = 0) -> list[FrameResult]:
        """Results whose picture is not the one that the camera painted at their time."""
        return [
            result
            for result in self.results(name)
            if result.pts_s is not None
            and abs(round(result.pts_s * fps) - result.detections[0].class_id) > tolerance
        ]

    def states(self, name: str) -> list[State]:
        """As they were told."""
        return [(m.state, m.code) for m, _ in self.heard_of(name) if isinstance(m, SourceEvent)]

    def status(self, name: str) -> SourceStatus:
        """At this moment."""
        return next(one for one in self.run.status().sources if one.source_id == name)

    def _captured(self, name: str) -> int:
        return self.status(name).ledger.captured

    def _execute(self) -> None:
        try:
            self.run.execute(self._look)
        except FramewireError as failure:
            self.failure = failure
        finally:
            with self._bell:
                self._over = True
                self._bell.notify_all()

    def _look(self) -> None:
        sources = self.run.status().sources
        with self._bell:
            self._unbalanced += [one for one in sources if not one.ledger.balanced]
            self._bell.notify_all()

    def _assert_all_accounted_for(self) -> None:
        assert self._unbalanced == []
        for name, feed in self.run.feeds.items():
            counts = feed.ledger.counts()
            assert counts.balanced
            assert counts.in_flight == 0
            if self.failure is None:
                assert_account(counts, [message for message, _ in self.heard_of(name)])


def _is_live(one: Heard) -> bool:
    return isinstance(one.message, SourceEvent) and one.message.state == "live"
