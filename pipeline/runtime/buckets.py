"""Batch sizes that are fixed in advance, so that what is made for a size is made once, at start-up.

A compiled graph, a recorded CUDA graph or a library's choice of kernels is good for one size only.
Live batches have any size. So each is cut into pieces of a few sizes, the last one filled up.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

CPU_SIZES = (1, 8)
"""On a CPU the time a picture hardly falls beyond 8 together, and each size costs a compilation."""


class Piece(NamedTuple):
    """Items `start` to `stop` of a batch, to be filled up to `size`."""

    start: int
    stop: int
    size: int


def batch_sizes(device: torch.device, most: int) -> tuple[int, ...]:
    """What to compile for, ascending. On CUDA 1, 2, 4, 8, … and `most`, where filling up is cheap.

    `most` is the largest batch that comes.
    """
    if device.type == "cpu":
        return tuple(size for size in CPU_SIZES if size <= most)
    doubling = (1 << power for power in range(most.bit_length()))
    return (*(size for size in doubling if size < most), most)


def pieces(count: int, sizes: Sequence[int]) -> Iterator[Piece]:
    """The batch cut up: each time the largest size of which more than half would be filled.

    Where there is none, the smallest.
    """
    start = 0
    while start < count:
        rest = count - start
        size = max((size for size in sizes if 2 * rest > size), default=min(sizes))
        yield Piece(start, min(start + size, count), size)
        start += size
