"""The part types and the finishes: how one machine part looks from straight above.

A part's silhouette is a list of polygons in its own frame, where its longest extent is about 1 and
the origin its middle: the first polygon is the outside, the others are holes. Its relief is a
height in the same unit, from which the shading takes its normals. Everything random about a part
comes from its own seed, so that the same part looks the same in every frame of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Outline = list[Floats]
Relief = Callable[[Floats, Floats], Floats]

PART_TYPES = ("nut", "washer", "bolt", "gear", "bracket")
FINISHES = ("steel", "brass", "copper", "blackened")


@dataclass(frozen=True, slots=True)
class Part:
    """One part on the belt; its centre is in frame pixels, the first of which covers [0, 1)."""

    type: str
    finish: str
    center_xy: tuple[float, float]
    size_px: float
    angle_rad: float
    seed: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A silhouette, its height map, and whether its surface was turned (rings) or drawn (lines)."""

    outline: Outline
    relief: Relief
    turned: bool


def circle(radius: float, center_x: float = 0.0, center_y: float = 0.0, points: int = 72) -> Floats:
    """A circle as a polygon, (points, 2) float32."""
    turn = np.linspace(0.0, 2.0 * math.pi, points, endpoint=False)
    return np.stack(
        (center_x + radius * np.cos(turn), center_y + radius * np.sin(turn)), axis=1
    ).astype(np.float32)


def _nut(rng: np.random.Generator) -> Shape:
    hole = 0.5 * rng.uniform(0.46, 0.58)

    def relief(u: Floats, v: Floats) -> Floats:
        r = np.hypot(u, v)
        # The corners are chamfered by a cone, and the thread begins with a countersink.
        fall = -0.55 * np.maximum(r - 0.415, 0.0) - 0.8 * np.maximum(hole * 1.16 - r, 0.0)
        return fall.astype(np.float32)

    return Shape([circle(0.5, points=6), circle(hole)], relief, turned=False)


def _washer(rng: np.random.Generator) -> Shape:
    hole = 0.5 * rng.uniform(0.42, 0.64)

    def relief(u: Floats, v: Floats) -> Floats:
        return (-0.3 * np.maximum(np.hypot(u, v) - 0.46, 0.0)).astype(np.float32)

    return Shape([circle(0.5), circle(hole)], relief, turned=True)


def _bolt(rng: np.random.Generator) -> Shape:
    head_length, head_half = rng.uniform(0.18, 0.25), rng.uniform(0.19, 0.25)
    shaft_half, pitch = head_half * rng.uniform(0.48, 0.6), rng.uniform(0.036, 0.05)
    neck, thread_start = -0.5 + head_length, -0.5 + head_length + rng.uniform(0.05, 0.2)
    crests = np.arange(thread_start, 0.46, pitch / 2)
    bite = np.where(np.arange(len(crests)) % 2 == 0, shaft_half, shaft_half - 0.016)
    upper = [(-0.5, head_half * 0.86), (-0.475, head_half), (neck, head_half), (neck, shaft_half)]
    upper += [*zip(crests.tolist(), bite.tolist(), strict=True), (0.5, shaft_half * 0.72)]
    outline = np.array(upper + [(u, -v) for u, v in reversed(upper)], np.float32)

    def relief(u: Floats, v: Floats) -> Floats:
        shaft = np.sqrt(np.maximum(shaft_half**2 - v * v, 0.0))
        ridge = 0.006 * np.sin((u + 0.12 * v) * (2.0 * math.pi / pitch)) * (u > thread_start)
        head = head_half - 0.62 * np.maximum(np.abs(v) - head_half * 0.5, 0.0)
        return np.where(u < neck, head, shaft + ridge).astype(np.float32)

    return Shape([outline], relief, turned=False)


def _gear(rng: np.random.Generator) -> Shape:
    teeth, root = int(rng.integers(11, 20)), 0.5 * rng.uniform(0.78, 0.83)
    bore, hub = rng.uniform(0.08, 0.13), rng.uniform(0.17, 0.21)
    step = 2.0 * math.pi / teeth
    profile = ((-0.32, root), (-0.16, 0.5), (0.16, 0.5), (0.32, root))
    corners = [(k * step + a * step, r) for k in range(teeth) for a, r in profile]
    outline = np.array([(r * math.cos(a), r * math.sin(a)) for a, r in corners], np.float32)
    holes = [circle(bore)]
    spokes = int(rng.choice((0, 0, 4, 5, 6)))
    holes += [
        circle(0.048, 0.285 * math.cos(a), 0.285 * math.sin(a), points=28)
        for a in np.arange(spokes) * (2.0 * math.pi / max(spokes, 1))
    ]

    def relief(u: Floats, v: Floats) -> Floats:
        r = np.hypot(u, v)
        # A hub and a rim stand above the web between them.
        web = np.clip((r - hub) / 0.025, 0.0, 1.0) * np.clip((root - 0.055 - r) / 0.025, 0.0, 1.0)
        return (-0.028 * web).astype(np.float32)

    return Shape([outline, *holes], relief, turned=True)


