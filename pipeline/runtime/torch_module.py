"""A module of a torch model as torch computes it: in less than float32, compiled, recorded.

On CUDA the channels lie last, as its convolutions want them, and where all pictures have one size
the work for a batch is recorded once for each size of batch, then replayed (`cuda_graph.py`).
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from contracts.errors import OutOfMemory, UnsupportedModel
from pipeline.runtime import Compute, Precision
from pipeline.runtime.buckets import Piece, batch_sizes, pieces
from pipeline.runtime.cuda_graph import Recording
from pipeline.runtime.failure import failure, first_line

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
MOST_GRAPHS = 256
"""Of one function that the compiler keeps. It stops compiling at 8, as a guard against shapes
without end; here their number is known."""

Given = Tensor | list[Tensor]

log = logging.getLogger("framewire.pipeline")


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A module to be computed by a runtime, and what it will be given."""

    module: nn.Module
    examples: Sequence[Given]
    """A batch of one for each size of pictures that it is to be made ready for."""
    of_regions: bool = False
    """Its batches are regions of pictures, another number each time."""


class TorchModule(nn.Module):
    """Takes the place of a module: a tensor or a list in, the same structure out, in float32."""

    def __init__(self, name: str, part: Part, compute: Compute, *, compiled: bool) -> None:
        """Compiled or recorded for all its sizes. Raises UnsupportedModel or OutOfMemory."""
        super().__init__()
        compiled = compiled and not part.of_regions
        self._sizes = _sizes(part, compute, compiled)
        self._layout = torch.contiguous_format
        if compute.device.type == "cuda":
            self._layout = torch.channels_last
        self._takes_list = isinstance(part.examples[0], list)
        self._device_type = compute.device.type
        self._dtype = DTYPES[compute.precision]
        self._plain = part.module.to(memory_format=self._layout)
        self._module = _compiler()(self._plain, dynamic=False) if compiled else self._plain
        self._recordings: dict[tuple[torch.Size, ...], Recording] = {}
        if compiled:
            sizes = len(part.examples) * len(self._sizes)
            log.info("%s: compiling for %d sizes; the first time takes minutes", name, sizes)
        with _refusals_named(name, "torch.compile" if compiled else "torch", compute):
            self._warm_up(part)

    @torch.inference_mode()
    def forward(self, given: Given) -> Any:
        """What the module would have given."""
        inputs = given if isinstance(given, list) else [given]
        count = len(inputs[0])
        if not self._sizes or not count:
            return self._compute(self._plain, inputs)
        return _joined([self._piece(inputs, piece) for piece in pieces(count, self._sizes)])

    def _piece(self, inputs: list[Tensor], piece: Piece) -> Any:
        filled = [
            _filled(rows[piece.start : piece.stop], piece.size, self._layout) for rows in inputs
        ]
        if recording := self._recordings.get(_shapes(filled)):
            output = recording.replay(filled)
        elif self._module is self._plain:
            output = self._compute(self._plain, filled)
        else:
            # A size that nobody announced is no reason to stop and compile for minutes.
            with torch.compiler.set_stance("eager_on_recompile"):
                output = self._compute(self._module, filled)
        return _each(lambda rows: rows[0][: piece.stop - piece.start], [output])

    def _compute(self, module: nn.Module, inputs: list[Tensor]) -> Any:
        with self._precision():
            output = module(inputs if self._takes_list else inputs[0])
        return _each(lambda same: same[0].float(), [output])

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        if self._dtype == torch.float32:
            return contextlib.nullcontext()
        # Kept casts would be gone by the time that a recording is replayed.
        return torch.autocast(self._device_type, self._dtype, cache_enabled=False)

    @torch.inference_mode()
    def _warm_up(self, part: Part) -> None:
        one_size = len(part.examples) == 1
        for example in part.examples:
            one = example if isinstance(example, list) else [example]
            for size in self._sizes or (1,):
                inputs = [_filled(rows, size, self._layout) for rows in one]
                self._compute(self._module, inputs)
                if one_size and self._sizes and self._device_type == "cuda":
                    self._recordings[_shapes(inputs)] = Recording(
                        lambda given: self._compute(self._module, given), inputs
                    )


def _sizes(part: Part, compute: Compute, compiled: bool) -> tuple[int, ...]:
    """The batch sizes that the module is compiled or recorded for; none where any will do.

    Large pictures of several sizes are compiled one at a time on a CPU: together they gain nothing.
    """
    one_size = len(part.examples) == 1
    if part.of_regions or not (compiled or (one_size and compute.device.type == "cuda")):
        return ()
    alone = compute.device.type == "cpu" and not one_size
    return batch_sizes(compute.device, 1 if alone else compute.max_batch)


def _compiler() -> Any:
    """`torch.compile`, ready for as many graphs as there are sizes. Loading it takes seconds."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    # It warns of a machine without CUDA, which is no fault.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return torch.compile


@contextlib.contextmanager
def _refusals_named(name: str, who: str, compute: Compute) -> Iterator[None]:
    """All that the compiler raises is a RuntimeError, with a page of advice in its text."""
    try:
        yield
    except RuntimeError as error:
        named = failure(f"{name}: {who}", error)
        if isinstance(named, OutOfMemory):
            raise named from error
        raise UnsupportedModel(
            f"{name}: {who} can't compute it in {compute.precision}: {first_line(error)}"
        ) from error


def _shapes(tensors: list[Tensor]) -> tuple[torch.Size, ...]:
    return tuple(tensor.shape for tensor in tensors)


def _filled(rows: Tensor, size: int, layout: torch.memory_format) -> Tensor:
    """A new tensor of `size` rows, which begins with these and ends with zeros.

    New, as a compiled graph is for one layout in memory, and slices have many.
    """
    shape = (size, *rows.shape[1:])
    filled = torch.empty(shape, dtype=rows.dtype, device=rows.device, memory_format=layout)
    filled[: len(rows)] = rows
    filled[len(rows) :] = 0
    return filled


def _joined(outputs: list[Any]) -> Any:
    return outputs[0] if len(outputs) == 1 else _each(torch.cat, outputs)


def _each(do: Callable[[list[Tensor]], Tensor], outputs: Sequence[Any]) -> Any:
    """One output, a tensor or a dictionary, made of the same tensor of each of `outputs`."""
    first = outputs[0]
    if isinstance(first, dict):
        return type(first)((key, do([output[key] for output in outputs])) for key in first)
    return do(list(outputs))
