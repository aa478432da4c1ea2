"""Whether what a torchvision detector computed are numbers.

The library keeps the boxes whose score is above a threshold. NaN is above none, so where a network
overflows the library finds nothing, and nothing looks like an empty scene. So its heads are looked
at before that, once a batch.
"""

from typing import Any

import torch
from torch import Tensor, nn


class FiniteWatch:
    """Looks at the heads of one model, batch after batch. Used by the inference thread only."""

    def __init__(self, model: nn.Module) -> None:
        """`model` has a `head`, or is an R-CNN with `rpn` and `roi_heads`."""
        self._broken: list[Tensor] = []
        self._rows = torch.empty(0)
        model.register_forward_pre_hook(self._begin)
        if not hasattr(model, "roi_heads"):
            model.get_submodule("head").register_forward_hook(self._see_pictures)
            return
        model.get_submodule("rpn.head").register_forward_hook(self._see_pictures)
        model.get_submodule("roi_heads.box_predictor").register_forward_hook(self._see_regions)
        model.get_submodule("roi_heads").register_forward_hook(self._split_regions)

    def broken(self) -> list[bool]:
        """For each picture of the batch that went through last: a head gave NaN or infinity."""
        broken: list[bool] = torch.stack(self._broken).any(dim=0).tolist()
        return broken

    def _begin(self, _module: nn.Module, _given: Any) -> None:
        self._broken = []

    def _see_pictures(self, _module: nn.Module, _given: Any, output: Any) -> None:
        """Each tensor is (B, …): a dictionary of them, or lists of them, a level each."""
        for value in output.values() if isinstance(output, dict) else output:
            for tensor in value if isinstance(value, list) else [value]:
                self._broken.append(_not_finite(tensor))

    def _see_regions(self, _module: nn.Module, _given: Any, output: tuple[Tensor, ...]) -> None:
        """Each tensor is (R, …), R the regions of all pictures."""
        self._rows = torch.stack([_not_finite(tensor) for tensor in output]).any(dim=0)

    def _split_regions(self, _module: nn.Module, given: tuple[Any, ...], _output: Any) -> None:
        """`given[1]` are the regions by picture."""
        by_picture = torch.split(self._rows, [len(regions) for regions in given[1]])
        self._broken.append(torch.stack([rows.any() for rows in by_picture]))


def _not_finite(tensor: Tensor) -> Tensor:
    """(B,) bool by the first dimension. A sum is not finite where one of its terms isn't."""
    return ~tensor.flatten(1).sum(dim=1).isfinite()
