"""From a URI to its kind and its reader, and what is said where there is neither."""

import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from contracts.errors import BadSetting, FramewireError, SourceNotFound
from contracts.uris import without_credentials
from stream.reader import Picture, ReaderOptions
from stream.source import find_images, identify, is_live, open_reader
from tests.clips import write_clip

MEGAPIXEL = 10**6
OPTIONS = ReaderOptions(max_frame_pixels=MEGAPIXEL)


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
    readings = list(open_reader(uri, OPTIONS).pictures())
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
    assert len(list(open_reader(str(clip), OPTIONS).pictures())) == 2


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        ("{}/missing.mp4", SourceNotFound, "no such file"),
        ("/dev/video97", SourceNotFound, "no such file"),
        ("{}/*.gif", SourceNotFound, "matches nothing"),
        ("{}/shots/*.txt", SourceNotFound, "no images"),
        ("{}/empty", SourceNotFound, "no images"),
        ("ftp://user:secret@door.example/1", BadSetting, "ftp URLs can't be read; expected rtsp,"),
        ("file:///clip.mp4", BadSetting, "file URLs can't be read"),
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


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://user:secret@door.example/1",
        "RTSPS://door.example:322/1",
        "rtsp://${file:/run/user}:${PASSWORD}@door.example/1",
        "rtmp://door.example/live/key",
        "http://door.example/a.m3u8",
        "https://door.example/clip.mp4",
        "udp://239.0.0.1:5000",
        "tcp://door.example:5000",
    ],
)
def test_urls_are_of_the_network_and_live(uri: str) -> None:
    assert identify(uri) == "network"
    assert is_live(uri)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("udp://door.example", "expected a port"),
        ("tcp://user:secret@door.example/1", "expected a port"),
        ("rtsp:///1", "expected a host"),
        ("rtsp://door.example:port/1", "can't be read"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_before_anything_is_opened(uri: str, says: str) -> None:
    with pytest.raises(BadSetting, match=says) as caught:
        open_reader(uri, OPTIONS)
    assert "secret" not in str(caught.value)


def test_a_file_is_live_only_as_a_camera(shots: Path) -> None:
    clip = str(write_clip(shots / "clip.mp4", 2))
    assert not is_live(clip)
    assert is_live(clip, realtime=True)
    assert is_live("0")
    assert not is_live(str(shots))
    stopped = threading.Event()
    stopped.set()
    options = ReaderOptions(max_frame_pixels=MEGAPIXEL, realtime=True, stop=stopped)
    reader = open_reader(clip, options)
    assert reader.live
    assert list(reader.pictures()) == []


@pytest.mark.parametrize("uri", ["0", "{}", "rtsp://door.example/1"])
def test_only_a_video_file_plays_in_real_time(shots: Path, uri: str) -> None:
    options = ReaderOptions(max_frame_pixels=MEGAPIXEL, realtime=True)
    with pytest.raises(BadSetting, match="realtime is for video files"):
        open_reader(uri.format(shots), options)


def test_identifying_opens_no_file(shots: Path) -> None:
    unreadable = shots / "locked.mp4"
    os.mkfifo(unreadable)
    assert identify(str(unreadable)) == "video"


def test_images_are_found_below_the_folder_that_names_them(shots: Path) -> None:
    paths, folder = find_images(str(shots / "**" / "*.png"))
    assert folder == shots
    assert [path.name for path in paths] == ["a.png"]
