"""The tree of errors is the one that is drawn, and its codes can be relied on."""

import re

import pytest

import contracts.errors
from contracts.errors import FramewireError, SourceNotFound, leaves

LEAVES = leaves()


def drawn() -> list[tuple[str, str]]:
    """(class, code) of each line of the drawing that has a code."""
    text = contracts.errors.__doc__ or ""
    return re.findall(r"[├└]── (\w+) +([a-z0-9_]+)(?:  |$)", text, re.MULTILINE)


def test_every_leaf_is_drawn_with_its_code_and_nothing_else_is() -> None:
    assert drawn() == [(leaf.__name__, leaf.code) for leaf in LEAVES]


def test_codes_are_unique() -> None:
    codes = [leaf.code for leaf in LEAVES]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_code_is_the_name_in_snake_case(leaf: type[FramewireError]) -> None:
    assert leaf.code == re.sub(r"(?<!^)(?=[A-Z])", "_", leaf.__name__).lower()


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_exit_status_says_how_far_the_run_came(leaf: type[FramewireError]) -> None:
    assert leaf.exit_status in (1, 2, 3, 70)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_leaf_has_its_own_code_and_docstring(leaf: type[FramewireError]) -> None:
    assert "code" in vars(leaf)
    assert leaf.__doc__


def test_text_is_one_line_whatever_a_library_put_into_it() -> None:
    assert str(FramewireError("clip.mp4:\n  bad\tdata \n")) == "clip.mp4: bad data"


def test_text_is_valid_unicode_whatever_a_files_name_put_into_it() -> None:
    error = SourceNotFound("clip-\udcff.mp4: no such file")
    assert str(error).encode("utf-8") == b"clip-\\udcff.mp4: no such file"
