"""The whole line, wired as in production: every frame is accounted for, and nothing hangs."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import zmq
from PIL import Image

from contracts.errors import (
    DiskFull,
    EndpointUnavailable,
    InferenceHung,
    InternalError,
    OutputUnwritable,
)
from contracts.frame import Frame
from contracts.messages import (
    AnyMessage,
    FrameFailure,
    FrameResult,
    SourceEnd,
    SourceEvent,
    SourceStatus,
    parse_message,
)
from contracts.settings import Settings, SourceSettings
from pipeline.detect import RawDetections
from pipeline.inference import Pipeline
from scripts.wiring import Run
from stream.feed import Feed
from tests.clips import FFV1, H264, Look, cut, number_in, packets, painted, ruin_packet, write_clip
from tests.frames import BrightnessClassifier, FixedDetector

WIDE = (0.0, 0.0, 96.0, 64.0)


class NumberDetector(FixedDetector):
    """Reads the number painted into each frame and says it as the class id."""

    class_names = tuple(str(number) for number in range(256))

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        super().detect(frames)
        return [
            RawDetections(
                torch.tensor([WIDE]),
                torch.tensor([0.9]),
                torch.tensor([number_in(item.image_hwc)]),
            )
            for item in frames
        ]


class GatedDetector(NumberDetector):
    """Waits until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        assert self.gate.wait(30)
        return super().detect(frames)


def make_run(
    tmp_path: Path, *sources: object, detector: FixedDetector | None = None, **settings: object
) -> Run:
    raw = {"zmq": "none", "jsonl": tmp_path / "results.jsonl", "sources": sources, **settings}
    pipeline = Pipeline(detector or NumberDetector(), BrightnessClassifier(), torch.device("cpu"))
    settled = Settings.model_validate(raw)
    return Run(settled, lambda: pipeline, threading.Event())


def messages_in(path: Path) -> list[AnyMessage]:
    return [parse_message(line) for line in path.read_text().splitlines()]


def results_of(messages: Sequence[AnyMessage], source_id: str) -> list[FrameResult]:
    return [m for m in messages if isinstance(m, FrameResult) and m.source_id == source_id]


def only(run: Run) -> Feed:
    """The run's one source."""
    [found] = run.feeds.values()
    return found


def assert_settled(run: Run) -> None:
    for feed in run.feeds.values():
        counts = feed.ledger.counts()
        assert counts.balanced
        assert counts.in_flight == 0
    assert not [t.name for t in threading.enumerate() if t.name.startswith("framewire")]


def test_the_number_painted_into_each_frame_is_in_the_message_of_that_number_and_time(
    tmp_path: Path,
) -> None:
    ticks = [0, 1, 2, 5, 6, 11, *range(20, 74)]
    clip = write_clip(tmp_path / "clip.mp4", 60, H264, ticks=ticks)
    run = make_run(tmp_path, str(clip))
    run.execute()
    messages = messages_in(tmp_path / "results.jsonl")
    results = results_of(messages, "clip")
    assert [r.frame_index for r in results] == list(range(60))
    assert [r.detections[0].class_id for r in results] == list(range(60))
    assert [r.pts_s for r in results] == pytest.approx([tick / 10 for tick in ticks])
    end = messages[-1]
    assert isinstance(end, SourceEnd)
    assert end.ledger.delivered == end.ledger.captured == 60
    assert_settled(run)


def test_several_sources_share_the_line_and_each_is_whole_and_in_order(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "first.mkv", 30, FFV1)
    second = write_clip(tmp_path / "second.mkv", 20, FFV1)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(7):
        Image.fromarray(painted(number)).save(folder / f"{number}.png")
    detector = NumberDetector()
    run = make_run(tmp_path, str(first), str(second), str(folder), detector=detector)
    run.execute()
    messages = messages_in(tmp_path / "results.jsonl")
    for source_id, count in (("first", 30), ("second", 20), ("photos", 7)):
        results = results_of(messages, source_id)
        assert [r.detections[0].class_id for r in results] == list(range(count))
    assert [r.image_id for r in results_of(messages, "photos")] == [f"{n}.png" for n in range(7)]
    assert max(len(batch) for batch in detector.batches) > 1
    assert_settled(run)


def test_a_subscriber_receives_what_is_written_to_the_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 12, FFV1)
    endpoint = f"ipc://{tmp_path}/wire"
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        socket.connect(endpoint)
        run = make_run(tmp_path, str(clip), zmq=endpoint, zmq_subscribers=1)
        run.execute()
        received: list[list[bytes]] = []
        while not received or received[-1][0] != b"end/clip/":
            parts = socket.recv_multipart()
            # How the process is comes between its results, and leaves no line.
            received += [parts] if parts[0] not in (b"status/", b"heartbeat/") else []
    assert [parts[2].decode() for parts in received] == (
        tmp_path / "results.jsonl"
    ).read_text().splitlines()
    assert [parts[0] for parts in received] == [b"frame/clip/"] * 12 + [b"end/clip/"]


