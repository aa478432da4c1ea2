"""The command as a person meets it: help, one-line errors, exit statuses, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contracts.messages import FrameResult, SourceEnd, parse_message
from contracts.serve import ServeSettings
from contracts.settings import Settings
from scripts.cli import guarded, main
from scripts.console import set_up_logging
from tests.clips import FFV1, Image, painted, write_clip
from tests.conftest import REPOSITORY


def framewire(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, str, list[str]]:
    """Runs the command here; its exit status, standard output, and the lines of standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out, said.err.splitlines()


@contextmanager
def running(*arguments: str | Path, cwd: Path = REPOSITORY) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "scripts.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def clip_of(tmp_path: Path, n_frames: int) -> Path:
    """A lossless clip, smaller than anything that a model wants."""
    images: list[Image] = [painted(number % 256) for number in range(n_frames)]
    return write_clip(tmp_path / "clip.mkv", images, FFV1)


def test_help_lists_the_commands_and_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = framewire(capsys, "--help")
    assert status == 0
    assert all(command in out for command in ("run", "listen", "models"))
    status, out, _ = framewire(capsys, "run", "--help")
    assert status == 0
    names = Settings.model_fields.keys() - {"sources", "serve", "filters"}
    flags = [f"--{name.replace('_', '-')}" for name in names]
    assert "--serve" not in out
    assert all(flag in out for flag in ("--source", "--config", *flags))
    status, out, _ = framewire(capsys, "serve", "--help")
    assert status == 0
    of_serve = [f"--{name.replace('_', '-')}" for name in ServeSettings.model_fields]
    assert all(f"{flag} " in out or f"{flag} /" in out for flag in (*flags, *of_serve))
    assert not ServeSettings.model_fields.keys() & Settings.model_fields.keys()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run", "--sorce", "x"], 2, "bad_setting: No such option '--sorce'"),
        (["rn"], 2, "No such command 'rn'"),
        (["run"], 2, "bad_setting: no source given"),
        (["run", "--source", "0", "--min-score", "2"], 2, "bad_setting: min_score: input should"),
        (["run", "--source", "0", "--device", "gpu"], 2, "bad_setting: device"),
        (["run", "--source", "no/such.mp4"], 3, "source_not_found: no/such.mp4"),
        (["run", "--source", "no/*.jpg"], 3, "source_not_found: no/*.jpg"),
        (["run", "--source", "gopher://u:secret@h/1"], 2, "bad_setting: gopher://h/1"),
        (["run", "--source", "README.md", "--detector", "yolo"], 2, "unknown_model: detector"),
        (
            ["run", "--source", "README.md", "--classifier-weights", "none.pth"],
            3,
            "weights_unavailable: weights none.pth: No such file",
        ),
        (["run", "--source", "README.md", "--device", "cuda:99"], 3, "device_unavailable"),
        (["listen", "nowhere"], 2, "bad_setting"),
    ],
)
def test_what_cant_start_says_so_in_one_line_with_its_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(REPOSITORY)
    ended, _, lines = framewire(capsys, *arguments)
    assert ended == status
    assert said in lines[-1]
    assert lines[-1].startswith("framewire: ")
    assert not [line for line in lines if "Traceback" in line or "secret" in line]


