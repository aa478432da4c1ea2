"""What README says is so: its commands run, its output is real, its tables are complete."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from contracts.errors import leaves
from contracts.messages import FrameResult, parse_message
from scripts.cli import commands, main
from scripts.wiring import Run
from tests.conftest import REPOSITORY
from tests.test_run import make_run

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def command_lines() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


FRAMEWIRE = [line[1:] for line in command_lines() if line[0] == "framewire"]


def test_every_link_and_file_named_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 15
    assert not [link for link in links if not (REPOSITORY / link).exists()]


def test_every_code_is_in_the_table_with_its_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", README, re.MULTILINE)
    expected = [(leaf.code, (leaf.__doc__ or "").splitlines()[0]) for leaf in leaves()]
    assert rows == expected


def test_the_message_shown_is_one() -> None:
    [shown] = blocks("json")
    message = parse_message(shown)
    assert isinstance(message, FrameResult)
    assert message.detections
    assert message.classifications


def test_commands_that_are_scripts_and_modules_exist() -> None:
    for line in command_lines():
        if line[0].startswith("scripts/"):
            assert (REPOSITORY / line[0]).stat().st_mode & 0o111
        elif line[:2] == ["python", "-m"]:
            assert (REPOSITORY / (line[2].replace(".", "/") + ".py")).exists()
        else:
            assert line[0] == "framewire"


@pytest.mark.parametrize("arguments", FRAMEWIRE, ids=" ".join)
def test_every_framewire_command_is_one_that_the_parser_takes(arguments: list[str]) -> None:
    command = commands.commands[arguments[0]]
    context = command.make_context(arguments[0], list(arguments[1:]))
    assert isinstance(context, click.Context)


def test_the_first_run_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = next(line for line in FRAMEWIRE if line[0] == "run")
    clip = Path(arguments[arguments.index("--source") + 1])
    (tmp_path / clip.parent).mkdir(parents=True)
    shutil.copy(REPOSITORY / clip, tmp_path / clip)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--max-frames", "24", "--zmq", "none"])
    assert ended.value.code == 0
    written = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len(written) == 25
    assert (tmp_path / "out" / "annotated.mp4").exists()


def test_the_subscriber_of_ten_lines_prints_what_is_published(tmp_path: Path) -> None:
    [code] = blocks("python")
    assert len(code.strip().splitlines()) <= 11
    assert "contracts" not in code
    endpoint = f"ipc://{tmp_path}/wire"
    script = code.replace("tcp://127.0.0.1:5555", endpoint)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as subscriber:
        from tests.clips import FFV1, write_clip

        clip = write_clip(tmp_path / "clip.mkv", 5, FFV1)
        run: Run = make_run(tmp_path, str(clip), zmq=endpoint, zmq_subscribers=1)
        thread = threading.Thread(target=run.execute)
        thread.start()
        assert subscriber.stdout is not None
        lines = [subscriber.stdout.readline().split() for _ in range(5)]
        thread.join(60)
        subscriber.terminate()
    assert lines == [["clip", str(index), "1"] for index in range(5)]


def test_the_summary_of_the_demo_shown_is_of_the_clip_in_the_repository() -> None:
    shown = next(block for block in blocks("text") if "Every frame accounted for" in block)
    truth = json.loads((REPOSITORY / "scripts/demo_clip/conveyor.truth.json").read_text())
    assert re.search(rf"│ conveyor │ +{len(truth['frames'])} │", shown)
