"""`framewire serve` as a process: what it waits for, what it finishes, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

from contracts.errors import DiskFull, InferenceHung, InternalError
from contracts.frame import Frame
from contracts.settings import Settings
from pipeline.detect import RawDetections
from pipeline.inference import Pipeline
from scripts.serve import open_run, run_and_serve
from sinks.http.keys import new_key
from sinks.http.server import bind, listen, url_of
from tests.clips import FFV1, write_clip
from tests.conftest import REPOSITORY
from tests.frames import BrightnessClassifier, FixedDetector
from tests.http_service import BOX, FORM, PATIENCE_S, serving, until
from tests.test_cli import framewire
from tests.test_http_detect import GatedDetector, result_of

PHOTO = REPOSITORY / "docs" / "demo.jpg"


class Process:
    """A service in a process of its own, once it says where it is."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        self.process = process
        self.said: list[str] = []
        self.url = ""
        for line in process.stderr:
            self.said.append(line)
            if "serving on" in line:
                self.url = line.split()[-1]
                break

    def end(self, number: int) -> int:
        """Its exit status after the signal."""
        assert self.process.stderr is not None
        self.process.send_signal(number)
        self.said += self.process.stderr
        return self.process.wait(PATIENCE_S)


@contextmanager
def started(*arguments: str | Path, **environment: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "scripts.cli", "serve", *map(str, arguments)]
    given = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **environment}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env=given
    ) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


def test_the_bundled_models_answer_and_a_signal_ends_it_with_all_that_was_read(
    tmp_path: Path,
) -> None:
    results, summary = tmp_path / "results.jsonl", tmp_path / "summary.json"
    clip = write_clip(tmp_path / "clip.mkv", 12, FFV1)
    with started(
        "--source", clip, "--zmq", "none", "--jsonl", results, "--summary", summary, "--port", "0",
    ) as service:  # fmt: skip
        with PHOTO.open("rb") as file:
            answer = httpx.post(f"{service.url}/detect", files={"file": file}, timeout=PATIENCE_S)
        assert len(result_of(answer).detections) > 3
        assert result_of(answer).classifications
        lower = {"min_score": 0.05}
        data = PHOTO.read_bytes()
        more = httpx.post(f"{service.url}/detect", files={"file": data}, params=lower, timeout=60)
        assert len(result_of(more).detections) > len(result_of(answer).detections)
        assert service.end(signal.SIGTERM) == 0, service.said
    assert len(results.read_text().splitlines()) == 13
    assert json.loads(summary.read_text())["ledgers"]["clip"]["delivered"] == 12
    assert "pictures: accepted 2, answered 2\n" in service.said
    assert not [line for line in service.said if "Traceback" in line]


def test_what_was_asked_is_answered_after_the_signal_and_nothing_new_is_taken() -> None:
    gated = GatedDetector()
    with serving(gated) as served:
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(served.client.post("/detect", files=FORM))
        )
        asking.start()
        assert gated.reached.wait(PATIENCE_S)
        served.stop.set()

        def refused() -> bool:
            try:
                socket.create_connection(served.address, 1).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused)
        assert not answers
        gated.gate.set()
        asking.join(PATIENCE_S)
        served.thread.join(PATIENCE_S)
    assert len(result_of(answers[0]).detections) == 1


def test_an_idle_connection_does_not_keep_it_from_ending() -> None:
    with serving() as served, served.connect() as idle, served.connect() as half:
        served.client.get("/healthz")
        half.sendall(b"POST /detect HTTP/1.1\r\nHost:")
        served.stop.set()
        served.thread.join(PATIENCE_S)
        assert not served.thread.is_alive()
        assert idle.recv(1) == half.recv(1) == b""


def test_a_port_in_use_is_found_out_before_the_models_are_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, _, lines = framewire(
            capsys, "serve", "--port", str(port), "--detector-weights", "none.pth"
        )
    assert status == 3
    assert f"endpoint_unavailable: http: 127.0.0.1:{port} is in use" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--detector-weights", "none.pth"], 3, "weights_unavailable"),
        (["--detector", "yolo"], 2, "unknown_model"),
        (["--source", "no/such.mp4"], 3, "source_not_found"),
        (["--host", "0.0.0.0"], 2, "bad_setting: host: other machines reach 0.0.0.0"),  # noqa: S104
        (["--host", "192.0.2.1", "--open"], 3, "is not an address of this machine"),
        (["--host", "no.such.host.invalid", "--open"], 3, "no such host"),
        (["--port", "70000"], 2, "bad_setting: serve.port"),
        (["--api-keys", "none"], 2, "bad_setting: api_keys: none can't be read"),
        (["--tls-key", "k", "--tls-certificate", "c"], 2, "bad_setting: tls_certificate c"),
        (["--timeout-ms", "0"], 2, "bad_setting: serve.timeout_ms"),
    ],
    ids=str,
)
def test_what_cant_start_says_so_in_one_line_with_its_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    ended, _, lines = framewire(capsys, "serve", "--zmq", "none", "--port", "0", *arguments)
    assert ended == status
    assert said in lines[-1]
    assert lines[-1].startswith("framewire: ")
    assert not [line for line in lines if "serving on" in line]