def test_a_full_live_queue_drops_the_oldest_and_the_counts_add_up(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 50, FFV1)
    live = {"uri": str(clip), "when_full": "drop_oldest", "queue_depth": 2}
    detector = GatedDetector()
    run = make_run(tmp_path, live, detector=detector, max_batch=1, max_wait_ms=0)
    [feed] = run.feeds.values()
    unbalanced: list[object] = []

    def open_gate_when_all_is_read() -> None:
        counts = feed.ledger.counts()
        unbalanced.extend([] if counts.balanced else [counts])
        if counts.captured == 50:
            detector.gate.set()

    run.execute(open_gate_when_all_is_read)
    counts = feed.ledger.counts()
    assert not unbalanced
    assert counts.captured == 50
    assert counts.dropped["queue_full"] + counts.delivered == 50
    # One in inference, two in the queue; all read after those made the oldest one go.
    assert counts.delivered == 3
    results = results_of(messages_in(tmp_path / "results.jsonl"), "clip")
    assert [r.frame_index for r in results][-2:] == [48, 49]
    assert [r.detections[0].class_id for r in results] == [r.frame_index for r in results]
    assert_settled(run)


def test_stop_finishes_what_was_read_and_loses_nothing(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 200, FFV1)
    run = make_run(tmp_path, str(clip), max_batch=2)

    def stop_once_something_left() -> None:
        if only(run).ledger.counts().delivered:
            run.stop.set()

    run.execute(stop_once_something_left)
    counts = only(run).ledger.counts()
    messages = messages_in(tmp_path / "results.jsonl")
    assert len(results_of(messages, "clip")) == counts.delivered == counts.captured
    end = messages[-1]
    assert isinstance(end, SourceEnd)
    assert end.code is None
    assert_settled(run)


def test_max_frames_stops_reading(tmp_path: Path) -> None:
    run = make_run(tmp_path, str(write_clip(tmp_path / "clip.mkv", 20, FFV1)), max_frames=5)
    run.execute()
    assert only(run).ledger.counts().delivered == 5


def test_a_damaged_packet_is_a_counted_failure_and_the_rest_is_delivered(tmp_path: Path) -> None:
    clip = ruin_packet(write_clip(tmp_path / "clip.avi", 10, Look("mjpeg", "yuvj420p", {})), 4)
    run = make_run(tmp_path, str(clip))
    run.execute()
    messages = messages_in(tmp_path / "results.jsonl")
    failures = [m for m in messages if isinstance(m, FrameFailure)]
    assert [(f.frame_index, f.code) for f in failures] == [(4, "decode_error")]
    assert [r.detections[0].class_id for r in results_of(messages, "ruined-clip")] == [
        0, 1, 2, 3, 5, 6, 7, 8, 9,
    ]  # fmt: skip
    assert only(run).ledger.counts().failed == {"decode_error": 1}
    assert_settled(run)


def test_a_truncated_video_delivers_what_could_be_decoded_and_ends_by_name(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "clip.mkv", 10, FFV1)
    packet = packets(whole)[6]
    assert packet.pos is not None
    run = make_run(tmp_path, str(cut(whole, packet.pos + packet.size // 2)))
    run.execute()
    messages = messages_in(tmp_path / "results.jsonl")
    assert len(results_of(messages, "cut-clip")) == 6
    end = messages[-1]
    assert isinstance(end, SourceEnd)
    assert end.code == "truncated_video"
    assert sum(end.ledger.failed.values()) >= 1
    assert_settled(run)


def test_a_source_that_is_no_video_ends_by_name_and_harms_no_other(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 10, FFV1)
    text = tmp_path / "text.mp4"
    text.write_text("this is no video")
    run = make_run(tmp_path, str(text), str(clip))
    run.execute()
    assert run.report.ends["text"].code == "not_a_video"
    assert run.report.ends["clip"].ledger.delivered == 10
    assert_settled(run)


def test_a_full_disk_stops_the_run_by_name_and_every_frame_is_settled(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 100, FFV1)
    run = make_run(tmp_path, str(clip), jsonl="/dev/full")
    with pytest.raises(DiskFull):
        run.execute()
    counts = only(run).ledger.counts()
    assert counts.delivered == 0
    assert counts.failed["disk_full"] >= 1
    assert_settled(run)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"jsonl": "/proc/results.jsonl"}, OutputUnwritable),
        ({"video": "/proc/annotated.mp4"}, OutputUnwritable),
        ({"zmq": "tcp://127.0.0.1:notaport"}, EndpointUnavailable),
    ],
)
def test_an_output_that_cant_be_opened_stops_the_run_before_a_frame_is_read(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception]
) -> None:
    run = make_run(tmp_path, str(write_clip(tmp_path / "clip.mkv", 3, FFV1)), **settings)
    with pytest.raises(error):
        run.execute()
    assert only(run).ledger.counts().captured == 0
    assert_settled(run)


