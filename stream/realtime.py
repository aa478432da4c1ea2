"""A video file as a camera would show it: at its own speed, without waiting for whoever looks."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from stream.file import FileReader
from stream.pace import Pace
from stream.reader import Latent, ReaderOptions, Reading, Unreadable

USUAL_FRAME_RATE = 25.0


class RealtimeReader:
    """An open video file, owned by the thread that opened it, whose frames come when they are due.

    Pictures are latent. With `loop` the file begins again after its last frame, one frame's time
    later, and `pts_s` goes on rising. Where the file has no times its frame rate is kept, and
    `pts_s` is None as in `FileReader`. `lag_s` is by how much the frame was late.
    """

    live = True
    frame_count_hint: int | None = None

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        """Opens the file. Errors as `FileReader` has them."""
        self._path = path
        self._options = options
        self._file = FileReader(path, options.max_frame_pixels)
        self._pace = Pace(options.stop)
        self._due_s: float | None = None
        """When the latest frame was due, in the time of the first round."""
        self._frame_s = 1 / (self._file.frame_rate or USUAL_FRAME_RATE)
        self._shift_s: float | None = 0.0
        """What is added to the times of this round, once its first frame has come."""

    def pictures(self) -> Iterator[Reading]:
        """Every frame when its time has come, until the file ends; or with `loop` without end.

        Ends as soon as `stop` is set.
        """
        while True:
            for reading in self._file.latents():
                in_time = self._in_time(reading)
                if self._options.stop.is_set():
                    return
                yield in_time
            if not self._options.loop:
                return
            self._shift_s = None
            self._file = FileReader(self._path, self._options.max_frame_pixels)

    def close(self) -> None:
        """The file is closed. Pictures that are still latent can be developed."""
        self._file.close()

    def _in_time(self, reading: Latent | Unreadable) -> Latent | Unreadable:
        """The reading, with the time that it has here, when that has come."""
        if reading.pts_s is None and isinstance(reading, Unreadable):
            return reading
        before_s = self._due_s
        next_s = 0.0 if before_s is None else before_s + self._frame_s
        if reading.pts_s is None:
            pts_s, self._due_s = None, next_s
        else:
            if self._shift_s is None:
                self._shift_s = next_s - reading.pts_s
            pts_s = self._due_s = reading.pts_s + self._shift_s
            if before_s is not None:
                self._frame_s = self._due_s - before_s
        return dataclasses.replace(reading, pts_s=pts_s, lag_s=self._pace.wait_for(self._due_s))
