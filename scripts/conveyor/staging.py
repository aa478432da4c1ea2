"""Decides what lies on the belt: stills to train and measure on, and a clip to show.

`random_still` draws every setting anew from its seed. `clip_scenes` keeps one belt, one lamp and
one camera, lets the brightness drift slowly, and lets the parts ride along.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scripts.conveyor.belt import Belt
from scripts.conveyor.parts import FINISHES, PART_TYPES, Light, Part
from scripts.conveyor.scene import HEIGHT_PX, WIDTH_PX, Camera, PartTruth, Scene, render

# Three ranges that never meet: what is trained on, what is measured on, and what is shown.
TRAINING_SEEDS = range(1_000_000)
HELD_OUT_SEEDS = range(2_000_000, 3_000_000)
CLIP_SEEDS = range(4_000_000, 5_000_000)

_SIZE_PX = {
    "nut": (58.0, 100.0),
    "washer": (58.0, 108.0),
    "bolt": (90.0, 150.0),
    "gear": (74.0, 140.0),
    "bracket": (84.0, 140.0),
}
# Where the clip's parts lie when it begins, in frame pixels. Nothing lies between them, and at
# this speed the frame stays empty for more than a second while the gap passes.
_CLIP_STRETCHES_PX = ((-260.0, 600.0), (-1920.0, -1220.0))
_CLIP_LOOP_PX = 1408
CLIP_SPEED_PX = 9


def random_still(seed: int) -> tuple[NDArray[np.uint8], list[PartTruth]]:
    """A frame with every setting drawn anew from the seed, and its truth."""
    return render(random_scene(seed))


def random_scene(seed: int) -> Scene:
    """The scene `random_still` renders."""
    rng = np.random.default_rng(seed)
    belt, light, camera = (
        _random_belt(rng, loop_px=WIDTH_PX),
        _random_light(rng),
        _random_camera(rng),
    )
    wanted = 0 if rng.random() < 0.04 else int(rng.integers(1, 10))
    return Scene(belt, light, camera, _scatter(rng, belt, wanted))


def _random_belt(rng: np.random.Generator, loop_px: int) -> Belt:
    grey = rng.uniform(0.15, 0.36)
    tint = rng.choice(((1.0, 1.0, 1.0), (0.94, 1.0, 1.08), (0.8, 1.12, 0.95), (0.78, 0.98, 1.22)))
    color = tuple(float(grey * t) for t in tint + rng.normal(0.0, 0.02, 3))
    railed = rng.random() < 0.6
    top, bottom = (int(n) if railed else 0 for n in rng.integers(10, 46, 2))
    return Belt(int(rng.integers(2**31)), (color[0], color[1], color[2]), loop_px, 0, top, bottom)


def _random_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(-math.pi, math.pi), rng.uniform(0.75, 1.25)
    return Light(azimuth, elevation, rng.uniform(0.28, 0.5), rng.uniform(0.7, 1.1))


def _random_camera(rng: np.random.Generator) -> Camera:
    red, green, blue = rng.normal(1.0, 0.035, 3)
    return Camera(
        exposure=rng.uniform(0.72, 1.3),
        cast_rgb=(red, green, blue),
        gradient_xy=(rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25)),
        vignette=rng.uniform(0.0, 0.22),
        motion_blur_px=int(rng.choice((1, 1, 3, 3, 5, 7))),
        focus_blur_px=rng.uniform(0.3, 1.0),
        noise=rng.uniform(0.006, 0.03),
        noise_seed=int(rng.integers(2**31)),
    )


def _random_part(rng: np.random.Generator, center_xy: tuple[float, float]) -> Part:
    kind = PART_TYPES[rng.integers(len(PART_TYPES))]
    finish = FINISHES[rng.integers(len(FINISHES))]
    size_px, angle_rad = rng.uniform(*_SIZE_PX[kind]), rng.uniform(-math.pi, math.pi)
    return Part(kind, finish, center_xy, size_px, angle_rad, int(rng.integers(2**31)))


def _scatter(rng: np.random.Generator, belt: Belt, wanted: int) -> tuple[Part, ...]:
    """Up to `wanted` parts that overlap a little at most; some reach over the frame's edge."""
    parts: list[Part] = []
    for _ in range(wanted * 4):
        if len(parts) == wanted:
            break
        center = (rng.uniform(-20.0, WIDTH_PX + 20.0), rng.uniform(-10.0, HEIGHT_PX + 10.0))
        part = _random_part(rng, center)
        if _clear_of_rails(part, belt) and all(_apart(part, other) for other in parts):
            parts.append(part)
    return tuple(parts)


def _clear_of_rails(part: Part, belt: Belt) -> bool:
    radius, y = part.size_px / 2.0 + 4.0, part.center_xy[1]
    above = not belt.rail_top_px or y - radius > belt.rail_top_px
    return above and (not belt.rail_bottom_px or y + radius < HEIGHT_PX - belt.rail_bottom_px)


def _apart(part: Part, other: Part) -> bool:
    """Whether two parts' surrounding circles leave each other most of their room."""
    return math.dist(part.center_xy, other.center_xy) > 0.39 * (part.size_px + other.size_px)


def clip_scenes(seed: int, frame_count: int, frames_per_s: float) -> Iterator[Scene]:
    """The scenes of a clip in order; the belt moves right by `CLIP_SPEED_PX` each frame."""
    rng = np.random.default_rng(seed)
    belt, light = _random_belt(rng, _CLIP_LOOP_PX), _random_light(rng)
    belt = replace(belt, color_rgb=(0.21, 0.27, 0.25), rail_top_px=30, rail_bottom_px=26)
    camera = replace(
        _random_camera(rng), exposure=1.05, motion_blur_px=3, focus_blur_px=0.5, noise=0.008
    )
    parts = _laid_out(rng, belt)
    for frame_index in range(frame_count):
        turn = 2.0 * math.pi * frame_index / frames_per_s
        drift = 1.0 + 0.04 * math.sin(turn / 7.0)
        yield Scene(
            replace(belt, offset_px=frame_index * CLIP_SPEED_PX),
            replace(light, azimuth_rad=light.azimuth_rad + 0.05 * math.sin(turn / 11.0)),
            replace(
                camera, exposure=camera.exposure * drift, noise_seed=camera.noise_seed + frame_index
            ),
            _carried(parts, frame_index * CLIP_SPEED_PX),
        )


def _laid_out(rng: np.random.Generator, belt: Belt) -> tuple[Part, ...]:
    """The parts of a whole clip, where they lie when it begins; one about every 70 px of belt."""
    parts: list[Part] = []
    for start_px, end_px in _CLIP_STRETCHES_PX:
        wanted, tries = len(parts) + round((end_px - start_px) / 70.0), 0
        while len(parts) < wanted and tries < 400:
            tries += 1
            part = _random_part(
                rng, (rng.uniform(start_px, end_px), rng.uniform(60.0, HEIGHT_PX - 60.0))
            )
            if _clear_of_rails(part, belt) and all(_apart(part, other) for other in parts):
                parts.append(part)
    return tuple(parts)


def _carried(parts: tuple[Part, ...], offset_px: int) -> tuple[Part, ...]:
    """The parts moved along with the belt, those far outside the frame left out."""
    moved = [replace(p, center_xy=(p.center_xy[0] + offset_px, p.center_xy[1])) for p in parts]
    return tuple(p for p in moved if -p.size_px < p.center_xy[0] < WIDTH_PX + p.size_px)
