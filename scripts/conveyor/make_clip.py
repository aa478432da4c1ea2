"""Renders the demo clip and its truth: `python -m scripts.conveyor.make_clip`.

`conveyor.mp4` is H.264 at 640 x 480 and 15 frames a second; `conveyor.truth.json` tells, for every
frame, which parts are really in it. The frames given to the encoder are the same on every run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import av
import click
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from scripts.conveyor.scene import HEIGHT_PX, WIDTH_PX, PartTruth, render
from scripts.conveyor.staging import CLIP_SEEDS, clip_scenes

FRAMES_PER_S = 15
FRAME_COUNT = 14 * FRAMES_PER_S
CLIP_SEED = CLIP_SEEDS[2]


def clip_frames(
    seed: int = CLIP_SEED, frame_count: int = FRAME_COUNT
) -> Iterator[tuple[NDArray[np.uint8], list[PartTruth]]]:
    """The clip's frames in order, (480, 640, 3) RGB uint8, each with its truth."""
    return map(render, clip_scenes(seed, frame_count, FRAMES_PER_S))


def truth_of_frame(frame_index: int, truths: list[PartTruth]) -> dict[str, object]:
    """One frame's entry in the truth file."""
    parts = [
        {
            "box_xyxy": truth.box_xyxy,
            "type": truth.type,
            "finish": truth.finish,
            "visible_fraction": round(truth.visible_fraction, 4),
            "ignore": truth.ignore,
        }
        for truth in truths
    ]
    return {
        "frame_index": frame_index,
        "pts_s": round(frame_index / FRAMES_PER_S, 6),
        "parts": parts,
    }


def write_clip(folder: Path, frame_count: int = FRAME_COUNT) -> None:
    """Writes `conveyor.mp4` and `conveyor.truth.json` into the folder, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    told: list[dict[str, object]] = []
    # With the index up front a player, or a reader over HTTP, can begin before the file's end.
    options = {"movflags": "+faststart"}
    with av.open(str(folder / "conveyor.mp4"), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_S)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        stream.options = {"crf": "18", "preset": "slow"}
        # One thread, so that the file's bytes do not depend on the number of cores.
        stream.thread_count = 1
        for image_hwc, truths in track(clip_frames(frame_count=frame_count), "clip", frame_count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_hwc, format="rgb24")))
            told.append(truth_of_frame(len(told), truths))
        container.mux(stream.encode(None))
    truth = {"width_px": WIDTH_PX, "height_px": HEIGHT_PX, "frames_per_s": FRAMES_PER_S}
    compact = json.dumps({**truth, "frames": told}, separators=(",", ":"))
    (folder / "conveyor.truth.json").write_text(compact + "\n", encoding="utf-8")


@click.command()
@click.option("--out", type=Path, default=Path("scripts/demo_clip"), help="Folder for both files.")
def main(out: Path) -> None:
    """Render the demo clip and the truth about it."""
    write_clip(out)


if __name__ == "__main__":
    main()
