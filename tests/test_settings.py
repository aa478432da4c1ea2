"""The configuration: what is refused, and which names sources get."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.messages import SourceId
from contracts.settings import DEFAULT_ENDPOINT, Settings, SourceSettings, source_id_from


def read(*sources: Any, **settings: Any) -> Settings:
    """As YAML gives it."""
    return Settings.model_validate({"sources": list(sources), **settings})


def ids(settings: Settings) -> list[str]:
    """The sources' names."""
    return [source.id for source in settings.sources]


def test_short_form_of_a_source_is_its_uri() -> None:
    assert read("clip.mp4") == read({"uri": "clip.mp4", "id": "clip"})


def test_unknown_key_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError, match="min_scroe"):
        read("clip.mp4", min_scroe=0.5)


def test_unknown_key_of_a_source_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError, match="url"):
        read({"uri": "clip.mp4", "url": "clip.mp4"})


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read("clip.mp4").min_score = 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {"min_score": 1.5},
        {"max_batch": 0},
        {"max_wait_ms": -1},
        {"device": "tpu"},
        {"max_frames": 0},
        {"zmq_subscribers": -1},
    ],
    ids=str,
)
def test_value_out_of_its_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        read("clip.mp4", **changes)


@pytest.mark.parametrize("sources", [[""], [{"id": "cam"}], [None]])
def test_a_source_without_a_uri_is_refused(sources: list[Any]) -> None:
    with pytest.raises(ValidationError, match="sources"):
        read(*sources)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/clips/My clip.mp4", "My-clip"),
        ("0", "webcam0"),
        ("/dev/video0", "video0"),
        ("shots/*.jpg", "shots"),
        ("shots/", "shots"),
        ("..", "source"),
        ("_.mp4", "source"),
    ],
)
def test_id_comes_from_the_last_part_of_the_uri(uri: str, name: str) -> None:
    assert source_id_from(uri) == name
    assert ids(read(uri)) == [name]


def test_number_is_a_webcam() -> None:
    assert read(0) == read("0")


def test_equal_names_are_numbered() -> None:
    assert ids(read("a/clip.mp4", "b/clip.mp4", "c/clip.mp4")) == ["clip", "clip-2", "clip-3"]


def test_numbered_name_does_not_hit_a_name_that_is_there() -> None:
    assert ids(read("a/clip.mp4", "clip-2.mp4", "b/clip.mp4")) == ["clip", "clip-2", "clip-3"]


def test_made_name_does_not_hit_a_given_one() -> None:
    assert ids(read("clip.mp4", {"uri": "b.mp4", "id": "clip"})) == ["clip-2", "clip"]


def test_sources_given_as_settings_get_names_too() -> None:
    settings = Settings(sources=(SourceSettings(uri="a.mp4"), SourceSettings(uri="b/a.mp4")))
    assert ids(settings) == ["a", "a-2"]


def test_same_id_given_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="same id"):
        read({"uri": "a.mp4", "id": "cam"}, {"uri": "b.mp4", "id": "cam"})


uris_of_any_kind = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)


@given(st.lists(uris_of_any_kind, min_size=1, max_size=6))
def test_any_uris_get_valid_ids_that_differ(uris: list[str]) -> None:
    made = ids(read(*uris))
    assert len(set(made)) == len(uris)
    for name in made:
        TypeAdapter(SourceId).validate_python(name)


def test_none_publishes_nothing_and_classifies_nothing() -> None:
    settings = read("clip.mp4", zmq="none", classifier="none")
    assert settings.zmq is None
    assert settings.classifier == "none"
    assert read("clip.mp4").zmq == DEFAULT_ENDPOINT


def test_video_of_several_sources_needs_the_source_in_its_name() -> None:
    with pytest.raises(ValidationError, match="need a file each"):
        read("a.mp4", "b.mp4", video="out.mp4")
    assert read("a.mp4", "b.mp4", video="{source}/out.mp4").video == Path("{source}/out.mp4")
    assert read("a.mp4", "b.mp4", video="out-{source}.mp4").video == Path("out-{source}.mp4")
    assert read("a.mp4", video="out.mp4").video == Path("out.mp4")


@pytest.mark.parametrize("raw", [None, [], "clip.mp4", 3, {"sources": {}}, {"sources": ["a\0"]}])
def test_configuration_of_another_shape_is_refused(raw: Any) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(raw)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"zmq": "none", "zmq_subscribers": 2}, "nobody can subscribe"),
        ({"zmq": "none", "zmq_catchup": "tcp://127.0.0.1:5556"}, "nothing can be missed"),
        (
            {"classifier": "none", "classifier_weights": "w.pth"},
            "not read while classifier is none",
        ),
        ({"layout": "yolox"}, "is for an onnx: detector"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        read("clip.mp4", **settings)


@pytest.mark.parametrize("name", ["jsonl", "video", "summary"])
def test_an_output_that_is_a_source_is_refused_by_whatever_path(name: str, tmp_path: Path) -> None:
    clip, link = tmp_path / "clip.mp4", tmp_path / "link.mp4"
    clip.touch()
    link.symlink_to(clip)
    with pytest.raises(ValidationError, match="is also source clip"):
        read(str(clip), **{name: str(link)})


def test_outputs_that_share_a_file_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"summary: .* is also jsonl"):
        read("clip.mp4", jsonl="out.json", summary="./out.json")
    with pytest.raises(ValidationError, match="is also source a"):
        read("a.mp4", "b.mp4", video="{source}.mp4")
    assert read("clip.mp4", jsonl="/dev/null", summary="/dev/null").jsonl == Path("/dev/null")


def test_none_switches_an_output_off() -> None:
    settings = read("clip.mp4", jsonl="none", video="none", summary="none", zmq="none")
    assert (settings.jsonl, settings.video, settings.summary, settings.zmq) == (None,) * 4


def test_one_source_needs_no_list() -> None:
    assert [s.uri for s in Settings.model_validate({"sources": "clip.mp4"}).sources] == ["clip.mp4"]


def test_a_password_is_no_part_of_a_sources_id() -> None:
    assert source_id_from("rtsp://bob:hunter2@cam/door?token=x") == "door"
    assert "hunter2" not in source_id_from("rtsp://bob:hunter2@cam")
