"""What publishing costs, on real sockets of the loopback: `python -m scripts.bench_wire`."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from rich.table import Table

from contracts.frame import Delivery, new_trace_id
from contracts.messages import Detection, FrameResult, ModelIdentity, Models, StageTimes
from scripts.listen_stats import quantiles_of
from scripts.tables import standard_output
from sinks.client import subscribe
from sinks.zmq import ZmqSink

ROUNDS = 300
RATE_HZ = 1000
SECONDS = 5


def main() -> None:
    """Two tables: a message's cost by its size, and a subscriber at 1,000 messages a second."""
    console = standard_output()
    table = Table("detections", "kB", "validate ms", "JSON ms", "publish ms", "parse ms")
    for n_detections in (20, 200):
        table.add_row(str(n_detections), *costs(n_detections))
    console.print("Cost of a message, median of", ROUNDS)
    console.print(table)
    console.print(f"{RATE_HZ} messages/s for {SECONDS} s to one subscriber, 20 detections each")
    console.print(paced(20))


def costs(n_detections: int) -> Sequence[str]:
    """kB; then milliseconds to validate, to serialise, to publish to one subscriber, to parse."""
    fields = result(n_detections, 0).model_dump()
    message = FrameResult(**fields)
    payload = message.model_dump_json().encode()
    sink = ZmqSink("tcp://127.0.0.1:*")
    sink.open()
    with subscribe(sink.bound_endpoint, ["frame/"]) as subscription:
        while not subscription.receive(0.01):
            sink.write(Delivery(message), payload)
        sent = median_ms(lambda: sink.write(Delivery(message), payload))
        sink.close()
    steps: tuple[Callable[[], object], ...] = (
        lambda: FrameResult(**fields),
        lambda: message.model_dump_json().encode(),
    )
    made = [median_ms(step) for step in steps]
    parsed = median_ms(lambda: FrameResult.model_validate_json(payload))
    return [f"{len(payload) / 1e3:.1f}", *(f"{ms:.3f}" for ms in (*made, sent, parsed))]


def median_ms(step: Callable[[], object]) -> float:
    """Of many rounds."""
    spent_ms = []
    for _ in range(ROUNDS):
        started_ns = time.perf_counter_ns()
        step()
        spent_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
    return statistics.median(spent_ms)


def paced(n_detections: int) -> str:
    """How many of them came, how many were lost, and their latency."""
    sink = ZmqSink("tcp://127.0.0.1:*")
    sink.open()
    lost: list[int] = []
    latency_ms: list[float] = []
    heard = threading.Event()

    def receive() -> None:
        with subscribe(
            sink.bound_endpoint, ["frame/"], on_gap=lambda _topic, gap: lost.extend(gap)
        ) as subscription:
            while received := subscription.receive(1.0 if heard.is_set() else None):
                latency_ms.append((time.time_ns() - received.header.sent_at_ns) / 1e6)
                heard.set()

    reader = threading.Thread(target=receive)
    reader.start()
    template = result(n_detections, 0)
    while not heard.wait(0.01):
        sink.write(Delivery(template), template.model_dump_json().encode())
    started_s = time.perf_counter()
    for index in range(RATE_HZ * SECONDS):
        time.sleep(max(started_s + index / RATE_HZ - time.perf_counter(), 0))
        message = template.model_copy(update={"frame_index": index})
        sink.write(Delivery(message), message.model_dump_json().encode())
    spent_s = time.perf_counter() - started_s
    reader.join()
    sink.close()
    quantiles = quantiles_of(latency_ms) or {}
    return (
        f"sent {RATE_HZ * SECONDS} in {spent_s:.2f} s, received {len(latency_ms)}, "
        f"lost {len(lost)}, latency p50 {quantiles['p50']:.2f} p95 {quantiles['p95']:.2f} ms, "
        f"{sink.counts()}"
    )


def result(n_detections: int, frame_index: int) -> FrameResult:
    """A frame with so many parts in it."""
    identity = ModelIdentity(name="bundled:parts", weights_sha256="0" * 64)
    return FrameResult(
        image_id=f"cam1/{frame_index}",
        detections=tuple(
            Detection(
                box=(3.25 * n, 10.5, 3.25 * n + 40.125, 60.75),
                score=0.987654,
                class_id=n % 5,
                class_name="washer",
            )
            for n in range(n_detections)
        ),
        classifications=(),
        inference_ms=20.5,
        source_id="cam1",
        frame_index=frame_index,
        pts_s=frame_index / 25,
        captured_at=datetime.now(UTC),
        width=1920,
        height=1080,
        trace_id=new_trace_id(),
        batch_size=1,
        stage_ms=StageTimes(
            decode_ms=1, queue_ms=1, detect_ms=20, crop_ms=1, classify_ms=1, assemble_ms=1
        ),
        models=Models(detector=identity, classifier=None),
    )


if __name__ == "__main__":
    main()
