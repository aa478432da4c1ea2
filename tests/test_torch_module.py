"""A module that torch computes: in other precisions, compiled for sizes that are known ahead."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contracts.errors import UnsupportedModel
from pipeline.runtime import Compute, Precision
from pipeline.runtime.torch_module import Part, TorchModule
from pipeline.runtime.torch_parts import compute_parts
from tests.computing import by


class Layer(nn.Module):
    """One convolution; what computed it is added to its output: 100 where it was compiled."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 8, 3, stride=2)
        self.sizes: list[int] = []

    def forward(self, pictures: Tensor) -> Any:
        """(B, 8, h, w)."""
        if torch.compiler.is_compiling():
            return self.layer(pictures) + 100
        self.sizes.append(len(pictures))
        return self.layer(pictures)


class Levels(nn.Module):
    """Two feature maps in, a dictionary out, as the heads of detectors have it."""

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        sums = torch.stack([level.sum(dim=(1, 2, 3)) for level in features]).sum(dim=0)
        return {"sum": sums, "first": features[0]}


def part(*sides: int, module: nn.Module | None = None) -> Part:
    return Part(module or Layer(), [torch.zeros(1, 3, side, side) for side in sides])


@pytest.fixture
def graphs() -> Iterator[Any]:
    """How many graphs the compiler has made since the test began."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


def test_frames_of_many_sizes_and_batches_are_compiled_for_once_at_the_start(
    graphs: Any,
) -> None:
    module = TorchModule("model", part(32, 48), by("compile"), compiled=True)
    assert graphs() == 2
    plain = Layer()
    for side in (32, 48):
        for count in (1, 2, 3, 7, 8, 20):
            pictures = torch.rand(count, 3, side, side)
            torch.testing.assert_close(module(pictures), plain(pictures) + 100)
    for side in range(50, 90):
        pictures = torch.rand(2, 3, side, side + 1)
        torch.testing.assert_close(module(pictures), plain(pictures))
    assert graphs() == 2


def test_pictures_of_one_size_are_compiled_for_one_and_for_eight(graphs: Any) -> None:
    module = TorchModule("model", part(32), by("compile", max_batch=8), compiled=True)
    assert graphs() == 2
    plain = Layer()
    for count in (1, 2, 5, 8, 9, 30):
        pictures = torch.rand(count, 3, 32, 32)
        torch.testing.assert_close(module(pictures), plain(pictures) + 100)
        with torch.inference_mode():
            assert module(pictures[:, :, :, :]).min() > 50
    assert module(torch.rand(0, 3, 32, 32)).shape[:2] == (0, 8)
    assert graphs() == 2


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_in_half_precision_the_output_is_float32_and_nearly_the_same(precision: Precision) -> None:
    module = TorchModule("model", part(32), by("torch", precision), compiled=False)
    pictures = torch.rand(3, 3, 32, 32)
    exact, half = Layer()(pictures), module(pictures)
    assert half.dtype == torch.float32
    difference = (half - exact).abs().max()
    assert 1e-5 < difference < 0.05


def test_a_list_of_features_gives_a_dictionary() -> None:
    features = [torch.rand(1, 4, 6, 6), torch.rand(1, 4, 3, 3)]
    module = TorchModule("model", Part(Levels(), [features]), by("compile"), compiled=True)
    together = [feature.repeat(11, 1, 1, 1) for feature in features]
    output = module(together)
    assert list(output) == ["sum", "first"]
    torch.testing.assert_close(output["first"], together[0])
    torch.testing.assert_close(output["sum"], Levels()(together)["sum"])


class Wrong(nn.Module):
    """Can't be computed at all."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures @ torch.zeros(7, 7)


def test_what_torch_cant_compute_is_unsupported() -> None:
    with pytest.raises(UnsupportedModel, match="model: torch can't compute it in bfloat16: "):
        TorchModule("model", part(32, module=Wrong()), by("torch", "bfloat16"), compiled=False)


def test_without_a_compiler_torch_computes_the_model_and_says_so(
    caplog: pytest.LogCaptureFixture, graphs: Any
) -> None:
    import torch._inductor.config

    layer = Layer()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        computed = compute_parts("layer 0", {"": part(20, module=layer)}, by("compile"))
    assert computed.runtime == "torch"
    assert computed.modules[""] is layer
    [warning] = [r.getMessage() for r in caplog.records if r.name == "framewire.pipeline"]
    assert warning.startswith(
        "runtime_fallback: layer: torch.compile can't compute it in float32: "
    )
    assert warning.endswith("; torch computes it")
    assert "\n" not in warning


def test_plain_torch_in_float32_is_the_module_itself() -> None:
    layer = Layer()
    computed = compute_parts("layer 0", {"": part(20, module=layer)}, by("torch"))
    assert (computed.modules[""], computed.runtime, computed.precision) == (
        *(layer, "torch", "float32"),
    )


def test_regions_are_never_compiled_and_take_any_number(graphs: Any) -> None:
    layer = Layer()
    regions = Part(layer, [torch.zeros(1, 3, 9, 9)], of_regions=True)
    module = TorchModule("model", regions, by("compile"), compiled=True)
    assert module(torch.rand(13, 3, 9, 9)).shape[0] == 13
    assert layer.sizes == [1, 13]
    assert graphs() == 0


@pytest.mark.cuda
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_cuda_a_recording_gives_what_the_module_gives(
    precision: Precision, compiled: bool
) -> None:
    device = torch.device("cuda")
    layer = Layer().to(device)
    example = torch.zeros(1, 3, 32, 32, device=device)
    compute = Compute(device, precision=precision)
    module = TorchModule("model", Part(layer, [example]), compute, compiled=compiled)
    layer.sizes.clear()
    kept: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for count in (1, 3, 8, 19, 3):
            pictures = torch.rand(count, 3, 32, 32, device=device)
            kept.append((pictures, module(pictures) - (100 if compiled else 0)))
    assert layer.sizes == []  # Replayed, not run.
    for pictures, output in kept:
        torch.testing.assert_close(output, layer(pictures), atol=0.2, rtol=0.05)