def _bracket(rng: np.random.Generator) -> Shape:
    arm, width = rng.uniform(0.78, 0.96), rng.uniform(0.27, 0.34)
    hole = width * rng.uniform(0.2, 0.27)
    # The L lies in its bounding box, whose middle is the origin; free corners are cut off.
    x0, y0, x1, y1, cut = -0.48, -0.5 * arm, 0.48, 0.5 * arm, 0.035
    ell = [(x0 + cut, y0), (x0 + width, y0), (x0 + width, y1 - width), (x1, y1 - width)]
    ell += [(x1, y1 - cut), (x1 - cut, y1), (x0 + cut, y1), (x0, y1 - cut), (x0, y0 + cut)]
    first = circle(hole, x0 + width / 2, y0 + width * 0.6, points=36)
    second = circle(hole, x1 - width * 0.6, y1 - width / 2, points=36)
    return Shape([np.array(ell, np.float32), first, second], _flat, turned=False)


def _flat(u: Floats, _v: Floats) -> Floats:
    return np.zeros_like(u)


SHAPES: dict[str, Callable[[np.random.Generator], Shape]] = {
    "nut": _nut,
    "washer": _washer,
    "bolt": _bolt,
    "gear": _gear,
    "bracket": _bracket,
}


@dataclass(frozen=True, slots=True)
class Finish:
    """How a surface answers light; the strengths are relative to a white matt surface."""

    albedo_rgb: tuple[float, float, float]
    diffuse: float
    reflect: float
    specular: float
    gloss: float
    streaks: float
    blotches: float
    worn_edge: float


_FINISH = {
    "steel": Finish((0.60, 0.62, 0.65), 0.55, 0.50, 0.75, 34.0, 0.10, 0.05, 0.10),
    "brass": Finish((0.76, 0.60, 0.27), 0.60, 0.45, 0.65, 28.0, 0.06, 0.06, 0.08),
    "copper": Finish((0.70, 0.42, 0.30), 0.60, 0.42, 0.55, 24.0, 0.06, 0.12, 0.08),
    "blackened": Finish((0.125, 0.125, 0.14), 0.70, 0.55, 0.34, 14.0, 0.08, 0.20, 0.40),
}


@dataclass(frozen=True, slots=True)
class Light:
    """The lamp above the belt: where it stands, how hard it is, and the brightness it gives."""

    azimuth_rad: float
    elevation_rad: float
    ambient: float
    diffuse: float


@dataclass(frozen=True, slots=True)
class Sprite:
    """A rendered part: its coverage `alpha_hw` (0..1), and `rgb_hwc`, multiplied by it already.

    Both are float32; their first pixel is the frame's pixel (left, top).
    """

    left: int
    top: int
    rgb_hwc: Floats
    alpha_hw: Floats


_SUPERSAMPLE = 3
_SHIFT = 4  # cv2.fillPoly takes corners in sixteenths of a pixel


def sprite_of(part: Part, light: Light) -> Sprite:
    """Renders one part, lit by one lamp, supersampled and averaged down to frame pixels."""
    rng = np.random.default_rng(part.seed)
    shape = SHAPES[part.type](rng)
    reach = 0.66 * part.size_px + 2.0
    left, top = math.floor(part.center_xy[0] - reach), math.floor(part.center_xy[1] - reach)
    side = math.ceil(2.0 * reach) + 1
    u, v = _own_coordinates(part, left, top, side)
    mask = _mask_of(shape.outline, part, left, top, side)
    normal = _normals(shape.relief(u, v), mask, part.size_px)
    rgb = _shade(part, shape, light, (u, v), normal, rng)
    rgb_hwc = cv2.resize(rgb * mask[..., None], (side, side), interpolation=cv2.INTER_AREA)
    alpha_hw = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA)
    return Sprite(left, top, rgb_hwc.astype(np.float32), alpha_hw.astype(np.float32))


def _own_coordinates(part: Part, left: int, top: int, side: int) -> tuple[Floats, Floats]:
    """The part's own (u, v) at every supersampled pixel, two (side * 3, side * 3) float32."""
    step = (np.arange(side * _SUPERSAMPLE, dtype=np.float32) + 0.5) / _SUPERSAMPLE
    x = ((step + (left - part.center_xy[0])) / part.size_px)[None, :]
    y = ((step + (top - part.center_xy[1])) / part.size_px)[:, None]
    cos, sin = math.cos(part.angle_rad), math.sin(part.angle_rad)
    return (x * cos + y * sin).astype(np.float32), (y * cos - x * sin).astype(np.float32)


