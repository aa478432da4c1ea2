"""Crops of many frames become one tensor, resized and normalised as the classifier was trained.

torchvision's `ImageClassification` transform resizes a picture's shorter side to `resize_size`
(antialiased), cuts the centre out and normalises it. Resizing is linear and separable: it is one
small matrix for the rows and one for the columns. So all crops, whatever their sizes, go through
two batched matrix products at once, and only the pixels that the centre is made of are touched.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from pydantic import TypeAdapter
from torch import Tensor

from contracts.boxes import BoxXYXY

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

WINDOW_BYTES_AT_ONCE = 64 * 2**20
"""Crops are resampled in groups that take no more than this as float32, or one by one."""


@dataclasses.dataclass(frozen=True)
class CropTransform:
    """How a classifier wants its crops. `mean` and `std` are of values in [0, 1], in RGB order."""

    resize_size: int
    crop_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


def stated_transform(fields: Mapping[str, Any]) -> CropTransform:
    """The transform that these fields state. Raises TypeError or ValueError where it is none."""
    # The call refuses unknown fields, which the adapter passes over; the adapter looks at types.
    return TypeAdapter(CropTransform).validate_python(dataclasses.asdict(CropTransform(**fields)))


class CropBox(NamedTuple):
    """Which pixels to cut: a box in the picture at this index of the batch."""

    image_index: int
    box_xyxy: BoxXYXY


class _Axis(NamedTuple):
    """One crop along one axis: which of its pixels are read, and how they become `crop_size`."""

    start: int
    """First pixel read, in the picture."""
    stop: int
    """One past the last pixel read, in the picture."""
    low: int
    """First pixel of the crop itself, in the picture."""
    size: int
    """Pixels of the crop itself."""
    scale: float
    """Crop pixels for each output pixel."""
    skipped: int
    """Output pixels that the centre cut leaves out before the first."""


def pixel_bounds(box_xyxy: BoxXYXY) -> tuple[int, int, int, int]:
    """The whole pixels that the box touches: (x1, y1, x2, y2), x2 and y2 exclusive."""
    x1, y1, x2, y2 = box_xyxy
    return int(x1), int(y1), -int(-x2 // 1), -int(-y2 // 1)


def crop(
    images_hwc: Sequence["ImageHWC"],
    boxes: Sequence[CropBox],
    transform: CropTransform,
    device: torch.device,
) -> Tensor:
    """(K, 3, crop_size, crop_size) float32 on the device, one a box, in their order.

    Boxes lie inside their pictures (`contracts.boxes.clamp_box`). Pictures are (H, W, 3) uint8 RGB
    and may differ in size.
    """
    plans = [_plan(box, transform) for box in boxes]
    parts: list[Tensor] = []
    for group in _groups(plans):
        first = sum(len(part) for part in parts)
        pictures = [images_hwc[box.image_index] for box in boxes[first : first + len(group)]]
        parts.append(_resample(pictures, group, transform, device))
    pixels = torch.cat(parts) if parts else torch.empty(0, 3, *[transform.crop_size] * 2)
    return _normalise(pixels.to(device), transform)


def _plan(box: CropBox, transform: CropTransform) -> tuple[_Axis, _Axis]:
    """The crop's rows and its columns."""
    x1, y1, x2, y2 = pixel_bounds(box.box_xyxy)
    width, height = x2 - x1, y2 - y1
    short = min(width, height)
    # torchvision rounds the longer side down (_compute_resized_output_size).
    to_width, to_height = (int(transform.resize_size * side / short) for side in (width, height))
    return _axis(y1, height, to_height, transform), _axis(x1, width, to_width, transform)


def _axis(low: int, size: int, resized: int, transform: CropTransform) -> _Axis:
    scale = size / resized
    reach = _support(transform) * max(scale, 1.0)
    skipped = round((resized - transform.crop_size) / 2)
    first_centre = scale * (skipped + 0.5)
    last_centre = scale * (skipped + transform.crop_size - 0.5)
    start = max(int(first_centre - reach), 0)
    stop = min(int(last_centre + reach) + 1, size)
    return _Axis(low + start, low + stop, low, size, scale, skipped)


