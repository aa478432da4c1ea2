"""torchvision's own transform of pictures for its detectors, for frames and for fixed canvases."""

from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

BOXES = ("boxes", "scores", "labels")
"""What every detector of the library gives."""

Size = tuple[int, int]
"""(height, width)."""


class FrameTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """The library's transform of uint8 frames, one frame at a time, resized before normalised.

    Bilinear resizing is linear, so the order makes no difference but rounding. A frame is never
    held as a full-size normalised picture more than once.
    """

    canvases: tuple[Size, ...] = ()
    """Where given, a batch is padded to the first of these that holds it, not just to itself."""

    def normalize(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 to float32 in [0, 1]; normalising waits until it is small."""
        return image.float().div_(255)

    def resize(self, image: Tensor, target: None = None) -> tuple[Tensor, None]:
        """Resized as the model wants it, then normalised."""
        resized, _ = super().resize(image, target)
        return super().normalize(resized), None

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """(B, 3, H, W), each picture at the top left and zeros around it."""
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        for canvas in self.canvases:
            if height <= canvas[0] and width <= canvas[1]:
                batch = images[0].new_zeros((len(images), 3, *canvas))
                for place, image in zip(batch, images, strict=True):
                    place[:, : image.shape[1], : image.shape[2]] = image
                return batch
        as_the_library_does: Tensor = super().batch_images(images, size_divisible)
        return as_the_library_does

    def postprocess(
        self, result: list[dict[str, Tensor]], *sizes: list[Size]
    ) -> list[dict[str, Tensor]]:
        """Boxes in pixels of the original frames. Masks stay small: each would be a whole frame."""
        boxes_only = [{key: found[key] for key in BOXES} for found in result]
        pairs = zip(super().postprocess(boxes_only, *sizes), result, strict=True)
        return [{**whole, **found, "boxes": whole["boxes"]} for whole, found in pairs]


def frame_transform(library: GeneralizedRCNNTransform) -> FrameTransform:
    """Does what the model's own transform does, with the same sizes, mean and deviation."""
    return FrameTransform(
        library.min_size,
        library.max_size,
        library.image_mean,
        library.image_std,
        library.size_divisible,
        library.fixed_size,
    )


def canvases_of(transform: FrameTransform) -> tuple[Size, ...]:
    """The few sizes that hold every frame: the fixed one, or one for wide, tall and mixed batches.

    A frame is scaled until its shorter side has `min_size` pixels or its longer one `max_size`.
    """
    if transform.fixed_size:
        width, height = transform.fixed_size
        return ((height, width),)
    multiple = transform.size_divisible
    short, long = (
        -(-side // multiple) * multiple for side in (transform.min_size[-1], transform.max_size)
    )
    return ((short, long), (long, short), (long, long))
