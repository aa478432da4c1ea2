"""scripts/setup.sh on a machine that has nothing yet. It may reach no package index here, so it
gets as far as the installation: everything before that is real. apt-get is a stand-in, as the real
one would change the machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

needs_system_python = pytest.mark.skipif(
    not Path("/usr/bin/python3").exists(), reason="no /usr/bin/python3"
)
SETUP = Path(__file__).parent.parent / "scripts" / "setup.sh"


def set_up(project: Path) -> subprocess.CompletedProcess[str]:
    (project / "scripts").mkdir(exist_ok=True)
    shutil.copy(SETUP, project / "scripts")
    (project / "pyproject.toml").write_text('[project]\nname = "wanting"\nversion = "1"\n')
    return subprocess.run(
        ["bash", "-c", "set -euo pipefail; source scripts/setup.sh"],
        cwd=project,
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_fresh_folder_gets_an_environment_and_a_failed_installation_is_said(
    tmp_path: Path,
) -> None:
    done = set_up(tmp_path)
    assert (tmp_path / ".venv" / "bin" / "python").exists()
    assert "framewire: the installation failed" in done.stderr
    assert done.returncode == 3


def test_an_environment_of_ours_is_made_anew_and_another_is_added_to(tmp_path: Path) -> None:
    mine = tmp_path / ".venv"
    mine.mkdir()
    (mine / "precious").touch()
    set_up(tmp_path)
    assert (mine / "precious").exists()
    (mine / "framewire-stamp").write_text("of an older pyproject.toml")
    set_up(tmp_path)
    assert (mine / "bin" / "python").exists()
    assert not (mine / "precious").exists()


def provide_camera(project: Path, server: str, apt_get: str, user_id: int) -> list[str]:
    """What scripts/test says before the tests, where an environment is there already."""
    for folder in ("scripts", "tests", "bin", ".venv"):
        (project / folder).mkdir()
    shutil.copy(SETUP, project / "scripts")
    (project / "tests" / "rtsp_server.py").write_text(server)
    (project / "tests" / "apt.txt").write_text("one\ntwo\n")
    for name, lines in {"apt-get": apt_get, "id": f"echo {user_id}"}.items():
        (project / "bin" / name).write_text(f"#!/bin/sh\n{lines}\n")
        (project / "bin" / name).chmod(0o755)
    (project / "pyproject.toml").touch()
    stamped = '{ cat pyproject.toml; "$PYTHON" -VV; } | cksum > .venv/framewire-stamp'
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; {stamped}; source scripts/setup.sh; provide_camera"],
        cwd=project,
        env=os.environ | {"PYTHON": sys.executable, "PATH": f"{project}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


WANTING = "raise SystemExit(not __import__('pathlib').Path('installed').exists())"
SKIPPED = "framewire: tests with live cameras are skipped; they need: apt-get install one two"
INSTALLING = "Installing what the tests' RTSP server needs (once): apt-get install one two"


@needs_system_python
def test_root_has_the_system_packages_of_the_cameras_installed(tmp_path: Path) -> None:
    said = provide_camera(tmp_path, WANTING, 'echo "$@" >> installed', user_id=0)
    assert said == [INSTALLING]
    assert (tmp_path / "installed").read_text().splitlines() == [
        "update",
        "install -y --no-install-recommends one two",
    ]


def test_where_the_packages_cannot_be_had_that_is_said_and_the_tests_go_on(tmp_path: Path) -> None:
    said = provide_camera(tmp_path, WANTING, "echo no network; exit 100", user_id=0)
    assert said == [INSTALLING, "no network", "no network", SKIPPED]


def test_nobody_but_root_installs_packages(tmp_path: Path) -> None:
    assert provide_camera(tmp_path, WANTING, "touch installed", user_id=1000) == [SKIPPED]
    assert not (tmp_path / "installed").exists()


@needs_system_python
def test_nothing_is_installed_where_the_cameras_run(tmp_path: Path) -> None:
    assert provide_camera(tmp_path, "", "touch installed", user_id=0) == []
    assert not (tmp_path / "installed").exists()
