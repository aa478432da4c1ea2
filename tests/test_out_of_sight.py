"""No secret is seen from outside: not in the list of processes, a log line, a file or its name."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from contracts.errors import InternalError
from scripts.cli import complain, guarded
from scripts.console import set_up_logging
from tests.conftest import REPOSITORY

CAMERA = "rtsp://bob:Hunter2@host/door"
ECHO = """
import json, os, sys
from pathlib import Path
from scripts.arguments import arguments_out_of_sight
given = arguments_out_of_sight()
seen = Path("/proc/self/cmdline").read_bytes().decode(errors="replace")
kept = [name for name in os.environ if name.startswith("FRAMEWIRE_")]
print(json.dumps([os.getpid(), given, seen, kept]))
"""


def entry(name: str, tmp_path: Path) -> list[str]:
    """How the command is started: as a module, or by the script that pip installs."""
    if name == "module":
        return [sys.executable, "-m", "scripts.cli"]
    script = tmp_path / "framewire"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom scripts.cli import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    return [str(script)]


@contextmanager
def started(
    command: Sequence[str | bytes], cwd: Path = REPOSITORY
) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def command_line(process: "subprocess.Popen[str]") -> str:
    """What every user sees of it in `ps`."""
    return Path(f"/proc/{process.pid}/cmdline").read_text(errors="replace").replace("\0", " ")


@pytest.mark.parametrize("name", ["module", "script"])
def test_a_secret_is_not_in_the_list_of_processes(name: str, tmp_path: Path) -> None:
    command = [*entry(name, tmp_path), "listen", "tcp://127.0.0.1:9", f"--topic={CAMERA}"]
    with started(command) as process:
        assert process.stderr is not None
        advice = process.stderr.readline()
        assert "listening to" in process.stderr.readline()
        seen = command_line(process)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate()
    assert "listen tcp://127.0.0.1:9 ${FRAMEWIRE_SECRET_3}" in seen
    assert "Hunter2" not in seen + advice + out + said
    assert "WARNING a secret on the command line" in advice
    assert process.returncode == 0


def test_a_command_without_a_secret_is_started_once(tmp_path: Path) -> None:
    with started([*entry("module", tmp_path), "run", "--sorce", "rtsp://b:${PW}@h"]) as process:
        _, said = process.communicate()
    assert "secret" not in said
    assert "framewire: " in said
    assert process.returncode == 2


def test_arguments_arrive_as_they_were_given_in_the_same_process() -> None:
    given: list[str | bytes] = [
        "run", CAMERA, "", "--source=user:Hunter2@host/a b\nc", "$${X}", "${FRAMEWIRE_SECRET_2}",
        b"http://h/\xff?token=Hunter2", "-x",
    ]  # fmt: skip
    with started([sys.executable, "-X", "utf8", "-c", ECHO, *given]) as process:
        out, _ = process.communicate()
    pid, arrived, seen, kept = json.loads(out)
    assert pid == process.pid
    assert [os.fsencode(argument) for argument in arrived] == [os.fsencode(one) for one in given]
    assert "Hunter2" not in seen
    assert "-X\0utf8\0-c" in seen
    assert kept == []


def closed_port() -> int:
    """A port of the loopback interface where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_whole_run_shows_no_secret_anywhere(tmp_path: Path) -> None:
    host = f"127.0.0.1:{closed_port()}"
    uri = f"rtsp://jo.e:p%40ss@{host}/x?token=abcSesame"
    outputs = {"jsonl": "results.jsonl", "summary": "summary.json", "video": "{source}.mp4"}
    flags = [text for name, file in outputs.items() for text in (f"--{name}", str(tmp_path / file))]
    command = [*entry("module", tmp_path), "run", "--source", uri, "--log-level", "debug"]
    said, seen = "", ""
    with started([*command, "--zmq", "none", *flags], cwd=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if f"rtsp://{host}/x" in line and not seen:
                seen = command_line(process)
                # A live source would be tried again for ever.
                process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said += process.stdout.read()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    written = "".join(file.read_text(errors="replace") for file in files)
    everything = "\n".join([said, seen, written, *map(str, files)])
    assert f"rtsp://{host}/x" in said
    for secret in ("jo.e", "p%40ss", "p@ss", "abcSesame"):
        assert secret not in everything


def test_every_record_of_every_logger_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("debug")
    for name in ("framewire.stream", "libav.tcp", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.warning("%s: no answer from %s", name, CAMERA)
        try:
            raise ConnectionRefusedError(111, "Connection refused", CAMERA)
        except OSError:
            logger.exception("lost")
    said = capsys.readouterr().err
    assert said.count("no answer from rtsp://host/door") == 3
    assert said.count("Connection refused: 'rtsp://host/door'") == 3
    assert "Traceback" in said
    assert "Hunter2" not in said


def test_logging_set_up_twice_prints_each_record_once(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info")
    set_up_logging("info")
    logging.getLogger("framewire").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_a_defect_is_told_without_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise KeyError(CAMERA)

    set_up_logging("debug")
    guarded(fail)
    complain(InternalError(f"not whole: {CAMERA}"))
    said = capsys.readouterr().err
    assert said.count("rtsp://host/door") >= 3
    assert "Hunter2" not in said