def test_weights_that_cant_be_downloaded_stop_the_run_before_a_file_is_touched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    results = tmp_path / "results.jsonl"
    results.write_text("from the last run\n")
    status, _, lines = framewire(
        capsys, "run", "--source", clip_of(tmp_path, 3), "--jsonl", results,
        "--detector", "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    )  # fmt: skip
    assert status == 3
    assert lines[-1].startswith("framewire: weights_unavailable: ")
    assert "--detector-weights" in lines[-1]
    assert results.read_text() == "from the last run\n"


def test_a_run_writes_its_files_and_exits_0(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, printed, shown = framewire(
        capsys, "run", "--source", clip_of(tmp_path, 12), "--zmq", "none",
        "--jsonl", out / "r.jsonl", "--video", out / "a.mp4", "--summary", out / "s.json",
    )  # fmt: skip
    assert status == 0
    assert printed == ""
    assert "Every frame accounted for" in "".join(shown)
    lines = (out / "r.jsonl").read_text().splitlines()
    messages = [parse_message(line) for line in lines]
    assert [type(m) for m in messages] == [FrameResult] * 12 + [SourceEnd]
    assert (out / "a.mp4").stat().st_size > 0
    summary = json.loads((out / "s.json").read_text())
    assert summary["frames"] == 12
    assert summary["ledgers"]["clip"]["delivered"] == 12
    assert set(summary["stage_ms"]) == {
        "decode", "queue", "batch", "detect", "crop", "classify", "text", "assemble",
        "filter", "publish", "deliver",
    }  # fmt: skip


def test_a_run_with_a_counted_failure_exits_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    status, _, lines = framewire(
        capsys, "run", "--source", broken, "--source", clip_of(tmp_path, 3), "--zmq", "none"
    )
    assert status == 1
    assert lines[-1].startswith("framewire: not_a_video: ")


def long_run(tmp_path: Path) -> tuple[str | Path, ...]:
    """A run of 3,000 frames whose messages go to standard output."""
    return "run", "--source", clip_of(tmp_path, 3000), "--zmq", "none", "--jsonl", "/dev/stdout"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_was_read_and_exits_0(tmp_path: Path, number: int) -> None:
    with running(*long_run(tmp_path)) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert process.stderr is not None
        process.send_signal(number)
        rest, said = process.stdout.read(), process.stderr.read()
        assert process.wait(timeout=60) == 0, said
    messages = [parse_message(line) for line in [first, *rest.splitlines()]]
    end = messages[-1]
    assert isinstance(end, SourceEnd)
    assert end.code is None
    assert end.ledger.captured == end.ledger.delivered == len(messages) - 1 < 3000


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with running(*long_run(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert any("stopping" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == -signal.SIGINT


def test_models_shows_names_hashes_and_licences(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = framewire(capsys, "models")
    assert status == 0
    for shown in ("bundled:parts", "torchvision:convnext_tiny", "983f1562", "BSD-3-Clause"):
        assert shown in out


def test_help_comes_without_loading_torch() -> None:
    script = "import sys, scripts.cli; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False).returncode == 0
    )


def test_a_run_that_breaks_off_still_shows_and_writes_its_summary(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    summary = tmp_path / "s.json"
    status, _, lines = framewire(
        capsys, "run", "--source", clip_of(tmp_path, 12), "--zmq", "none",
        "--jsonl", "/dev/full", "--summary", summary,
    )  # fmt: skip
    assert status == 1
    assert lines[-1].startswith("framewire: disk_full: ")
    assert "Every frame accounted for" in "".join(lines)
    written = json.loads(summary.read_text())
    assert written["broken_off"]["code"] == "disk_full"
    assert written["ledgers"]["clip"]["in_flight"] == 0


def test_a_summary_that_cant_be_written_is_found_out_before_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = tmp_path / "r.jsonl"
    status, _, lines = framewire(
        capsys, "run", "--source", clip_of(tmp_path, 3), "--zmq", "none",
        "--jsonl", results, "--summary", "/proc/s.json",
    )  # fmt: skip
    assert status == 3
    assert lines[-1].startswith("framewire: output_unwritable: summary: ")
    assert not results.exists()


def test_no_frame_from_any_source_is_a_run_that_could_not_start(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, lines = framewire(capsys, "run", "--source", "77", "--zmq", "none")
    assert status == 3
    assert lines[-1].startswith("framewire: source_not_found: webcam 77")


def test_names_with_brackets_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = tmp_path / "a[" / "b].jsonl"
    status, _, lines = framewire(
        capsys, "run", "--source", clip_of(tmp_path, 3), "--zmq", "none", "--jsonl", results
    )
    assert status == 0
    assert any(str(results) in line for line in lines)


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_run_goes_on_when_nobody_reads_what_it_says(tmp_path: Path, reader: str) -> None:
    clip, results = clip_of(tmp_path, 40), tmp_path / "r.jsonl"
    command = f"{sys.executable} -m scripts.cli run --source {clip} --zmq none --jsonl {results}"
    script = f"set -o pipefail; {command} 2>&1 | {reader}"
    ended = subprocess.run(
        ["bash", "-c", script], cwd=REPOSITORY, capture_output=True, check=False, timeout=60
    )
    assert ended.returncode == 0
    assert len(results.read_text().splitlines()) == 41


def test_ctrl_c_while_subscribers_are_waited_for_ends_well(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/wire"
    with running(
        "run", "--source", clip_of(tmp_path, 3), "--zmq", endpoint, "--zmq-subscribers", "1"
    ) as process:
        assert process.stderr is not None
        assert any("publishing on" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=60) == 0, said


def test_the_trace_of_a_defect_shows_with_log_level_debug(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def divide() -> int:
        return 1 // 0

    set_up_logging("debug")
    assert guarded(divide) == 1
    said = capsys.readouterr().err
    assert "framewire: internal_error: ZeroDivisionError" in said
    assert "Traceback" in said
    set_up_logging("info")
    guarded(divide)
    assert "Traceback" not in capsys.readouterr().err


def test_alone_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = framewire(capsys)
    assert status == 2
    assert "Commands:" in out
    assert out.count("\n") > 10
