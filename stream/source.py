"""From the text that names a source to its open reader: the one place that knows every kind."""

import glob
import re
from pathlib import Path
from typing import Literal

from contracts.errors import BadSetting, SourceNotFound
from contracts.uris import without_credentials
from stream.connect import SCHEMES
from stream.file import FileReader
from stream.images import IMAGE_SUFFIXES, ImagesReader, natural_key
from stream.lost import scheme_of
from stream.network import NetworkReader
from stream.reader import Reader, ReaderOptions
from stream.realtime import RealtimeReader
from stream.webcam import WebcamReader

SourceKind = Literal["video", "webcam", "images", "network"]
_MAGIC = re.compile(r"[*?[]")
_READABLE = (
    "a video file, a webcam (0, /dev/video0), an image, a folder of them, a pattern, or a URL"
)


def identify(uri: str) -> SourceKind:
    """What kind of source this is. Looks at names only and opens nothing.

    `SourceNotFound` where no such file, folder, device or match is there; `BadSetting` for a URL
    whose scheme can't be read. A URL may still have references to secrets in it.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", uri):
        if scheme_of(uri) not in SCHEMES:
            text = f"{scheme_of(uri)} URLs can't be read; expected {', '.join(SCHEMES)}"
            raise BadSetting(f"{without_credentials(uri)}: {text}")
        return "network"
    if _camera_number(uri) is not None:
        return "webcam"
    path = Path(uri)
    if not path.exists():
        if not _MAGIC.search(uri):
            text = f"no such file or folder; expected {_READABLE}"
            raise SourceNotFound(f"{without_credentials(uri)}: {text}")
        find_images(uri)
        return "images"
    if re.fullmatch(r"/dev/video\d+", uri):
        return "webcam"
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        find_images(uri)
        return "images"
    return "video"


def is_live(uri: str, realtime: bool = False) -> bool:
    """True where frames are lost unless they are read in time. Raises as `identify` does.

    `BadSetting` where `realtime` is asked of what is no video file.
    """
    kind = identify(uri)
    if realtime and kind != "video":
        raise BadSetting(f"{without_credentials(uri)}: realtime is for video files, not for {kind}")
    return realtime or kind in ("network", "webcam")


def open_reader(uri: str, options: ReaderOptions) -> Reader:
    """The open source; whoever opens it closes it. Errors of `is_live`, and of opening."""
    is_live(uri, options.realtime)
    match identify(uri):
        case "network":
            return NetworkReader(uri, options)
        case "webcam":
            number = _camera_number(uri)
            return WebcamReader(uri if number is None else number, options.max_frame_pixels)
        case "images":
            paths, folder = find_images(uri)
            return ImagesReader(paths, folder, options.max_frame_pixels)
        case "video" if options.realtime:
            return RealtimeReader(Path(uri), options)
        case "video":
            return FileReader(Path(uri), options.max_frame_pixels)


def find_images(uri: str) -> tuple[list[Path], Path]:
    """The image files that the URI stands for, in natural order, and the folder they are named by.

    A file by itself, the files right in a folder, or what a pattern matches (`**` reaches into
    folders). Only names with an image's suffix that don't begin with a dot count.
    """
    path = Path(uri)
    if path.is_file():
        return [path], path.parent
    if path.is_dir():
        folder, found = path, list(path.iterdir())
    else:
        folder = _fixed_part(path)
        # Path.glob would raise on `**.jpg` and refuse a pattern that begins at the root.
        found = [Path(name) for name in glob.iglob(uri, recursive=True)]  # noqa: PTH207
    if not found and folder is not path:
        raise SourceNotFound(f"{without_credentials(uri)}: the pattern matches nothing")
    images = sorted((file for file in found if _is_image(file)), key=natural_key)
    if not images:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise SourceNotFound(f"{uri}: no images there (expected files named {suffixes})")
    return images, folder


def _camera_number(uri: str) -> int | None:
    return int(uri) if re.fullmatch(r"[0-9]{1,4}", uri) else None


def _fixed_part(pattern: Path) -> Path:
    """The deepest folder of a pattern that has no wildcard above or in it."""
    folder = pattern.parent
    while _MAGIC.search(str(folder)):
        folder = folder.parent
    return folder


def _is_image(path: Path) -> bool:
    named = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    return named and path.is_file()
