"""The inference thread between real queues, with a real account for each source."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from contracts.errors import InternalError
from contracts.frame import Captured, Delivery, StreamItem
from contracts.ledger import Ledger
from contracts.messages import FrameFailure, FrameResult, SourceEnd
from contracts.settings import WhenFull
from pipeline.batcher import Batcher
from pipeline.breaker import Breaker
from pipeline.inference import Pipeline, run_inference
from pipeline.uploads import Uploads
from stream.queue import BoundedQueue
from tests.messages import source_end

PATIENCE_S = 30.0


def never_rebuilt() -> Pipeline:
    raise AssertionError


class Source:
    """One source's queue and account, and what a capture thread does with them."""

    def __init__(self, name: str, when_full: WhenFull, depth: int, bell: threading.Condition):
        self.name = name
        self.ledger = Ledger()
        self.queue: BoundedQueue[StreamItem] = BoundedQueue(
            depth=depth,
            max_bytes=10**9,
            when_full=when_full,
            size_of=lambda _item: 1,
            may_drop=lambda item: isinstance(item, Captured),
            on_drop=lambda item: self.ledger.dropped(index_of(item), "queue_full"),
            bell=bell,
        )

    def put(self, *items: StreamItem) -> None:
        """They are captured, where they are frames, and queued."""
        for item in items:
            if isinstance(item, Captured | FrameFailure):
                self.ledger.captured(item.frame_index)
            self.queue.put(item)

    def end(self) -> None:
        """Nothing comes after its end."""
        self.queue.put_over(source_end(self.name))
        self.queue.close()


class InferenceLine:
    """What `run_inference` stands between. Messages are settled as they are taken."""

    def __init__(
        self,
        pipeline: Pipeline,
        max_batch: int = 4,
        rebuild: Callable[[], Pipeline] = never_rebuilt,
        waits_s: Sequence[float] = (0.0,),
    ) -> None:
        self.pipeline = pipeline
        self.bell = threading.Condition()
        self.sources: dict[str, Source] = {}
        self.outbox: BoundedQueue[Delivery] = BoundedQueue(
            depth=100, max_bytes=10**9, when_full="block", size_of=lambda _item: 1
        )
        self.batcher = Batcher(self.bell, max_batch, 0, 10**9, self._drop, Uploads(100, self.bell))
        self._breaker = Breaker(rebuild, pipeline.health, waits_s)

    def add(
        self,
        name: str = "cam",
        when_full: WhenFull = "block",
        depth: int = 100,
        max_age_s: float | None = None,
    ) -> Source:
        """One more source."""
        source = self.sources[name] = Source(name, when_full, depth, self.bell)
        self.batcher.add(name, source.queue, max_age_s)
        return source

    def run(self) -> None:
        """What the inference thread does."""
        run_inference(
            self.batcher,
            self.pipeline,
            self.outbox,
            lambda name, index: self.sources[name].ledger.drops_before(index),
            self._breaker,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inside, the inference thread runs; it has ended after."""
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        yield
        self.batcher.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()

    def take(self) -> Delivery:
        """The next delivery, settled."""
        delivery = self.outbox.take(PATIENCE_S)
        assert delivery is not None
        match delivery.message:
            case FrameResult(source_id=name, frame_index=index):
                self.sources[name].ledger.delivered(index)
            case FrameFailure(source_id=name, frame_index=index, code=code):
                self.sources[name].ledger.failed(index, code)
        return delivery

    def take_all(self) -> list[Delivery]:
        """Everything up to the ends of all sources."""
        taken: list[Delivery] = []
        ends = 0
        while ends < len(self.sources):
            taken.append(self.take())
            ends += isinstance(taken[-1].message, SourceEnd)
        return taken

    def _drop(self, frame: Captured, reason: str) -> None:
        self.sources[frame.source_id].ledger.dropped(frame.frame_index, reason)


def index_of(item: StreamItem) -> int:
    """Of a frame, converted or not."""
    if not isinstance(item, Captured):
        raise InternalError(f"{item!r} was dropped")
    return item.frame_index


def outcomes(deliveries: Sequence[Delivery]) -> list[str]:
    """`result` or the failure's code, of each frame."""
    messages = [delivery.message for delivery in deliveries]
    return [
        message.code if isinstance(message, FrameFailure) else "result"
        for message in messages
        if isinstance(message, FrameFailure | FrameResult)
    ]