class FailingDetector(FixedDetector):
    """Never works."""

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        raise SystemError(f"{len(frames)} frames are too many")


def test_failures_of_every_frame_are_counted_and_the_run_goes_to_its_end(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 30, FFV1)
    run = make_run(tmp_path, str(clip), detector=FailingDetector())
    run.execute()
    assert only(run).ledger.counts().failed == {"inference_error": 30}
    assert_settled(run)


class ThreadKiller(FixedDetector):
    """Ends the inference thread in the middle, as only a defect would."""

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        raise GeneratorExit(f"with {len(frames)} frames")


def test_a_thread_that_dies_stops_the_run_loudly_and_every_frame_is_settled(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 100, FFV1)
    run = make_run(tmp_path, str(clip), detector=ThreadKiller())
    with pytest.raises(InternalError, match="GeneratorExit"):
        run.execute()
    counts = only(run).ledger.counts()
    assert counts.failed["internal_error"] + counts.dropped.get("shutdown", 0) == counts.captured
    assert_settled(run)


def test_runs_leave_no_thread_and_no_file_descriptor_behind(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 5, FFV1)

    def run_once(number: int) -> None:
        video, endpoint = tmp_path / "out.mp4", f"ipc://{tmp_path}/{number}"
        make_run(tmp_path, str(clip), video=video, zmq=endpoint).execute()

    run_once(0)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for number in range(1, 6):
        run_once(number)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert not [t.name for t in threading.enumerate() if t.name.startswith("framewire")]


def test_a_file_as_a_camera_and_a_job_share_the_line_and_say_what_they_are(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 12, FFV1)
    run = make_run(tmp_path, {"uri": str(clip), "id": "cam", "realtime": True}, str(clip))
    run.execute()
    assert_settled(run)
    messages = messages_in(tmp_path / "results.jsonl")
    events = [m.state for m in messages if isinstance(m, SourceEvent)]
    assert events == ["connecting", "live", "ended"]
    results = results_of(messages, "cam")
    assert [r.sequence for r in results] == list(range(len(results)))
    assert len(results) + sum(sum(r.dropped_before.values()) for r in results) <= 12
    assert [r.frame_index for r in results_of(messages, "clip")] == list(range(12))


def test_sources_are_added_paused_and_removed_while_others_go_on(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 10, FFV1)
    forever = {"uri": str(clip), "id": "cam", "realtime": True, "loop": True}
    run = make_run(tmp_path, forever)
    steps = iter(["add", "pause", "remove"])
    said: list[str] = []

    def act() -> None:
        states = {one.source_id: one for one in run.supervisor.statuses()}
        match next(steps, None) if _due(states, said) else None:
            case "add":
                run.add(SourceSettings(uri=str(clip), id="job"))
                said.append("add")
            case "pause":
                run.supervisor.pause("cam")
                said.append("pause")
            case "remove":
                run.supervisor.remove("cam")
                said.append("remove")

    run.execute(act)
    assert said == ["add", "pause", "remove"]
    assert_settled(run)
    messages = messages_in(tmp_path / "results.jsonl")
    assert [r.frame_index for r in results_of(messages, "job")] == list(range(10))
    ends = {m.source_id: m for m in messages if isinstance(m, SourceEnd)}
    assert ends["cam"].ledger.dropped["paused"] > 0
    assert ends["cam"].code is None


def _due(states: dict[str, SourceStatus], said: list[str]) -> bool:
    """Each step waits for what the one before it has led to."""
    match said:
        case []:
            return states["cam"].ledger.delivered > 0
        case ["add"]:
            return states["job"].state == "ended"
        case ["add", "pause"]:
            return states["cam"].ledger.dropped.get("paused", 0) > 0
    return False


def test_models_that_hang_end_the_run_by_name_and_what_was_delivered_is_whole(
    tmp_path: Path,
) -> None:
    class HangsAtTheSecondBatch(GatedDetector):
        def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
            if not self.batches:
                return NumberDetector.detect(self, frames)
            return super().detect(frames)

    clip = write_clip(tmp_path / "clip.mkv", 20, FFV1)
    detector = HangsAtTheSecondBatch()
    run = make_run(tmp_path, str(clip), detector=detector, max_batch=4, inference_timeout_s=0.5)
    with pytest.raises(InferenceHung, match="have not answered"):
        run.execute()
    counts = only(run).ledger.counts()
    assert counts.balanced
    assert (counts.in_flight, counts.delivered) == (0, 4)
    assert counts.failed["inference_hung"] > 0
    assert len(results_of(messages_in(tmp_path / "results.jsonl"), "clip")) == 4
    detector.gate.set()
