"""The generator renders what it says it rendered, and the same again from the same seed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.conveyor.make_clip import CLIP_SEED, FRAME_COUNT, FRAMES_PER_S, clip_frames, write_clip
from scripts.conveyor.parts import FINISHES, PART_TYPES, Part
from scripts.conveyor.scene import (
    HEIGHT_PX,
    IGNORE_BELOW,
    WIDTH_PX,
    PartTruth,
    Scene,
    mask_of,
    render,
)
from scripts.conveyor.staging import (
    CLIP_SEEDS,
    CLIP_SPEED_PX,
    HELD_OUT_SEEDS,
    TRAINING_SEEDS,
    clip_scenes,
    random_scene,
    random_still,
)

DEMO_CLIP = Path(__file__).parent.parent / "scripts" / "demo_clip"
MIDDLE_XY = (WIDTH_PX / 2, HEIGHT_PX / 2)


def scene_with(*parts: Part) -> Scene:
    return replace(random_scene(3), parts=parts)


def washer_at(x: float, y: float = HEIGHT_PX / 2, size_px: float = 100.0) -> Part:
    return Part("washer", "steel", (x, y), size_px, 0.0, seed=7)


def only_truth(part: Part) -> PartTruth:
    (truth,) = render(scene_with(part))[1]
    return truth


def test_same_seed_renders_the_same_pixels() -> None:
    first, second = random_still(11), random_still(11)
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]


def test_another_seed_renders_another_frame() -> None:
    assert not np.array_equal(random_still(11)[0], random_still(12)[0])


def test_a_frame_is_640_by_480_rgb_uint8() -> None:
    image_hwc, _ = random_still(1)
    assert image_hwc.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert image_hwc.dtype == np.uint8


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([TRAINING_SEEDS, HELD_OUT_SEEDS, CLIP_SEEDS]), st.integers(0, 999_999))
def test_boxes_are_ordered_and_lie_in_the_frame(seeds: range, nth: int) -> None:
    for truth in random_still(seeds[nth])[1]:
        x1, y1, x2, y2 = truth.box_xyxy
        assert 0 <= x1 < x2 <= WIDTH_PX
        assert 0 <= y1 < y2 <= HEIGHT_PX
        assert 0 < truth.visible_fraction <= 1
        assert truth.ignore == (truth.visible_fraction < IGNORE_BELOW)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(PART_TYPES),
    st.floats(40.0, 150.0),
    st.floats(-math.pi, math.pi),
    st.floats(0.0, WIDTH_PX),
    st.integers(0, 2**31 - 1),
)
def test_a_lone_part_is_tightly_enclosed_by_its_box(
    kind: str, size_px: float, angle_rad: float, x: float, seed: int
) -> None:
    part = Part(kind, "brass", (x, HEIGHT_PX / 2), size_px, angle_rad, seed)
    scene = scene_with(part)
    mask = mask_of(part, scene.light)
    x1, y1, x2, y2 = (int(edge) for edge in only_truth(part).box_xyxy)
    assert mask[y1:y2, x1:x2].sum() == mask.sum()
    for edge in (mask[y1, :], mask[y2 - 1, :], mask[:, x1], mask[:, x2 - 1]):
        assert edge.any()


@pytest.mark.parametrize("finish", FINISHES)
def test_the_pixels_that_a_part_changes_are_its_mask_and_its_shadow(finish: str) -> None:
    part = replace(washer_at(*MIDDLE_XY), finish=finish)
    scene = scene_with(part)
    quiet = replace(scene, camera=replace(scene.camera, noise=0.0, motion_blur_px=1))
    changed = (render(quiet)[0] != render(replace(quiet, parts=()))[0]).any(axis=2)
    assert changed[mask_of(part, scene.light)].mean() > 0.95
    far_away = np.ones_like(changed)
    far_away[120:360, 200:440] = False
    assert not changed[far_away].any()


def test_half_a_part_outside_the_frame_is_half_visible() -> None:
    truth = only_truth(washer_at(0.0))
    assert truth.visible_fraction == pytest.approx(0.5, abs=0.02)
    assert truth.box_xyxy[0] == 0.0


def test_a_part_is_ignored_below_a_quarter_and_not_at_a_quarter_or_above() -> None:
    truths = [only_truth(washer_at(x)) for x in np.arange(-40.0, 10.0, 2.5)]
    fractions = [truth.visible_fraction for truth in truths]
    assert fractions == sorted(fractions)
    assert [t.ignore for t in truths] == [f < IGNORE_BELOW for f in fractions]
    assert truths[0].ignore
    assert not truths[-1].ignore


def test_a_part_outside_the_frame_has_no_truth() -> None:
    assert render(scene_with(washer_at(-80.0)))[1] == []


def test_a_later_part_hides_an_earlier_one() -> None:
    under, over = washer_at(300.0), washer_at(340.0)
    truths = render(scene_with(under, over))[1]
    alone = only_truth(over)
    assert truths[1] == alone
    assert truths[0].visible_fraction < 0.9
    light = scene_with(under).light
    left = mask_of(under, light) & ~mask_of(over, light)
    assert truths[0].box_xyxy[2] == float(np.nonzero(left.any(axis=0))[0].max() + 1)


def test_a_part_under_an_equal_one_has_no_truth() -> None:
    assert len(render(scene_with(washer_at(300.0), washer_at(300.0)))[1]) == 1


def test_training_held_out_and_clip_seeds_are_disjoint() -> None:
    ranges = sorted((TRAINING_SEEDS, HELD_OUT_SEEDS, CLIP_SEEDS), key=lambda seeds: seeds.start)
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
    assert CLIP_SEED in CLIP_SEEDS


def test_a_clip_carries_its_parts_along_with_the_belt() -> None:
    first, second = clip_scenes(CLIP_SEED, 2, FRAMES_PER_S)
    before = {part.seed: part.center_xy for part in first.parts}
    both = [part for part in second.parts if part.seed in before]
    assert both
    assert second.belt.offset_px - first.belt.offset_px == CLIP_SPEED_PX
    for part in both:
        x, y = before[part.seed]
        assert part.center_xy == (x + CLIP_SPEED_PX, y)


def test_a_written_clip_decodes_to_as_many_frames_as_its_truth(tmp_path: Path) -> None:
    write_clip(tmp_path, frame_count=8)
    told = json.loads((tmp_path / "conveyor.truth.json").read_text())["frames"]
    assert decoded_pts_s(tmp_path / "conveyor.mp4") == pytest.approx(
        [f["pts_s"] for f in told], abs=1e-5
    )
    assert [frame["frame_index"] for frame in told] == list(range(8))


def decoded_pts_s(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time or 0.0) for frame in container.decode(video=0)]


def test_the_demo_clip_decodes_to_as_many_frames_as_its_truth() -> None:
    told = json.loads((DEMO_CLIP / "conveyor.truth.json").read_text())["frames"]
    times = decoded_pts_s(DEMO_CLIP / "conveyor.mp4")
    assert len(times) == FRAME_COUNT
    assert times == pytest.approx([frame["pts_s"] for frame in told], abs=1e-5)


def test_the_demo_clip_has_an_empty_stretch_of_a_second_and_fits_two_megabytes() -> None:
    told = json.loads((DEMO_CLIP / "conveyor.truth.json").read_text())["frames"]
    occupied = "".join("x" if frame["parts"] else "." for frame in told)
    assert "." * FRAMES_PER_S in occupied.strip(".")
    assert (DEMO_CLIP / "conveyor.mp4").stat().st_size <= 2_000_000


def test_the_demo_clip_tells_the_truth_about_the_frames_rendered_now() -> None:
    told = json.loads((DEMO_CLIP / "conveyor.truth.json").read_text())["frames"]
    with av.open(str(DEMO_CLIP / "conveyor.mp4")) as container:
        frames = islice(container.decode(video=0), 3)
        decoded = [frame.to_ndarray(format="rgb24") for frame in frames]
    for index, (image_hwc, truths) in enumerate(clip_frames(frame_count=3)):
        assert [part["box_xyxy"] for part in told[index]["parts"]] == [
            list(t.box_xyxy) for t in truths
        ]
        # Only compression lies between the two.
        error = np.abs(image_hwc.astype(np.int16) - decoded[index]).mean()
        assert error < 8.0
