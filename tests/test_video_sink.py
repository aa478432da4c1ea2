"""The annotated video: real encoding, and what comes back when it is decoded."""

import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.errors import DiskFull, OutputUnwritable
from contracts.frame import Delivery
from sinks.recording import canvas_size, letterbox
from sinks.video import VideoSink
from tests.messages import delivery, frame_failure, source_end
from tests.resources import held, released

ROOT = Path(__file__).parents[1]
TICK_S = 1 / 90_000
SHADES = (20, 235)


def picture(shade: int, width: int = 160, height: int = 96) -> NDArray[np.uint8]:
    """A frame of one shade."""
    return np.full((height, width, 3), shade, np.uint8)


def shade_of(index: int) -> int:
    """A shade that tells the frame's number, up to 40 frames."""
    return 20 + 5 * index


def write(sink: VideoSink, item: Delivery) -> None:
    """As the sink thread does it."""
    sink.write(item, item.message.model_dump_json().encode())


def write_all(path: Path, pts_s: list[float | None]) -> None:
    """A finished video with a frame for each time, none of them with detections."""
    sink = VideoSink(path)
    sink.open()
    for index, time_s in enumerate(pts_s):
        write(sink, plain(index, shade_of(index), pts_s=time_s))
    write(sink, Delivery(source_end()))
    sink.close()


def plain(index: int, shade: int, source_id: str = "cam1", **changes: float | None) -> Delivery:
    """A frame of one shade in which nothing was found."""
    image = picture(shade)
    return delivery(index, source_id, image_hwc=image, detections=(), classifications=(), **changes)


