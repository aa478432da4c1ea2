"""The text head: from a picture to the lines of text in it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from contracts.messages import ModelIdentity
from contracts.quads import Quad

if TYPE_CHECKING:
    from contracts.frame import ImageHWC


class Line(NamedTuple):
    """A line of text, how sure the reader is of its letters, and where it stands."""

    text: str
    score: float
    quad: Quad
    """In pixels of the picture that was read."""


class TextReader(Protocol):
    """Loaded, used by the inference thread only."""

    @property
    def identity(self) -> ModelIdentity:
        """Which weights speak."""
        ...

    def read(self, image_hwc: "ImageHWC") -> Sequence[Line]:
        """The lines in the picture, (H, W, 3) uint8 RGB of any size, from top to bottom.

        Empty where there are none. Raises InferenceError.
        """
        ...