def test_nobody_can_connect_before_the_models_are_loaded() -> None:
    settings = Settings.model_validate({"zmq": "none", "serve": {"port": 0}})
    with bind(settings.serve) as listener:
        address = listener.getsockname()
        tried: list[type[BaseException]] = []

        def load() -> Pipeline:
            try:
                socket.create_connection(address, 1).close()
            except OSError as error:
                tried.append(type(error))
            return Pipeline(FixedDetector(BOX), BrightnessClassifier(), torch.device("cpu"))

        open_run(settings, load)
        assert tried == [ConnectionRefusedError]
        listen(listener)
        socket.create_connection(address, PATIENCE_S).close()


class ThreadKiller(FixedDetector):
    """Ends the inference thread in the middle, as only a defect would."""

    def detect(self, frames: Sequence[Frame]) -> list[RawDetections]:
        raise GeneratorExit(f"with {len(frames)} frames")


def test_a_run_that_breaks_off_ends_the_service_too(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 12, FFV1)
    raw = {"zmq": "none", "jsonl": "/dev/full", "sources": [str(clip)], "serve": {"port": 0}}
    settings = Settings.model_validate(raw)
    pipeline = Pipeline(FixedDetector(BOX), BrightnessClassifier(), torch.device("cpu"))
    with bind(settings.serve) as listener:
        url = url_of(listener)
        run = open_run(settings, lambda: pipeline)
        with pytest.raises(DiskFull):
            run_and_serve(run, listener, threading.Event())
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("framewire")]


def test_an_inference_thread_that_dies_ends_the_service_and_who_waits_is_answered() -> None:
    raw = {"zmq": "none", "serve": {"port": 0, "timeout_ms": 500}}
    settings = Settings.model_validate(raw)
    pipeline = Pipeline(ThreadKiller(BOX), BrightnessClassifier(), torch.device("cpu"))
    with bind(settings.serve) as listener, ThreadPoolExecutor(1) as asking:
        run = open_run(settings, lambda: pipeline)
        listen(listener)
        answer = asking.submit(httpx.post, f"{url_of(listener)}/detect", files=FORM, timeout=60)
        with pytest.raises(InternalError, match="GeneratorExit"):
            run_and_serve(run, listener, threading.Event())
        assert answer.result(PATIENCE_S).status_code == 504


def test_models_that_hang_end_the_service_by_name_and_who_waits_is_answered() -> None:
    serve = {"port": 0, "timeout_ms": 100}
    settings = Settings.model_validate({"zmq": "none", "serve": serve, "inference_timeout_s": 0.3})
    gated = GatedDetector()
    pipeline = Pipeline(gated, BrightnessClassifier(), torch.device("cpu"))
    with bind(settings.serve) as listener, ThreadPoolExecutor(1) as asking:
        run = open_run(settings, lambda: pipeline)
        listen(listener)
        answer = asking.submit(httpx.post, f"{url_of(listener)}/detect", files=FORM, timeout=60)
        with pytest.raises(InferenceHung):
            run_and_serve(run, listener, threading.Event())
        assert answer.result(PATIENCE_S).json()["code"] == "deadline_exceeded"
    gated.gate.set()


def test_a_key_is_made_and_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = framewire(capsys, "api-key", "the lab", "--scopes", "read")
    assert status == 0
    key, line = (row.split(maxsplit=1)[1] for row in out.splitlines())
    file = tmp_path / "keys"
    file.write_text(f"{line}\n{new_key('other', ['admin'])[1]}\n")
    with serving(serve={"api_keys": str(file)}) as served:
        headers = {"Authorization": f"Bearer {key}"}
        assert served.client.get("/v1/models", headers=headers).status_code == 200
    status, _, lines = framewire(capsys, "api-key", "x", "--scopes", "all")
    assert status == 2
    assert lines[-1].startswith("framewire: bad_setting: ")