def decoded(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    """(pts in seconds, RGB image) of every frame."""
    with av.open(str(path)) as container:
        return [
            (frame.time or 0.0, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            for frame in container.decode(video=0)
        ]


def times_of(path: Path) -> list[float]:
    """Seconds of every frame."""
    return [time_s for time_s, _ in decoded(path)]


@pytest.mark.parametrize(
    "pts_s",
    [
        [index / 25 for index in range(40)],
        [index * 1001 / 30_000 for index in range(20)],
        [0.0, TICK_S, 0.1, 0.11, 3.0, 3.5, 120.0],
        [10.0, 10.04, 10.08],
        [0.0],
    ],
    ids=["25 fps", "29.97 fps", "uneven", "begins later", "one frame"],
)
def test_times_come_back_as_they_were_written(tmp_path: Path, pts_s: list[float]) -> None:
    write_all(tmp_path / "out.mp4", [*pts_s])
    assert times_of(tmp_path / "out.mp4") == pytest.approx(pts_s, abs=TICK_S / 2)


@pytest.mark.parametrize(
    ("pts_s", "expected"),
    [
        ([None, None, None], [0.0, 0.04, 0.08]),
        ([0.0, None, 0.5], [0.0, 0.04, 0.5]),
        ([0.0, 0.0, 0.0, 0.04], [0.0, TICK_S, 2 * TICK_S, 0.04]),
        ([0.0, 0.4, 0.2, 0.44], [0.0, 0.4, 0.4 + TICK_S, 0.44]),
        ([-0.08, -0.04, 0.0], [0.0, 0.04, 0.08]),
        ([86_400.0, 86_400.04], [0.0, 0.04]),
        ([5.0, 5.04, 0.0, 0.04], [5.0, 5.04, 5.08, 5.12]),
        ([0.0, 0.04, 30_000.0, 30_000.04], [0.0, 0.04, 0.08, 0.12]),
        ([0.0, 1e308, -1e308], [0.0, 0.04, 0.08]),
    ],
    ids=["none", "one without", "repeated", "back a little", "before 0", "camera that runs",
         "back by seconds", "ahead by hours", "absurd"],
)  # fmt: skip
def test_times_that_mp4_can_not_hold_still_lose_no_frame(
    tmp_path: Path, pts_s: list[float | None], expected: list[float]
) -> None:
    write_all(tmp_path / "out.mp4", pts_s)
    came = decoded(tmp_path / "out.mp4")
    assert [time_s for time_s, _ in came] == pytest.approx(expected, abs=TICK_S / 2)
    for index, (_, image) in enumerate(came):
        assert abs(image.mean() - shade_of(index)) < 2.5


def test_video_lasts_until_after_its_last_frame_though_the_frames_are_uneven(
    tmp_path: Path,
) -> None:
    write_all(tmp_path / "out.mp4", [0.0, 0.04, 0.08, 9.0])
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(9.04, abs=0.001)


def test_detections_are_drawn_in(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    write(sink, delivery(0))
    sink.close()
    (_, image), = decoded(tmp_path / "out.mp4")  # fmt: skip
    assert np.abs(image.astype(int) - 128).max() > 60
    assert np.abs(image[60:, 100:].astype(int) - 128).max() < 20


def test_colours_come_back(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    colors = [(200, 40, 90), (20, 180, 60), (30, 60, 220), (255, 255, 255), (0, 0, 0)]
    for index, color in enumerate(colors):
        image = np.full((96, 160, 3), color, np.uint8)
        write(sink, delivery(index, image_hwc=image, detections=(), classifications=()))
    sink.close()
    for color, (_, image) in zip(colors, decoded(tmp_path / "out.mp4"), strict=True):
        assert image.mean(axis=(0, 1)) == pytest.approx(color, abs=4)


def test_each_source_has_its_own_file(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "new" / "out-{source}.mp4")
    sink.open()
    for index in range(4):
        write(sink, plain(index, SHADES[index % 2], ("cam1", "cam2")[index % 2]))
    sink.close()
    assert sink.counts() == {"frames": 4, "files": 2}
    for name, shade in zip(("cam1", "cam2"), SHADES, strict=True):
        came = decoded(tmp_path / "new" / f"out-{name}.mp4")
        assert [abs(image.mean() - shade) < 4 for _, image in came] == [True, True]


def test_source_in_a_folder_s_name_is_replaced_too(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "{source}" / "new" / "{source}.mp4")
    sink.open()
    assert list(tmp_path.iterdir()) == []
    for source_id in ("cam1", "cam2"):
        write(sink, plain(0, 20, source_id))
    sink.close()
    for source_id in ("cam1", "cam2"):
        assert len(decoded(tmp_path / source_id / "new" / f"{source_id}.mp4")) == 1


def test_video_that_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    first, second = VideoSink(tmp_path / "out.mp4"), VideoSink(tmp_path / "out.mp4")
    first.open()
    write(first, plain(0, 20))
    second.open()
    with pytest.raises(OutputUnwritable, match="another run writes"):
        write(second, plain(0, 235))
    second.close()
    write(first, plain(1, 20))
    first.close()
    assert [abs(image.mean() - 20) < 4 for _, image in decoded(tmp_path / "out.mp4")] == [True] * 2
    write_all(tmp_path / "out.mp4", [0.0])


def test_more_sources_than_encoders_are_refused_at_open(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="17 sources, but at most 16"):
        VideoSink(tmp_path / "{source}.mp4", n_sources=17).open()


def test_failed_frame_is_not_in_the_video_and_a_source_without_results_has_no_file(
    tmp_path: Path,
) -> None:
    sink = VideoSink(tmp_path / "{source}.mp4")
    sink.open()
    write(sink, plain(0, 20))
    write(sink, Delivery(frame_failure(1)))
    write(sink, plain(2, 20))
    write(sink, Delivery(frame_failure(0, "cam2")))
    write(sink, Delivery(source_end("cam2")))
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["cam1.mp4"]
    assert times_of(tmp_path / "cam1.mp4") == pytest.approx([0.0, 0.08])


def test_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an older video")
    sink = VideoSink(path)
    sink.open()
    for index in range(30):
        write(sink, plain(index, shade_of(index)))
    assert path.read_bytes() == b"an older video"
    assert (tmp_path / "out.part.mp4").exists()
    write(sink, Delivery(source_end()))
    assert len(decoded(path)) == 30
    assert not (tmp_path / "out.part.mp4").exists()
    sink.close()


def test_video_of_a_run_that_is_broken_off_is_whole_after_close(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    write(sink, plain(0, 20))
    sink.close()
    assert len(decoded(tmp_path / "out.mp4")) == 1


def test_index_lies_before_the_pictures(tmp_path: Path) -> None:
    write_all(tmp_path / "out.mp4", [0.0, 0.04])
    written = (tmp_path / "out.mp4").read_bytes()
    assert 0 < written.index(b"moov") < written.index(b"mdat")


def test_frame_of_another_size_is_letterboxed_into_the_first_ones(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    for index, (width, height) in enumerate([(160, 96), (96, 160), (1600, 960), (40, 24)]):
        image = picture(200, width, height)
        write(sink, delivery(index, image_hwc=image, detections=(), classifications=()))
    sink.close()
    images = [image for _, image in decoded(tmp_path / "out.mp4")]
    assert {image.shape for image in images} == {(96, 160, 3)}
    assert images[1][:, :40].max() < 40
    assert images[1][:, 120:].max() < 40
    assert images[1][10:86, 60:100].min() > 180
    assert [bool(image.min() > 180) for image in images] == [True, False, True, True]


@pytest.mark.parametrize(("width", "height"), [(161, 97), (161, 96), (160, 97), (1, 1), (3, 400)])
def test_odd_size_is_padded_to_even(tmp_path: Path, width: int, height: int) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    image = picture(200, width, height)
    write(sink, delivery(0, image_hwc=image, detections=(), classifications=()))
    sink.close()
    (_, came), = decoded(tmp_path / "out.mp4")  # fmt: skip
    assert came.shape == (height + height % 2, width + width % 2, 3)


def test_odd_picture_is_not_scaled() -> None:
    image = np.random.default_rng(0).integers(0, 256, (97, 161, 3), dtype=np.uint8)
    assert np.array_equal(letterbox(image, 162, 98)[:97, :161], image)


def test_frame_larger_than_h264_allows_is_scaled_down() -> None:
    assert canvas_size(20_000, 3_000) == (16_384, 2_458)
    assert canvas_size(1, 100_000) == (2, 16_384)


def test_path_that_is_a_folder_fails_at_open(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="is a folder"):
        VideoSink(tmp_path).open()


def test_path_below_a_file_fails_at_open_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = VideoSink(tmp_path / "file" / "out.mp4")
    with pytest.raises(OutputUnwritable, match=r"file/out\.mp4: (Not a directory|File exists)"):
        sink.open()
    sink.close()


def test_folder_that_can_not_be_made_is_unwritable(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "new" / "out.mp4")
    sink.open()
    tmp_path.joinpath("new").touch()
    with pytest.raises(OutputUnwritable, match="File exists"):
        write_noise(sink, frames=100)
    sink.close()


def test_full_disk_is_named_and_leaves_no_unfinished_file(tmp_path: Path) -> None:
    (tmp_path / "out.part.mp4").symlink_to("/dev/full")
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    with pytest.raises(DiskFull, match=r"no space left for .*out\.mp4"):
        write_noise(sink, frames=100)
    sink.close()
    assert list(tmp_path.iterdir()) == []


def write_noise(sink: VideoSink, frames: int) -> None:
    """So many frames that don't compress."""
    for index in range(frames):
        image = np.random.default_rng(index).integers(0, 256, (96, 160, 3), dtype=np.uint8)
        write(sink, delivery(index, image_hwc=image))


def test_file_that_may_not_grow_fails_at_close_is_removed_and_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from contracts.errors import SinkError
        from sinks.video import VideoSink
        from tests.resources import held, released
        from tests.test_video_sink import write_noise

        def fail_at_close() -> str:
            sink = VideoSink(Path(sys.argv[1]))
            sink.open()
            write_noise(sink, frames=1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
            try:
                sink.close()
            except SinkError as error:
                return error.code
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))

        first, before = fail_at_close(), held()
        print({first} | {fail_at_close() for _ in range(50)}, released(before))
    """)
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out.mp4"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "{'output_unwritable'} True"
    assert list(tmp_path.iterdir()) == []


def test_one_source_that_fails_at_close_does_not_cost_the_others_their_files(
    tmp_path: Path,
) -> None:
    (tmp_path / "cam1.part.mp4").symlink_to("/dev/full")
    sink = VideoSink(tmp_path / "{source}.mp4")
    sink.open()
    for source_id in ("cam1", "cam2"):
        write(sink, plain(0, 20, source_id))
    with pytest.raises(DiskFull, match="cam1"):
        sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["cam2.mp4"]
    assert len(decoded(tmp_path / "cam2.mp4")) == 1


def test_more_sources_at_once_than_encoders_is_an_error(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "{source}.mp4", max_open=2)
    sink.open()
    for number in range(4):
        write(sink, plain(0, 20, f"cam{number}"))
        write(sink, Delivery(source_end(f"cam{number}")))
    for source_id in ("a", "b"):
        write(sink, plain(0, 20, source_id))
    with pytest.raises(OutputUnwritable, match="no more than 2 sources at once"):
        write(sink, plain(0, 20, "c"))
    sink.close()
    assert len(list(tmp_path.iterdir())) == 6


def test_close_is_safe_twice_and_after_a_failed_open(tmp_path: Path) -> None:
    failed = VideoSink(tmp_path)
    with pytest.raises(OutputUnwritable):
        failed.open()
    failed.close()
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    write(sink, plain(0, 20))
    sink.close()
    sink.close()


def test_fifty_sinks_leave_no_thread_and_no_file_open(tmp_path: Path) -> None:
    write_all(tmp_path / "out.mp4", [0.0])
    before = held()
    for _ in range(50):
        write_all(tmp_path / "out.mp4", [0.0, 0.04])
    assert released(before)
