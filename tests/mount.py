"""What one camera of tests/rtsp_server.py does. Only the standard library: the server reads it."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Mount:
    """One path of the server; the defaults are a camera that behaves.

    A client that connects starts the camera at frame 0; of a `shared` one, only the first does.
    Every frame has its number painted in (`tests.cameras.camera_number`) and is sent, whatever
    happens: a server that was frozen catches up in a burst.
    """

    path: str
    codec: Literal["h264", "h265", "mjpeg"] = "h264"
    width: int = 320
    height: int = 240
    fps: float = 25
    """Frames sent in a second, and what their timestamps say."""
    declared_fps: float | None = None
    """What the stream's headers say instead."""
    shared: bool = False
    ends_after: int | None = None
    """Frames after which the stream ends."""
    resize_every: int | None = None
    """Frames after which the picture halves its sides, and gets them back after as many again."""
    corrupt_every: int | None = None
    """Each so-manieth frame (h264, h265) is damaged, unless it is a key frame with SPS and PPS."""
    clock: float = 1
    """Seconds of the timestamps in a second."""
    jump_at: int | None = None
    """The frame from which on all timestamps are off by `jump_s`."""
    jump_s: float = 0
    stamped: bool = True
    """Otherwise all frames bear the same timestamp."""