def _mask_of(outline: Outline, part: Part, left: int, top: int, side: int) -> Floats:
    """1 inside the silhouette and 0 outside, (side * 3, side * 3) float32."""
    mask = np.zeros((side * _SUPERSAMPLE, side * _SUPERSAMPLE), np.float32)
    cos, sin = math.cos(part.angle_rad), math.sin(part.angle_rad)
    turn = np.array(((cos, sin), (-sin, cos)), np.float32)
    middle = np.array(part.center_xy, np.float32) - (left, top)
    for value, polygon in zip((1.0, *[0.0] * len(outline)), outline, strict=False):
        corners = ((polygon * part.size_px) @ turn + middle) * _SUPERSAMPLE - 0.5
        cv2.fillPoly(mask, [np.rint(corners * 2**_SHIFT).astype(np.int32)], (value,), shift=_SHIFT)
    return mask


def _normals(relief: Floats, mask: Floats, size_px: float) -> tuple[Floats, Floats, Floats]:
    """Unit normals (x right, y down, z to the camera) of the relief with its edges rounded off."""
    rounding_px = max(1.5, 0.022 * size_px * _SUPERSAMPLE)
    edge = cv2.GaussianBlur(mask, (0, 0), rounding_px) * (1.5 * rounding_px)
    height = cv2.GaussianBlur(relief * (size_px * _SUPERSAMPLE), (0, 0), 1.0) + edge
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    z = 1.0 / np.sqrt(1.0 + slope_x**2 + slope_y**2)
    return -slope_x * z, -slope_y * z, z


def _shade(
    part: Part,
    shape: Shape,
    light: Light,
    own_uv: tuple[Floats, Floats],
    normal: tuple[Floats, Floats, Floats],
    rng: np.random.Generator,
) -> Floats:
    """The colour of the surface, (h, w, 3) float32, about 0..1.2 before the camera's exposure."""
    finish, (u, v), (nx, ny, nz) = _FINISH[part.finish], own_uv, normal
    x, y = math.cos(light.azimuth_rad), math.sin(light.azimuth_rad)
    level, rise = math.cos(light.elevation_rad), math.sin(light.elevation_rad)
    facing = np.maximum(nx * (x * level) + ny * (y * level) + nz * rise, 0.0)
    # The half vector between the lamp and the camera, which looks straight down.
    half = math.sqrt(2.0 * (1.0 + rise))
    glint = np.maximum((nx * (x * level) + ny * (y * level) + nz * (rise + 1.0)) / half, 0.0)
    # A long lamp mirrored in the metal: bright where the reflection leans its way.
    lean = 2.0 * nz * (nx * x + ny * y)
    mirrored = np.exp(-(((lean - 0.35) / 0.3) ** 2)) + 0.35 * lean
    tone = light.ambient + light.diffuse * finish.diffuse * facing + finish.reflect * mirrored
    worn = finish.worn_edge * 4.0 * np.clip(0.9 - nz, 0.0, 0.25)
    tone += _texture(finish, shape, u, v, rng) + worn
    slant = u * math.cos(part.seed) + v * math.sin(part.seed)
    tone *= 1.0 + rng.uniform(-0.1, 0.1) + rng.uniform(0.05, 0.3) * slant
    shine = (0.45 * light.diffuse * finish.specular) * glint**finish.gloss
    return _colored(np.maximum(tone, 0.06), shine, finish, rng)


def _colored(tone: Floats, shine: Floats, finish: Finish, rng: np.random.Generator) -> Floats:
    """The metal's colour where it scatters light, half of it where it mirrors the lamp."""
    variation = 1.0 + rng.normal(0.0, 0.025, 3).astype(np.float32)
    albedo = np.array(finish.albedo_rgb, np.float32) * variation
    mirror = (0.5 + 0.5 * albedo / albedo.max()).astype(np.float32)
    color: Floats = tone[..., None] * albedo + shine[..., None] * mirror
    return color


def _texture(
    finish: Finish, shape: Shape, u: Floats, v: Floats, rng: np.random.Generator
) -> Floats:
    """Machining streaks, along a line or around the middle, and blotches; fixed to the part."""
    across = np.hypot(u, v) * 1.2 if shape.turned else v + 0.6
    grooves = rng.normal(0.0, finish.streaks, 128).astype(np.float32)
    streaks = grooves[np.clip(across * 106.0, 0, 127).astype(np.int32)]
    coarse = rng.normal(0.0, finish.blotches, (9, 9)).astype(np.float32)
    fine = rng.normal(0.0, finish.blotches * 0.5, (48, 48)).astype(np.float32)
    at_u, at_v = u + 0.7, v + 0.7
    blotches = cv2.remap(coarse, at_u * 5.7, at_v * 5.7, cv2.INTER_LINEAR)
    speckles = cv2.remap(fine, at_u * 33.0, at_v * 33.0, cv2.INTER_LINEAR)
    return streaks + blotches + speckles
