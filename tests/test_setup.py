"""scripts/setup.sh on a machine that has nothing yet. It may reach no package index here, so it
gets as far as the installation: everything before that is real."""

import os
import shutil
import subprocess
from pathlib import Path

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
