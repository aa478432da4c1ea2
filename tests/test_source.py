"""From a URI to its kind and its reader, and what is said where there is neither."""

import os
from pathlib import Path

import pytest
from PIL import Image

from contracts.errors import BadSetting, FramewireError, SourceNotFound
from contracts.uris import without_credentials
from stream.reader import Picture
from stream.source import find_images, identify, open_reader
from tests.clips import write_clip

MEGAPIXEL = 10**6


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """A folder as people have them."""
    folder = tmp_path / "shots"
    (folder / "night").mkdir(parents=True)
    for name in ("img10.jpg", "img2.jpg", "IMG3.JPG", "a.png", "night/img1.jpg"):
        Image.new("RGB", (8, 8)).save(folder / name)
    for name in ("notes.txt", "._img2.jpg", "Thumbs.db"):
        (folder / name).write_text("not an image")
    (folder / "folder.jpg").mkdir()
    return folder


def names_of(uri: str) -> list[str]:
    """The images' names, in the order in which they are read."""
    readings = list(open_reader(uri, MEGAPIXEL).pictures())
    assert all(isinstance(reading, Picture) for reading in readings)
    return [reading.image_id or "" for reading in readings if isinstance(reading, Picture)]


def test_kinds_are_told_by_name(shots: Path) -> None:
    clip = write_clip(shots / "clip.mp4", 1)
    assert identify(str(clip)) == "video"
    assert identify(str(shots / "notes.txt")) == "video"
    assert identify("0") == identify("12") == "webcam"
    assert identify(str(shots)) == "images"
    assert identify(str(shots / "IMG3.JPG")) == "images"
    assert identify(str(shots / "*.jpg")) == "images"


def test_a_folder_gives_its_images_in_natural_order_and_nothing_else(shots: Path) -> None:
    assert names_of(str(shots)) == ["IMG3.JPG", "a.png", "img2.jpg", "img10.jpg"]


def test_a_pattern_gives_what_it_matches_named_below_its_fixed_folder(shots: Path) -> None:
    assert names_of(str(shots / "img*.jpg")) == ["img2.jpg", "img10.jpg"]
    assert names_of(str(shots / "**" / "img*.jpg")) == ["img2.jpg", "img10.jpg", "night/img1.jpg"]


def test_relative_names_work(shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shots)
    assert names_of("*.png") == ["a.png"]
    assert names_of("night") == ["img1.jpg"]
    assert names_of("a.png") == ["a.png"]


def test_a_single_image_is_named_by_its_name(shots: Path) -> None:
    assert names_of(str(shots / "a.png")) == ["a.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_the_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip[1].mp4", 2)
    assert identify(str(clip)) == "video"
    assert len(list(open_reader(str(clip), MEGAPIXEL).pictures())) == 2


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        ("{}/missing.mp4", SourceNotFound, "no such file"),
        ("/dev/video97", SourceNotFound, "no such file"),
        ("{}/*.gif", SourceNotFound, "matches nothing"),
        ("{}/shots/*.txt", SourceNotFound, "no images"),
        ("{}/empty", SourceNotFound, "no images"),
        ("rtsp://user:secret@door.example/1", BadSetting, "rtsp URLs can't be read yet"),
        ("https://example.com/clip.mp4", BadSetting, "https URLs can't be read yet"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    shots: Path, uri: str, error: type[FramewireError], says: str
) -> None:
    (shots.parent / "empty").mkdir()
    with pytest.raises(error, match=says) as caught:
        identify(uri.format(shots.parent))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:secret@host:554/door", "rtsp://host:554/door"),
        ("rtsp://user@host/door", "rtsp://host/door"),
        ("rtsp://user:se@cr#et?@host/door", "rtsp://host/door"),
        ("https://host/@someone", "https://host/@someone"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
        ("0", "0"),
    ],
)
def test_urls_are_shown_without_their_credentials(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown


def test_identifying_opens_no_file(shots: Path) -> None:
    unreadable = shots / "locked.mp4"
    os.mkfifo(unreadable)
    assert identify(str(unreadable)) == "video"


def test_images_are_found_below_the_folder_that_names_them(shots: Path) -> None:
    paths, folder = find_images(str(shots / "**" / "*.png"))
    assert folder == shots
    assert [path.name for path in paths] == ["a.png"]
