"""One configuration out of a YAML file, the environment and the command line."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from contracts.errors import BadSetting
from contracts.filters import BlockSettings, BlurSettings, RedactSettings, WholeImageSettings
from contracts.serve import ServeSettings
from contracts.settings import Settings, SourceSettings
from contracts.uris import breaks_off, without_credentials

ENVIRONMENT_PREFIX = "FRAMEWIRE_"
SERVE_PREFIX = "serve_"


def load_settings(
    flags: Mapping[str, Any],
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    needs_source: bool = True,
) -> Settings:
    """The command line over the environment over the file. Raises BadSetting, in one line."""
    layers = (_read_file(file) if file else {}, _read_environment(environment), flags)
    raw = {key: value for layer in layers for key, value in layer.items()}
    serve = [layer["serve"] for layer in layers if layer.get("serve")]
    if serve and all(isinstance(each, dict) for each in serve):
        raw["serve"] = {key: value for each in serve for key, value in each.items()}
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise BadSetting("; ".join(_explain(fault) for fault in error.errors())) from error
    if needs_source and not settings.sources:
        raise BadSetting("no source given: name one with --source, or in `sources:`")
    return settings


_MODELS: Mapping[str, type[BaseModel]] = {"sources": SourceSettings, "serve": ServeSettings}
"""What the keys inside of these are."""

_FILTERS: Mapping[str, type[BaseModel]] = {
    "block": BlockSettings,
    "redact": RedactSettings,
    "blur": BlurSettings,
    "whole_image": WholeImageSettings,
}
"""And inside of `filters`, by kind."""


def _read_file(file: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"config {file}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        # Not the lines that the error shows: there may be half of a password in them.
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise BadSetting(f"config {file}: not YAML: {line}{error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSetting(f"config {file}: not YAML: {error}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise BadSetting(f"config {file}: expected keys and values, such as `min_score: 0.4`")
    return raw


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """FRAMEWIRE_MIN_SCORE is min_score; FRAMEWIRE_SOURCES takes several, separated by commas.

    FRAMEWIRE_SERVE_PORT is `port` of `serve`.
    """
    ours = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    of_serve = {SERVE_PREFIX + key for key in ServeSettings.model_fields}
    known = (Settings.model_fields.keys() - {"serve", "filters"}) | of_serve
    for key in ours.keys() - known:
        name = ENVIRONMENT_PREFIX + key.upper()
        raise BadSetting(f"{name}: unknown setting{_choices(key, known)}")
    read: dict[str, Any] = {
        key: _split(value) if key == "sources" else value
        for key, value in ours.items()
        if key not in of_serve
    }
    serve = {key.removeprefix(SERVE_PREFIX): ours[key] for key in of_serve & ours.keys()}
    return {**read, "serve": serve} if serve else read


def _split(sources: str) -> list[str]:
    """At the commas, but not at one in a password."""
    split: list[str] = []
    for part in sources.split(","):
        if split and breaks_off(split[-1]):
            split[-1] += f",{part}"
        else:
            split.append(part)
    return split


def _explain(fault: ErrorDetails) -> str:
    """`min_score: expected …, got …`, and what there is to choose from where it is a wrong name."""
    where = ".".join(str(part) for part in fault["loc"])
    key = str(fault["loc"][-1]) if fault["loc"] else ""
    match fault["type"]:
        case "extra_forbidden":
            known = _model_at(fault["loc"])
            return f"{where}: unknown key{_choices(key, known.model_fields)}"
        case "value_error":
            return fault["msg"].removeprefix("Value error, ")
    got = fault["input"]
    if isinstance(got, str):
        got = without_credentials(got)
    # Never a whole list or dictionary, nor an option of FFmpeg's: it may be or carry a password.
    may_show = isinstance(got, str | int | float) and "ffmpeg_options" not in fault["loc"]
    shown = f", got {got!r}" if may_show else ""
    return f"{where}: {fault['msg'][0].lower()}{fault['msg'][1:]}{shown}"


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    """`loc` of a key, such as ("filters", 0, "blur", "clases")."""
    if loc[0] == "filters":
        return _FILTERS[str(loc[2])]
    return _MODELS.get(str(loc[0]), Settings)


def _choices(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {close[0]}" if close else ""
    return f"{hint}; there are {', '.join(known)}"