def _groups(plans: list[tuple[_Axis, _Axis]]) -> Iterator[list[tuple[_Axis, _Axis]]]:
    """The plans in order, cut where a group's padded windows would pass WINDOW_BYTES_AT_ONCE."""
    group: list[tuple[_Axis, _Axis]] = []
    for plan in plans:
        if group and _window_bytes([*group, plan]) > WINDOW_BYTES_AT_ONCE:
            yield group
            group = []
        group.append(plan)
    if group:
        yield group


def _window_bytes(group: list[tuple[_Axis, _Axis]]) -> int:
    rows, columns = _window_size(group)
    return len(group) * rows * columns * 3 * 4


def _window_size(group: list[tuple[_Axis, _Axis]]) -> tuple[int, int]:
    """Rows and columns of the largest window."""
    rows, columns = zip(*group, strict=True)
    return max(a.stop - a.start for a in rows), max(a.stop - a.start for a in columns)


def _resample(
    pictures: list["ImageHWC"],
    group: list[tuple[_Axis, _Axis]],
    transform: CropTransform,
    device: torch.device,
) -> Tensor:
    """(K, 3, S, S) float32, values 0 to 255."""
    rows, columns = _window_size(group)
    windows = torch.zeros(len(group), rows, columns, 3, dtype=torch.uint8)
    for window, picture, (y, x) in zip(windows, pictures, group, strict=True):
        cut = torch.from_numpy(picture[y.start : y.stop, x.start : x.stop])
        window[: cut.shape[0], : cut.shape[1]] = cut
    pixels = windows.to(device, non_blocking=True).float()
    from_rows = _matrices([y for y, _ in group], rows, transform).to(device)
    from_columns = _matrices([x for _, x in group], columns, transform).to(device)
    size = transform.crop_size
    upright = from_rows @ pixels.view(len(group), rows, columns * 3)
    by_channel = upright.view(len(group), size, columns, 3).permute(0, 3, 1, 2)
    return by_channel @ from_columns.transpose(1, 2).unsqueeze(1)


def _matrices(axes: list[_Axis], length: int, transform: CropTransform) -> Tensor:
    """(K, crop_size, length) float32: each output pixel's weights over the window's pixels.

    The weights are those of torch's antialiased resizing: the kernel, stretched by the scale when
    shrinking, at the distance between pixel centres, over the crop's own pixels only, summing to 1.
    """
    plan = torch.tensor(axes, dtype=torch.float32)
    start, low, crop_pixels, scale, skipped = (plan[:, [i], None] for i in (0, 2, 3, 4, 5))
    centre = scale * (skipped + torch.arange(transform.crop_size)[:, None] + 0.5)
    pixel = start - low + torch.arange(length)
    weights = _kernel((pixel + 0.5 - centre) / scale.clamp(min=1), transform)
    weights = torch.where(pixel < crop_pixels, weights, 0.0)
    return weights / weights.sum(dim=2, keepdim=True)


def _support(transform: CropTransform) -> int:
    """The kernel is zero from this distance on."""
    return 2 if transform.interpolation == "bicubic" else 1


def _kernel(distance: Tensor, transform: CropTransform) -> Tensor:
    """Triangle, or Keys' cubic with a = -0.5, which torch and Pillow take when they antialias."""
    d = distance.abs()
    if transform.interpolation == "bilinear":
        return (1 - d).clamp(min=0)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, 0.0))


def _normalise(pixels: Tensor, transform: CropTransform) -> Tensor:
    """In place, from 0..255 to the classifier's range. Bicubic overshoot is cut off.

    First to whole grey levels, half a level up, as the library's pictures are: some networks look
    so closely that they name a small object differently without.
    """
    mean, std = (
        torch.tensor(v, device=pixels.device)[:, None, None]
        for v in (transform.mean, transform.std)
    )
    return pixels.add_(0.5).floor_().clamp_(0, 255).div_(255).sub_(mean).div_(std)
