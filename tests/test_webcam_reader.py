"""The webcam's reader on the real cv2.VideoCapture, which reads a file as it reads a camera."""

import os
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import FrameTooLarge, SourceLost, SourceNotFound
from stream.reader import Latent, Unreadable
from stream.webcam import WebcamReader
from tests.clips import SIZE, number_in, painted, write_clip

MEGAPIXEL = 10**6
NO_SUCH_CAMERA = 97


def test_frames_come_as_rgb_and_then_the_camera_is_lost(tmp_path: Path) -> None:
    reader = WebcamReader(str(write_clip(tmp_path / "a.mp4", 5)), MEGAPIXEL)
    readings = reader.pictures()
    five = [next(readings) for _ in range(5)]
    pictures = [reading for reading in five if isinstance(reading, Latent)]
    with pytest.raises(SourceLost, match="after 5"):
        next(readings)
    images = [picture.develop() for picture in pictures]
    assert [number_in(image_hwc) for image_hwc in images] == list(range(5))
    image_hwc = images[4]
    assert image_hwc.nbytes == pictures[4].n_bytes
    assert image_hwc.shape == (*SIZE, 3)
    assert image_hwc.dtype == np.uint8
    assert image_hwc.flags.c_contiguous
    assert np.abs(image_hwc.astype(int) - painted(4)).mean() < 12
    assert pictures[0].pts_s is None


def test_it_is_live_and_has_no_length(tmp_path: Path) -> None:
    reader = WebcamReader(str(write_clip(tmp_path / "a.mp4", 2)), MEGAPIXEL)
    assert reader.live
    assert reader.frame_count_hint is None
    reader.close()
    reader.close()


@pytest.mark.parametrize("target", [NO_SUCH_CAMERA, f"/dev/video{NO_SUCH_CAMERA}"])
def test_a_camera_that_is_not_there_says_so_once_and_by_name(
    target: int | str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SourceNotFound, match=str(target)):
        WebcamReader(target, MEGAPIXEL)
    assert capfd.readouterr().err == ""


def test_a_frame_with_too_many_pixels_is_one_failure(tmp_path: Path) -> None:
    reader = WebcamReader(str(write_clip(tmp_path / "a.mp4", 2)), 10)
    reading = next(reader.pictures())
    assert isinstance(reading, Unreadable)
    assert isinstance(reading.error, FrameTooLarge)


@pytest.mark.parametrize("n_read", [0, 2, 99])
def test_fifty_readers_leave_no_file_open(tmp_path: Path, n_read: int) -> None:
    clip = str(write_clip(tmp_path / "a.mp4", 4))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(50):
        reader = WebcamReader(clip, MEGAPIXEL)
        for _reading in zip(range(min(n_read, 4)), reader.pictures(), strict=False):
            pass
        reader.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
