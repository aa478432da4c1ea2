"""Writes each source's frames, with what was found drawn in, to an MP4 of its own."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error

from contracts.errors import OutputUnwritable, SinkError
from contracts.frame import Delivery
from contracts.messages import FrameResult, SourceEnd
from sinks.draw import draw
from sinks.files import named
from sinks.recording import ENCODER, Recording

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

PROBE_BYTES = 64 * 1024


class VideoSink:
    """Owned by the sink thread. H.264, yuv420p, `pts_s` kept; see `sinks.recording` for its limits.

    `path` names the file; `{source}` in it, also in its folders, becomes the source's id. Missing
    folders are made for a source's first frame. While it is written the file is called
    `NAME.part.mp4`; it gets its own name, replacing an older file, once it is whole: at the
    source's end, or when the sink is closed. What is left after a crash is a `.part.mp4`.
    A frame that failed is not in the video; a source that gave no result has no file.
    """

    name = "video"

    def __init__(self, path: Path, n_sources: int = 1, max_open: int = 16) -> None:
        """At most `max_open` sources at once: each holds an encoder with its threads and memory.

        `n_sources`: how many the run has; too many are refused when the sink opens.
        """
        self._path = path
        self._n_sources = n_sources
        self._max_open = max_open
        self._recordings: dict[str, Recording] = {}
        self._counts = {"frames": 0, "files": 0}

    def open(self) -> None:
        """The folder can be written, and there are encoders for all. OutputUnwritable, DiskFull.

        Nothing is made yet: of folders that don't exist, the deepest that does is tried.
        """
        if self._n_sources > self._max_open:
            raise OutputUnwritable(
                f"video: {self._n_sources} sources, but at most {self._max_open} can be written "
                "at once; use fewer sources or no video"
            )
        try:
            av.Codec(ENCODER, "w")
        except ValueError as error:
            raise OutputUnwritable(
                f"video: this build of PyAV has no {ENCODER} encoder; install PyAV from PyPI"
            ) from error
        if self._path.is_dir():
            raise OutputUnwritable(f"video: {self._path} is a folder; a file's name was expected")
        with _named_errors(self._path):
            folder = next(folder for folder in self._path.parents if folder.exists())
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(PROBE_BYTES))

    def write(self, delivery: Delivery, payload: bytes) -> None:  # noqa: ARG002
        """The frame is with its encoder, or the source's file is whole. OutputUnwritable, DiskFull.

        When one frame can't be written the source's unfinished file is removed.
        """
        message = delivery.message
        if isinstance(message, SourceEnd):
            self._finish(message.source_id)
        elif isinstance(message, FrameResult) and delivery.frame is not None:
            self._add(message, draw(delivery.frame.image_hwc, message))

    def close(self) -> None:
        """Every file is whole and has its name. OutputUnwritable, DiskFull: that file is gone."""
        with contextlib.ExitStack() as finishing:
            for source_id in self._recordings:
                finishing.callback(self._finish, source_id)

    def counts(self) -> dict[str, int]:
        """For the summary: frames written, and files that are whole."""
        return dict(self._counts)

    def _add(self, result: FrameResult, image_hwc: "ImageHWC") -> None:
        path = self.path_of(result.source_id)
        if result.source_id not in self._recordings:
            if len(self._recordings) >= self._max_open:
                raise OutputUnwritable(f"video: no more than {self._max_open} sources at once")
            height, width = image_hwc.shape[:2]
            with _named_errors(path):
                self._recordings[result.source_id] = Recording(path, width, height)
        recording = self._recordings[result.source_id]
        try:
            with _named_errors(path):
                recording.add(image_hwc, result.pts_s)
        except SinkError:
            del self._recordings[result.source_id]
            recording.discard()
            raise
        self._counts["frames"] += 1

    def _finish(self, source_id: str) -> None:
        recording = self._recordings.pop(source_id, None)
        if recording is not None:
            with _named_errors(self.path_of(source_id)):
                recording.finish()
            self._counts["files"] += 1

    def path_of(self, source_id: str) -> Path:
        """Where the source's finished video lies."""
        return Path(str(self._path).replace("{source}", source_id))


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """PyAV's and the system's errors become ours, with the path and the reason."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        raise named(error, VideoSink.name, path) from error
