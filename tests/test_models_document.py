"""docs/models.md: its commands are ones that parse, and its tables are what they print."""

import importlib
import re
import shlex

import click
import pytest

from scripts.compare_models import CASES
from scripts.measure_tracking import Tally, table_of
from scripts.verify import columns
from tests.conftest import REPOSITORY, SHARED

DOCUMENT = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", DOCUMENT, re.DOTALL)
    for line in block.splitlines()
]
TABLES = [
    [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    for table in re.findall(r"(?:^\|.*\|\n)+", DOCUMENT, re.MULTILINE)
]


def table_with(head: str) -> list[list[list[str]]]:
    return [table for table in TABLES if head in table[0]]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_one_that_its_module_takes(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert words[:2] == ["python", "-m"]
    command = importlib.import_module(words[2]).main
    if "--images" in words and not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository")
    monkeypatch.chdir(REPOSITORY)
    assert isinstance(command.make_context(words[2], words[3:]), click.Context)


def test_the_first_table_has_every_model_and_what_agrees() -> None:
    [[head, _, *rows]] = table_with("computed by")
    assert head == ["model", *(str(column.header) for column in columns())]
    named = [row[0] for row in rows if row[0]]
    assert len(named) == len(CASES)
    for case, title in zip(CASES, named, strict=True):
        assert title.startswith(f"{case.role} {case.name}")
    references = [row for row in rows if row[-1] == "reference"]
    assert [row[0] for row in references] == named
    float32 = [row for row in rows if row[1].endswith("float32") and row not in references]
    assert {row[-1] for row in float32} == {"agrees"}


def test_the_tables_of_tracking_have_the_lines_that_the_command_prints() -> None:
    expected = [
        str(cell) for cell in table_of(Tally(frames=1, fresh_s=1, tracked_s=1)).columns[0].cells
    ]
    tables = table_with("carried along tracks")
    assert len(tables) == 2
    for _, _, *rows in tables:
        assert [row[0] for row in rows] == expected


def test_every_link_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", DOCUMENT)
    assert not [link for link in links if not (REPOSITORY / "docs" / link).exists()]
