"""The conveyor belt and its side rails, as a fixed overhead camera sees them without any part."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np

from scripts.conveyor.parts import Floats

_BLEND_PX = 96


@dataclass(frozen=True, slots=True)
class Belt:
    """The belt's look, and how far it has moved to the right; it repeats after `loop_px`."""

    seed: int
    color_rgb: tuple[float, float, float]
    loop_px: int
    offset_px: int
    rail_top_px: int
    rail_bottom_px: int


def belt_image(belt: Belt, width_px: int, height_px: int) -> Floats:
    """The belt where it is now, (height, width, 3) float32, about 0..1."""
    # A still as wide as its loop never shows where the loop closes.
    blend_px = _BLEND_PX if belt.loop_px > width_px else 0
    tone = _tone(belt.seed, belt.loop_px, blend_px, height_px)
    moved = np.roll(tone, belt.offset_px % belt.loop_px, axis=1)[:, :width_px]
    return (moved[..., None] * np.array(belt.color_rgb, np.float32)).astype(np.float32)


@functools.lru_cache(maxsize=2)
def _tone(seed: int, loop_px: int, blend_px: int, height_px: int) -> Floats:
    """How much lighter or darker than its colour the belt is, (height, loop) float32 around 1."""
    rng = np.random.default_rng(seed)
    tone = _closed(_rubber(rng, loop_px, loop_px + blend_px, height_px), loop_px)
    if blend_px or rng.random() < 0.55:
        _seam(tone, rng)
    return tone


def _closed(tone: Floats, loop_px: int) -> Floats:
    """The first `loop_px` columns, where those beyond them fade into the first ones."""
    beyond = tone[:, loop_px:]
    fade_in = np.linspace(0.0, 1.0, beyond.shape[1], dtype=np.float32)
    start = tone[:, : beyond.shape[1]]
    start += (beyond - start) * (1.0 - fade_in)
    return np.ascontiguousarray(tone[:, :loop_px])


def _rubber(rng: np.random.Generator, loop_px: int, width_px: int, height_px: int) -> Floats:
    """The belt without its seam, (height, width) float32 around 1."""
    tone = 1.0 + _noise(rng, (9, 18), (height_px, width_px), 0.06)
    tone += _noise(rng, (height_px // 3, 24), (height_px, width_px), 0.025)
    tone += _weave(rng, loop_px, width_px, height_px)
    tone += rng.normal(0.0, 0.03, tone.shape).astype(np.float32)
    _scratch(tone, rng)
    _stain(tone, rng)
    return tone


def _noise(
    rng: np.random.Generator, cells: tuple[int, int], shape: tuple[int, int], amount: float
) -> Floats:
    coarse = rng.normal(0.0, amount, cells).astype(np.float32)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC).astype(
        np.float32
    )


def _weave(rng: np.random.Generator, loop_px: int, width_px: int, height_px: int) -> Floats:
    """The diamond pattern pressed into the rubber; a whole number of diamonds fits the loop."""
    pitch_px, depth = rng.uniform(5.0, 11.0), rng.uniform(0.0, 0.06)
    around = 2.0 * math.pi * round(loop_px / pitch_px) / loop_px
    x = (np.arange(width_px, dtype=np.float32) * around)[None, :]
    y = (np.arange(height_px, dtype=np.float32) * around)[:, None]
    return (depth * np.cos(x + y) * np.cos(x - y)).astype(np.float32)


def _scratch(tone: Floats, rng: np.random.Generator) -> None:
    """Long light scuffs, nearly along the belt."""
    scuffs = np.zeros_like(tone)
    for _ in range(int(rng.integers(4, 14))):
        x, y = rng.uniform(0, tone.shape[1]), rng.uniform(0, tone.shape[0])
        length, drop = rng.uniform(30, 260), rng.normal(0.0, 6.0)
        ends = (int(x), int(y)), (int(x + length), int(y + drop))
        cv2.line(scuffs, *ends, rng.uniform(0.05, 0.3), 1, cv2.LINE_AA)
    tone += cv2.GaussianBlur(scuffs, (0, 0), 0.7)


def _stain(tone: Floats, rng: np.random.Generator) -> None:
    """Oil, as soft dark patches that are nobody's shadow."""
    oil = np.zeros_like(tone)
    for _ in range(int(rng.integers(0, 5))):
        middle = int(rng.uniform(0, tone.shape[1])), int(rng.uniform(0, tone.shape[0]))
        axes = int(rng.uniform(8, 50)), int(rng.uniform(6, 30))
        cv2.ellipse(oil, middle, axes, rng.uniform(0, 180), 0, 360, rng.uniform(0.08, 0.3), -1)
    tone *= 1.0 - cv2.GaussianBlur(oil, (0, 0), 4.0)


def _seam(tone: Floats, rng: np.random.Generator) -> None:
    """Where the belt's ends meet: a slanted dark joint held by a row of staples."""
    x, lean = rng.uniform(60, tone.shape[1] - 60), rng.uniform(-24, 24)
    height = tone.shape[0]
    cv2.line(tone, (int(x), 0), (int(x + lean), height), 0.55, 3, cv2.LINE_AA)
    cv2.line(tone, (int(x + 3), 0), (int(x + 3 + lean), height), 1.25, 1, cv2.LINE_AA)
    for y in np.arange(8.0, height, rng.uniform(18.0, 30.0)):
        at = x + lean * y / height
        cv2.line(tone, (int(at - 8), int(y)), (int(at + 10), int(y)), 1.7, 2, cv2.LINE_AA)


def lay_rails(canvas: Floats, belt: Belt) -> None:
    """Covers the belt's upper and lower edge with aluminium rails, which do not move."""
    if belt.rail_top_px:
        _lay_rail(canvas[: belt.rail_top_px + 14][::-1], belt.rail_top_px, belt.seed)
    if belt.rail_bottom_px:
        _lay_rail(canvas[-belt.rail_bottom_px - 14 :], belt.rail_bottom_px, belt.seed + 1)


def _lay_rail(strip: Floats, rail_px: int, seed: int) -> None:
    """Draws into a strip whose last row is the frame's edge: shadow, lip, brushed metal."""
    rng = np.random.default_rng(seed)
    shade = 1.0 - 0.6 * np.exp(-np.arange(13, -1, -1, dtype=np.float32) / 4.0)
    strip[:14] *= shade[:, None, None]
    rows = 0.5 + rng.normal(0.0, 0.035, rail_px).astype(np.float32)
    rows[:2] += 0.22
    rows[2:4] -= 0.18
    metal = rows[:, None] + rng.normal(0.0, 0.008, (rail_px, strip.shape[1])).astype(np.float32)
    strip[14:] = metal[..., None] * np.array((0.96, 0.98, 1.0), np.float32)
