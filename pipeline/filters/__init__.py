"""Safety filters: they judge what the models say of a frame, before anything of it leaves.

Every filter judges the whole of it, whatever the others withhold: none can hide an object from
another one, and their order matters to their counts only.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

from contracts.frame import Frame
from contracts.messages import Detection, FrameResult, ModelIdentity
from contracts.settings import Region

Part = Literal["detection", "class", "label", "text", "mask", "pixels"]


@dataclasses.dataclass(frozen=True, slots=True)
class Sight:
    """One frame, and all that is known of it."""

    frame: Frame
    result: FrameResult
    others: Sequence[Detection] = ()
    """What the detector found too and nobody asked for. Pictures show it all the same."""
    region: Region | None = None
    """Where the detector looked; None: everywhere."""

    @property
    def detections(self) -> Sequence[Detection]:
        """Those of the result first, in its order."""
        return (*self.result.detections, *self.others)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What one filter withholds of one frame."""

    positions: frozenset[int] = frozenset()
    """Among the sight's detections."""
    parts: frozenset[Part] = frozenset()
    """What of these is withheld."""
    unseen_too: bool = False
    """Where the detector did not look, pictures are blurred as well."""
    whole: Literal["block", "flag"] | None = None
    """The frame itself is withheld, or only said to match."""


class Filter(Protocol):
    """Loaded, used by the inference thread only."""

    @property
    def name(self) -> str:
        """Under which it is counted."""
        ...

    @property
    def by_label(self) -> bool:
        """Whether it needs labels, also where nobody else asks for them."""
        ...

    @property
    def identity(self) -> ModelIdentity | None:
        """Which weights speak, where it has a model of its own."""
        ...

    def judge(self, sights: Sequence[Sight]) -> Sequence[Verdict]:
        """One verdict a frame. What it can't judge it withholds, or raises."""
        ...
