"""One setting, one name: file, environment and command line; every mistake is one line."""

from pathlib import Path

import pytest

from contracts.errors import BadSetting
from contracts.settings import Settings
from scripts.configure import load_settings
from tests.conftest import REPOSITORY

PRESETS = sorted((REPOSITORY / "configs").glob("*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_every_preset_loads(preset: Path) -> None:
    assert load_settings({}, preset, {}).sources


def test_there_are_presets() -> None:
    assert {path.stem for path in PRESETS} >= {"demo", "files", "webcam"}


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "sources: [a.mp4]\nmin_score: 0.1\nmax_batch: 3\nmin_crop_px: 20\n")
    environment = {"FRAMEWIRE_MIN_SCORE": "0.2", "FRAMEWIRE_MAX_BATCH": "4", "HOME": "/"}
    settings = load_settings({"min_score": "0.3"}, file, environment)
    assert (settings.min_score, settings.max_batch, settings.min_crop_px) == (0.3, 4, 20)


def test_the_environment_names_several_sources_with_commas() -> None:
    settings = load_settings({}, None, {"FRAMEWIRE_SOURCES": "a.mp4,0"})
    assert [source.id for source in settings.sources] == ["a", "webcam0"]


def test_defaults_need_only_a_source() -> None:
    settings = load_settings({"sources": ("a.mp4",)}, None, {})
    assert settings == Settings.model_validate({"sources": ["a.mp4"]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("detectr: x", "detectr: unknown key, did you mean detector; there are classifier, "),
        ("sources: [{uri: a.mp4, quee_depth: 3}]", "did you mean queue_depth"),
        ("sources: [a.mp4]\nmin_score: 2", "min_score: input should be less than or equal to 1"),
        ("sources: [a.mp4]\ndevice: gpu", "device: expected auto, cpu, cuda or cuda:N"),
        ("sources: [a.mp4]\nmax_batch: many", "max_batch: input should be a valid integer"),
        ("sources: []", "sources"),
        ("min_score: 0.5", "no source given"),
        ("sources: [{uri: a.mp4, id: x}, {uri: b.mp4, id: x}]", "same id"),
        ("sources: [a.mp4, b.mp4]\nvideo: out.mp4", "{source}"),
        ("just text", "expected keys and values"),
        ("sources: [a.mp4", "not YAML"),
        ("", "no source given"),
        ("sources: [a.mp4]\nmax_queue_megabytes: .inf", "max_queue_megabytes: input should be"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({}, written(tmp_path, text), {})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"none\.yaml: No such file"):
        load_settings({}, tmp_path / "none.yaml", {})


def test_an_unknown_variable_of_ours_in_the_environment_is_refused() -> None:
    with pytest.raises(BadSetting, match="FRAMEWIRE_MIN_SCOR: unknown setting, did you mean min_s"):
        load_settings({"sources": ("a.mp4",)}, None, {"FRAMEWIRE_MIN_SCOR": "0.2"})


def test_a_service_needs_no_source(tmp_path: Path) -> None:
    settings = load_settings({}, written(tmp_path, "serve: {port: 9000}"), {}, needs_source=False)
    assert settings.sources == ()
    assert settings.serve.port == 9000


def test_settings_of_the_service_come_from_all_three_places_one_by_one(tmp_path: Path) -> None:
    file = written(tmp_path, "sources: [a.mp4]\nserve: {port: 1, max_files: 1, timeout_ms: 1}")
    environment = {"FRAMEWIRE_SERVE_MAX_FILES": "2", "FRAMEWIRE_SERVE_TIMEOUT_MS": "2"}
    serve = load_settings({"serve": {"timeout_ms": "3"}}, file, environment).serve
    assert (serve.port, serve.max_files, serve.timeout_ms) == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("serve: {prt: 1}", {}, "serve.prt: unknown key, did you mean port"),
        ("serve: {port: x}", {}, "serve.port: input should be a valid integer"),
        ("serve: 8000", {}, "serve: input should be a valid dictionary"),
        ("", {"FRAMEWIRE_SERVE_PRT": "1"}, "FRAMEWIRE_SERVE_PRT: unknown setting, did you mean"),
        ("", {"FRAMEWIRE_SERVE": "1"}, "FRAMEWIRE_SERVE: unknown setting"),
        ("serve: {host: 0.0.0.0}", {}, "host: other machines reach 0.0.0.0: give api_keys, or"),
        ("serve: {host: vision.example}", {}, "host: other machines reach vision.example"),
        ("serve: {open: true, api_keys: keys}", {}, "open: says that no keys are needed"),
        ("serve: {tls_key: k.pem}", {}, "one is of no use without the other"),
        ("serve: {timeout_ms: 70000}", {}, "timeout_ms: 70000 is above max_timeout_ms 60000"),
        ("serve: {max_upload_megabytes: 200}", {}, "max_upload_megabytes: 200 is above"),
        ("serve: {max_memory_megabytes: 50}", {}, "max_request_megabytes: 100 is above"),
        ("serve: {allowed_origins: ['*']}", {}, "serve.allowed_origins.0: string should match"),
    ],
)
def test_a_mistake_in_the_service_is_one_line_that_names_it(
    tmp_path: Path, text: str, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({}, written(tmp_path, text), environment, needs_source=False)
    assert said in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_a_service_that_only_this_machine_reaches_needs_no_keys(host: str) -> None:
    flags = {"serve": {"host": host}}
    assert load_settings(flags, None, {}, needs_source=False).serve.local


def test_a_service_may_be_open_to_all_or_to_those_with_keys() -> None:
    for given in ({"open": True}, {"api_keys": "keys"}):
        flags = {"serve": {"host": "0.0.0.0", **given}}  # noqa: S104
        assert not load_settings(flags, None, {}, needs_source=False).serve.local


def test_a_mistake_in_a_source_shows_no_password(tmp_path: Path) -> None:
    text = "sources: [{uri: 'rtsp://bob:hunter2@cam/door', quee_depth: 3}]"
    with pytest.raises(BadSetting) as caught:
        load_settings({}, written(tmp_path, text), {})
    assert "quee_depth: unknown key, did you mean queue_depth" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "at least 1 item" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        'sources: ["rtsp://bob:hunter2@cam/door]',
        "sources:\n  - rtsp://bob:hunter2@cam/door: x: y",
        "sources: [{rtsp://bob:hunter2@cam/door: 1}]",
        'sources: [{uri: "rtsp://bob:hunter2@cam/door\\0"}]',
        "sources: [0]\nmin_score: rtsp://bob:hunter2@cam/door",
        "rtsp://bob:hunter2@cam/door",
        "sources: [{uri: a.mp4, ffmpeg_options: hunter2}]",
    ],
)
def test_no_mistake_in_the_file_shows_a_password(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({}, written(tmp_path, text), {})
    assert "hunter2" not in str(caught.value)


def test_an_option_that_may_be_a_password_is_not_shown(tmp_path: Path) -> None:
    text = "sources: [{uri: srt://cam:9000, ffmpeg_options: {passphrase: 1234567890}}]"
    with pytest.raises(BadSetting, match="passphrase: input should be a valid string") as caught:
        load_settings({}, written(tmp_path, text), {})
    assert "1234567890" not in str(caught.value)


def test_a_uri_may_be_a_block_of_its_own(tmp_path: Path) -> None:
    text = "sources:\n  - |\n    rtsp://bob:hunter2@cam/door\n  - uri: >\n      a.mp4\n    id: x\n"
    sources = load_settings({}, written(tmp_path, text), {}).sources
    assert [source.uri for source in sources] == ["rtsp://bob:hunter2@cam/door", "a.mp4"]
    assert [source.id for source in sources] == ["door", "x"]


def test_a_comma_in_a_password_parts_no_sources() -> None:
    listed = "a.mp4,rtsp://bob:hun,ter2@cam/door,rtsp://cam:554/2,0"
    settings = load_settings({}, None, {"FRAMEWIRE_SOURCES": listed})
    assert [source.id for source in settings.sources] == ["a", "door", "2", "webcam0"]
