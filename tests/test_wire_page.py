"""docs/wire.md's examples, run against a publisher of which a message is lost on the way."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from contracts.messages import parse_message
from contracts.wire import VERSIONS, WIRE_VERSION, Header, Heartbeat
from tests.conftest import REPOSITORY
from tests.messages import frame_result
from tests.wire import heartbeat_parts, parts_of

PAGE = (REPOSITORY / "docs" / "wire.md").read_text(encoding="utf-8")
ENDPOINT = "tcp://127.0.0.1:5555"
NODE = shutil.which("node")
NODE_MODULES = REPOSITORY / "tests" / "node" / "node_modules"
SENT = [
    *(parts_of(frame_result(index), index) for index in (0, 1, 4)),
    heartbeat_parts({"frame/cam1/": 5}, 0),
]


def examples(language: str) -> list[str]:
    """The page's code blocks of that language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def printed_by(command: list[str], endpoint: str, last_topic: bytes, lines: int) -> list[str]:
    """The first lines that a subscriber prints, once it has subscribed to its last topic."""
    with (
        zmq.Context() as context,
        context.socket(zmq.XPUB) as publisher,
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as subscriber,
    ):
        publisher.setsockopt(zmq.RCVTIMEO, 30_000)
        publisher.bind(endpoint)
        try:
            while publisher.recv() != b"\x01" + last_topic:
                pass
            for parts in SENT:
                publisher.send_multipart(parts)
            assert subscriber.stdout
            return [subscriber.stdout.readline().strip() for _ in range(lines)]
        finally:
            subscriber.terminate()


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """One that nobody else has."""
    return f"ipc://{tmp_path}/out"


def test_example_with_framewires_client_prints_results_and_losses(endpoint: str) -> None:
    code = examples("python")[0].replace(ENDPOINT, endpoint)
    assert printed_by([sys.executable, "-uc", code], endpoint, b"heartbeat/", 5) == [
        "cam1 0 2", "cam1 1 2", "frame/cam1/ range(2, 4)", "cam1 4 2", "frame/cam1/ range(5, 6)",
    ]  # fmt: skip


def test_example_in_plain_python_prints_results_and_losses(endpoint: str) -> None:
    code = examples("python")[1].replace(ENDPOINT, endpoint)
    assert "contracts" not in code
    assert "sinks" not in code
    assert printed_by([sys.executable, "-uc", code], endpoint, b"frame/", 4) == [
        "cam1 0 2", "cam1 1 2", "frame/cam1/ lost 2", "cam1 4 2",
    ]  # fmt: skip


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.skipif(not NODE_MODULES.exists(), reason="run `npm install --prefix tests/node`")
def test_example_in_javascript_prints_results_and_losses(endpoint: str, tmp_path: Path) -> None:
    [code] = examples("javascript")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    script = tmp_path / "example.mjs"
    script.write_text(code.replace(ENDPOINT, endpoint), encoding="utf-8")
    assert printed_by([str(NODE), str(script)], endpoint, b"heartbeat/", 5) == [
        "cam1 0 2", "cam1 1 2", "frame/cam1/ lost 2", "cam1 4 2", "frame/cam1/ lost 1",
    ]  # fmt: skip


def test_every_header_key_and_every_kind_is_in_the_tables() -> None:
    keys = set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE))
    assert keys >= set(Header.model_fields)
    assert set(re.findall(r"`(framewire\.\w+)` \| \[", PAGE)) == set(VERSIONS)
    assert f"version **{WIRE_VERSION}**" in PAGE


def test_the_heartbeat_shown_is_one() -> None:
    [shown] = re.findall(r'^    (\{"schema_name".*)$', PAGE, re.MULTILINE)
    assert Heartbeat.model_validate_json(shown).latest["frame/cam1/"] == 411


def test_every_file_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE)
    assert len(links) > 7
    assert not [link for link in links if not (REPOSITORY / "docs" / link).exists()]


def test_a_payload_is_the_line_that_is_written_to_files() -> None:
    assert parse_message(SENT[0][2]) == frame_result(0)
