"""Cameras that behave and cameras that don't: a real RTSP server in a process of its own, a port
that never answers and one that refuses. `tests.lossy_proxy` spoils the line in between.
"""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import number_in
from tests.mount import Mount

REPOSITORY = Path(__file__).parents[1]
SERVER = ("/usr/bin/python3", "-m", "tests.rtsp_server")
MAX_RETRY_S = 0.5
"""Of a `camera`, unless it says otherwise."""


def camera_number(image_hwc: NDArray[np.uint8]) -> int:
    """The number, 0 to 65535, that the camera painted into this frame."""
    return number_in(image_hwc) + 256 * number_in(image_hwc[::-1])


def camera(url: str, name: str = "cam", **settings: Any) -> dict[str, Any]:
    """Settings of a source whose time-outs and waits are short enough for a test."""
    short = {
        "open_timeout_s": 3,
        "stall_timeout_s": 3,
        "first_retry_s": 0.1,
        "max_retry_s": MAX_RETRY_S,
    }
    return {"uri": url, "id": name, **short, **settings}


@functools.cache
def server_lacks() -> str | None:
    """What this machine lacks to run the server, and the remedy; None where nothing."""
    if not Path(SERVER[0]).exists():
        return f"no RTSP server: no {SERVER[0]}"
    done = subprocess.run(
        [*SERVER, "--check"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    said = done.stderr.strip().rpartition("\n")[-1]
    packages = (REPOSITORY / "tests" / "apt.txt").read_text(encoding="utf-8").split()
    return f"no RTSP server: {said}; on Debian and Ubuntu: apt-get install {' '.join(packages)}"


@dataclasses.dataclass(frozen=True)
class Login:
    """What the server demands of everybody who wants to watch."""

    user: str
    password: str
    method: Literal["digest", "basic"] = "digest"


class RtspServer:
    """Cameras on 127.0.0.1 while the context lasts; skips the test where the server can't run."""

    def __init__(self, *mounts: Mount, login: Login | None = None) -> None:
        self._mounts = [dataclasses.asdict(mount) for mount in mounts]
        self._login = dataclasses.asdict(login) if login else None
        self.port = 0

    def __enter__(self) -> Self:
        lack = server_lacks()
        if lack:
            pytest.skip(lack)
        self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()

    def url(
        self, path: str, user: str | None = None, password: str = "", port: int | None = None
    ) -> str:
        """Where a client finds the camera; `port` is that of a proxy."""
        login = "" if user is None else f"{quote(user, safe='')}:{quote(password, safe='')}@"
        return f"rtsp://{login}127.0.0.1:{port or self.port}/{path}"

    def kill(self) -> None:
        """The process is gone, without a word to its clients; also when it was frozen."""
        with self.process:  # Closes its pipes and waits.
            self.process.kill()

    def restart(self) -> None:
        """A new process serves the same cameras at the same port, from frame 0."""
        self.kill()
        self._start()

    def freeze(self) -> None:
        """The process stands still; the kernel keeps its connections open."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """It runs on, and sends what it has missed in a burst."""
        self.process.send_signal(signal.SIGCONT)

    def _start(self) -> None:
        asked = {"port": self.port, "login": self._login, "mounts": self._mounts}
        self.process = subprocess.Popen(
            [*SERVER, json.dumps(asked)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,  # The server ends when this is closed, however we end.
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        if not ready:
            self.kill()
            raise RuntimeError(f"the RTSP server ended with {self.process.returncode}")
        self.port = json.loads(ready)["port"]


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port of 127.0.0.1 that accepts every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]  # Nobody calls accept: the kernel says hello, and no more.


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses every connection, and that nobody else can take."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
