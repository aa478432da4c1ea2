"""Any batch is cut into pieces of a few sizes, in order, none of them nearly empty."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime import Precision, RuntimeName
from pipeline.runtime.batch import InSizes
from pipeline.runtime.buckets import batch_sizes, pieces
from tests.computing import CPU

CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, (1,)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))]
)
def test_on_cuda_the_sizes_double_up_to_the_largest_batch(most: int, sizes: object) -> None:
    assert batch_sizes(CUDA, most) == sizes


def test_on_the_cpu_there_are_two_at_most() -> None:
    assert batch_sizes(CPU, 64) == (1, 8)
    assert batch_sizes(CPU, 7) == (1,)


@given(st.integers(0, 300), st.sampled_from([(1,), (4,), (1, 8), (1, 2, 4, 6), (1, 2, 4, 8, 64)]))
def test_pieces_are_the_whole_batch_in_order(count: int, sizes: tuple[int, ...]) -> None:
    cut = list(pieces(count, sizes))
    assert [index for piece in cut for index in range(piece.start, piece.stop)] == [*range(count)]
    for piece in cut:
        assert piece.size in sizes
        assert piece.stop - piece.start <= piece.size
        assert 2 * (piece.stop - piece.start) > piece.size or piece.size == sizes[0]


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (3, [4]), (5, [8]), (8, [8]), (9, [8, 1]), (11, [8, 4])]
)
def test_a_batch_between_two_sizes_is_filled_up(count: int, sizes: list[int]) -> None:
    assert [piece.size for piece in pieces(count, (1, 2, 4, 8))] == sizes


class Counting:
    """A network that doubles, and remembers the sizes that came."""

    runtime: RuntimeName = "onnxruntime"
    precision: Precision = "float32"
    input_shape = (None, 1)
    output_names = ("doubled",)

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """The batch times two."""
        self.sizes.append(len(batch))
        return [batch * 2]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_a_network_sees_only_its_sizes_and_gives_what_it_would_have(counts: list[int]) -> None:
    inner = Counting()
    network = InSizes(inner, (1, 2, 4, 8))
    for count in counts:
        batch = np.arange(count, dtype=np.float32)[:, None]
        assert np.array_equal(network.run(batch)[0], batch * 2)
    assert set(inner.sizes) <= {1, 2, 4, 8}
