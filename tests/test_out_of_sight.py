"""No secret is seen from outside: not in the list of processes, a log line, a file or its name."""

import base64
import http.server
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from contracts.errors import InternalError
from scripts.cli import complain, guarded, main
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
    command: Sequence[str | bytes], cwd: Path = REPOSITORY, **variables: str
) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
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
        advice = "".join(
            itertools.takewhile(lambda line: "listening to" not in line, process.stderr)
        )
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


def seen_of_a_run(uri: str, host: str, folder: Path, **variables: str) -> str:
    """Whatever anybody can see of a run whose source fails: all of it, in one text."""
    outputs = {"jsonl": "results.jsonl", "summary": "summary.json", "video": "{source}.mp4"}
    flags = [text for name, file in outputs.items() for text in (f"--{name}", str(folder / file))]
    command = [*entry("module", folder), "run", "--source", uri, "--log-level", "debug"]
    seen: list[str] = []
    with started([*command, "--zmq", "none", *flags], cwd=folder, **variables) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            if host in line and not any(host in earlier for earlier in seen):
                seen.append(command_line(process))
                # A live source would be tried again for ever.
                process.send_signal(signal.SIGINT)
            seen.append(line)
        seen.append(process.stdout.read())
    files = [file for file in folder.rglob("*") if file.is_file()]
    written = [file.read_text(errors="replace") for file in files]
    return "\n".join([*seen, *written, *map(str, files)])


def test_a_whole_run_shows_no_secret_anywhere(tmp_path: Path) -> None:
    host = f"127.0.0.1:{closed_port()}"
    uri = f"rtsp://jo.e:p%40ss@{host}/x?token=abcSesame"
    seen = seen_of_a_run(uri, host, tmp_path)
    assert f"rtsp://{host}/x?token=***" in seen
    for secret in ("jo.e", "p%40ss", "p@ss", "abcSesame"):
        assert secret not in seen


class LockedHandler(http.server.BaseHTTPRequestHandler):
    """Wants a password, and then has nothing; keeps what it was told."""

    told: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        """Called for each request."""
        login = self.headers["Authorization"]
        self.told.append((self.path, login))
        self.send_response(404 if login else 401)
        self.send_header("WWW-Authenticate", 'Basic realm="door"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


@contextmanager
def locked_server() -> Iterator[str]:
    """Its host and port."""
    with http.server.HTTPServer(("127.0.0.1", 0), LockedHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_secrets_put_in_by_reference_reach_the_server_and_nobody_else(tmp_path: Path) -> None:
    token = tmp_path.parent / f"{tmp_path.name}-token"
    token.write_text("a&b=Sesame/1\n")
    login = {"CAM_USER": "jo.e@home", "CAM_PASSWORD": "p@ss: /?#[Hunter2]"}
    with locked_server() as host:
        uri = f"http://${{CAM_USER}}:${{CAM_PASSWORD}}@{host}/x?token=${{file:{token}}}"
        seen = seen_of_a_run(uri, host, tmp_path, **login)
    assert f"http://{host}/x?token=***" in seen
    path, basic = next(told for told in LockedHandler.told if told[1])
    assert basic == "Basic " + base64.b64encode(b"jo.e@home:p@ss: /?#[Hunter2]").decode()
    assert parse_qs(urlsplit(path).query) == {"token": ["a&b=Sesame/1"]}
    for secret in ("jo.e", "p@ss", "p%40ss", "Hunter2", "Sesame", basic):
        assert secret not in seen


@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_secret_that_is_not_there_is_named_before_anything_starts(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--source", "rtsp://bob:${NO_SUCH_SECRET}@host/door"])
    assert ended.value.code == 2
    said = "bad_setting: ${NO_SUCH_SECRET}: there is no such variable in the environment"
    assert capsys.readouterr().err.splitlines()[-1] == f"framewire: {said}"


def test_every_record_of_every_logger_is_redacted(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    set_up_logging("debug")
    for name in ("framewire.stream", "libav.tcp", "uvicorn.error"):
        # A service that another test started lets uvicorn tell errors only.
        caplog.set_level("DEBUG", logger=name)
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
