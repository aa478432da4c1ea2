"""`framewire check` as a person and a program meet it: exit statuses, lines, JSON, curl."""

import json
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response

from scripts.cli import main
from scripts.review.findings import RULES, Level
from tests import service_mistakes as does
from tests.broken_services import Bug, Service, app_of, serving
from tests.conftest import REPOSITORY
from tests.test_arrows import loaded_after

SERVICE = Service()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(app_of(SERVICE)) as address:
        yield address


def framewire(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out, said.err


def test_no_bug_is_exit_status_0_and_one_line(
    url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    SERVICE.begin(Bug())
    status, out, _ = framewire(capsys, "check", url, "--out", tmp_path / "out")
    assert (status, out.splitlines()[-1]) == (0, "no bug found")
    assert not (tmp_path / "out").exists()


def test_the_first_bug_comes_first_with_a_line_that_shows_it_again(
    url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    SERVICE.begin(Bug(box=does.with_size, healthy=404))
    status, out, _ = framewire(capsys, "check", url, "--out", tmp_path)
    lines = out.splitlines()
    assert status == 1
    assert lines[1] == "first bug: Boxes are (x, y, width, height), not two corners."
    assert lines[2].startswith("box_is_xywh  first.png: boxes such as (62, 52, 176, 176)")
    curl = shlex.split(lines[3])
    assert curl[:-2] == ["curl", "-sS", "-i", "-F"]
    assert curl[-2] == f"file=@{tmp_path}/first.png;type=image/png"
    assert curl[-1] == f"{url}/detect"
    assert "health_missing" in out
    if shutil.which("curl"):
        answered = subprocess.run(curl, capture_output=True, text=True, check=True).stdout
        assert '"box": [62.0, 52.0, 176.0, 176.0]' in answered


def test_the_same_is_told_to_programs(
    url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    SERVICE.begin(Bug(opened=does.half_seen))
    status, out, _ = framewire(capsys, "check", url, "--json", "--out", tmp_path)
    told = json.loads(out)
    assert status == 1
    assert told["contract"] == "framewire"
    assert told["requests"] == len(SERVICE.requests)
    assert told["first_bug"] == told["findings"][0]
    assert told["first_bug"]["code"] == "bad_upload_accepted"
    assert told["first_bug"]["detail"].startswith("half a JPEG: 200 ")
    assert told["first_bug"]["also_seen"] == 2


def test_nobody_there_is_exit_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        status, _, err = framewire(capsys, "check", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert status == 3
    assert err.startswith("framewire: service_unreachable: http://127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["localhost:8000"], "bad_setting: localhost:8000: not the URL of a service"),
        (["http://localhost:99999"], "bad_setting"),
        (["http://localhost", "--header", "X-Api-Key"], "bad_setting: header 'X-Api-Key'"),
        (["http://localhost", "--header", "A: ${NO_SUCH}"], "bad_setting: ${NO_SUCH}"),
        (["http://localhost", "--box-format", "ltrb"], "bad_setting: box_format: 'ltrb'"),
    ],
)
def test_what_is_asked_wrongly_is_exit_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    status, _, err = framewire(capsys, "check", *arguments)
    assert status == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_picture_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    file = REPOSITORY / "README.md"
    status, _, err = framewire(capsys, "check", "http://localhost", "--image", file)
    assert status == 1
    assert err.startswith(f"framewire: not_an_image: {file}")


def test_a_key_is_sent_and_never_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, sent = FastAPI(openapi_url=None), []

    @app.post("/detect")
    async def refuse(request: Request) -> Response:
        sent.append(request.headers["x-api-key"])
        return Response('{"code": "no"}', 401, media_type="application/json")

    monkeypatch.setenv("LAB_KEY", "opensesame")
    with serving(app) as address:
        header = ("--header", "X-Api-Key: ${LAB_KEY}")
        status, out, err = framewire(capsys, "check", address, *header, "--out", tmp_path)
    assert status == 1
    assert sent == ["opensesame"]
    assert '-H "X-Api-Key: ${LAB_KEY}"' in out
    assert "opensesame" not in out + err


def test_asking_needs_neither_torch_nor_codecs() -> None:
    loaded = loaded_after("import scripts.check_service")
    assert {"httpx", "PIL"} <= loaded
    assert not loaded & {"torch", "torchvision", "cv2", "av", "zmq", "fastapi"}


def test_the_prompt_for_readers_of_code_has_every_rule_in_its_order() -> None:
    text = (REPOSITORY / "docs/prompt-vision-service-shape-reviewer.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", text, re.MULTILINE)
    assert rows == [code for code, rule in RULES.items() if rule.level != Level.UNTOLD]
    untold = [code for code, rule in RULES.items() if rule.level == Level.UNTOLD]
    assert not [code for code in untold if f"`{code}`" not in text]
