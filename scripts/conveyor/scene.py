"""Renders machine parts on a conveyor belt, and knows exactly what it rendered.

A scene is a value: the belt, the lamp, the camera and the parts, bottom-most first. `render` turns
it into a frame of 480 x 640 RGB uint8 and the truth about it.

The truth about a part is taken from its rendered mask. A pixel belongs to a part when the part
covers at least half of it and no later part does too; the part's visible pixels are those in the
frame. Its box is (x1, y1, x2, y2) in absolute pixels around them, from pixel edge to pixel edge, so
x2 and y2 are exclusive.
`visible_fraction` is visible over all pixels, had nothing hidden it. Below `IGNORE_BELOW` a part is
marked `ignore`: no detector is taught to find it, and finding or missing it counts for nothing.
A part of which nothing is visible has no truth at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from scripts.conveyor.belt import Belt, belt_image, lay_rails
from scripts.conveyor.parts import Floats, Light, Part, Sprite, sprite_of

WIDTH_PX, HEIGHT_PX = 640, 480
IGNORE_BELOW = 0.25


@dataclass(frozen=True, slots=True)
class Camera:
    """What happens between the light and the pixel values; blurs are in pixels."""

    exposure: float
    cast_rgb: tuple[float, float, float]
    gradient_xy: tuple[float, float]
    vignette: float
    motion_blur_px: int
    focus_blur_px: float
    noise: float
    noise_seed: int


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything a frame depends on; the same scene renders the same pixels."""

    belt: Belt
    light: Light
    camera: Camera
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class PartTruth:
    """What is true of one visible part; the module's docstring defines the words."""

    box_xyxy: tuple[float, float, float, float]
    type: str
    finish: str
    visible_fraction: float
    ignore: bool


def render(scene: Scene) -> tuple[NDArray[np.uint8], list[PartTruth]]:
    """The frame, (480, 640, 3) RGB uint8, and the truth about each part visible in it."""
    canvas = belt_image(scene.belt, WIDTH_PX, HEIGHT_PX)
    owner = np.full((HEIGHT_PX, WIDTH_PX), -1, np.int32)
    totals: list[int] = []
    for index, part in enumerate(scene.parts):
        sprite = sprite_of(part, scene.light)
        _cast_shadow(canvas, sprite, scene.light, part.size_px)
        _lay(canvas, sprite)
        totals.append(_claim(owner, sprite, index))
    return _photograph(canvas, scene), _truths(scene.parts, owner, totals)


def mask_of(part: Part, light: Light) -> NDArray[np.bool_]:
    """The pixels of the frame that this part alone would own, (480, 640) bool."""
    owner = np.full((HEIGHT_PX, WIDTH_PX), -1, np.int32)
    _claim(owner, sprite_of(part, light), 0)
    return np.equal(owner, 0)


def _window(left: int, top: int, height: int, width: int) -> tuple[slice, slice, slice, slice]:
    """Frame rows and columns covered by a patch, then the patch's own rows and columns."""
    y1, y2 = min(max(top, 0), HEIGHT_PX), min(max(top + height, 0), HEIGHT_PX)
    x1, x2 = min(max(left, 0), WIDTH_PX), min(max(left + width, 0), WIDTH_PX)
    return slice(y1, y2), slice(x1, x2), slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)


def _lay(canvas: Floats, sprite: Sprite) -> None:
    rows, columns, own_rows, own_columns = _window(sprite.left, sprite.top, *sprite.alpha_hw.shape)
    canvas[rows, columns] *= 1.0 - sprite.alpha_hw[own_rows, own_columns, None]
    canvas[rows, columns] += sprite.rgb_hwc[own_rows, own_columns]


def _claim(owner: NDArray[np.int32], sprite: Sprite, index: int) -> int:
    """Writes `index` where the part covers at least half of a pixel; all such pixels' number."""
    covered = sprite.alpha_hw >= 0.5
    rows, columns, own_rows, own_columns = _window(sprite.left, sprite.top, *covered.shape)
    owner[rows, columns][covered[own_rows, own_columns]] = index
    return int(covered.sum())


def _cast_shadow(canvas: Floats, sprite: Sprite, light: Light, size_px: float) -> None:
    """Darkens the belt, and parts already lying there, on the side away from the lamp."""
    length_px = 0.05 * size_px / math.tan(light.elevation_rad) + 2.0
    shift_x, shift_y = (
        -math.cos(light.azimuth_rad) * length_px,
        -math.sin(light.azimuth_rad) * length_px,
    )
    softness_px, pad = 1.5 + 0.35 * length_px, math.ceil(2.5 * length_px) + 6
    coverage = cv2.copyMakeBorder(sprite.alpha_hw, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    moved = np.array(((1, 0, shift_x), (0, 1, shift_y)), np.float32)
    size = (coverage.shape[1], coverage.shape[0])
    cast = cv2.GaussianBlur(cv2.warpAffine(coverage, moved, size), (0, 0), softness_px)
    contact = cv2.GaussianBlur(coverage, (0, 0), 3.0)
    dark = 1.0 - np.clip(0.5 * cast + 0.3 * contact, 0.0, 0.75)
    rows, columns, own_rows, own_columns = _window(sprite.left - pad, sprite.top - pad, *dark.shape)
    canvas[rows, columns] *= dark[own_rows, own_columns, None]


def _truths(
    parts: tuple[Part, ...], owner: NDArray[np.int32], totals: list[int]
) -> list[PartTruth]:
    truths = []
    for index, (part, total) in enumerate(zip(parts, totals, strict=True)):
        ys, xs = np.nonzero(owner == index)
        if len(xs) == 0:
            continue
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        fraction = len(xs) / total
        truths.append(PartTruth(box, part.type, part.finish, fraction, fraction < IGNORE_BELOW))
    return truths


def _photograph(canvas: Floats, scene: Scene) -> NDArray[np.uint8]:
    """What the camera makes of the light: motion blur, lighting, focus, noise, 8 bits."""
    camera = scene.camera
    if camera.motion_blur_px > 1:
        along = (camera.motion_blur_px, 1)
        canvas[:] = cv2.blur(canvas, along, borderType=cv2.BORDER_REPLICATE)
    lay_rails(canvas, scene.belt)
    canvas *= _brightness(camera)[..., None] * np.array(camera.cast_rgb, np.float32)
    canvas[:] = cv2.GaussianBlur(canvas, (0, 0), camera.focus_blur_px)
    rng = np.random.default_rng(camera.noise_seed)
    grain = rng.standard_normal(canvas.shape, np.float32)
    # Shot noise grows with the light, read-out noise does not.
    canvas += grain * (camera.noise * np.sqrt(0.25 + np.maximum(canvas, 0.0)))
    bright = np.maximum(canvas - 0.8, 0.0)
    # Highlights roll off instead of clipping hard.
    canvas -= bright - 0.2 * np.tanh(bright / 0.2)
    levels: NDArray[np.float32] = np.rint(np.clip(canvas, 0.0, 1.0) * 255.0)
    return levels.astype(np.uint8)


def _brightness(camera: Camera) -> Floats:
    """The lamp's unevenness times the exposure, (480, 640) float32."""
    x = np.linspace(-1.0, 1.0, WIDTH_PX, dtype=np.float32)[None, :]
    y = np.linspace(-0.75, 0.75, HEIGHT_PX, dtype=np.float32)[:, None]
    uneven = 1.0 + camera.gradient_xy[0] * x + camera.gradient_xy[1] * y
    return (camera.exposure * uneven * (1.0 - camera.vignette * (x * x + y * y))).astype(np.float32)
