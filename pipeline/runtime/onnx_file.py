"""An ONNX file, read once: its bytes and their SHA-256, what it says of itself, its ports.

Most files are exported for a batch of one. `with_open_batch` opens that dimension: the input's and
the outputs' first size becomes a name, the sizes noted for values in between are forgotten, and
each Reshape whose target begins with the batch size is told to copy that size from its input
instead (0 in ONNX's Reshape). Whether the graph then computes the same is tried in `batch.py`.
"""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper, shape_inference
from onnx.external_data_helper import uses_external_data

from contracts.errors import UnsupportedModel, WeightsUnavailable, WeightsUnreadable
from pipeline.runtime import Shape

SIZE_INPUT = "orig_target_sizes"
"""A second input (N, 2) of RT-DETR's and D-FINE's own exports: what to scale the boxes to."""

DEFAULT_SIDE = 640
"""Pixels a side, where neither the graph nor its metadata fixes the input's size."""


@dataclasses.dataclass(frozen=True, eq=False)
class OnnxFile:
    """A graph to compile, and the identity of the file that it came from."""

    path: Path
    sha256: str
    """Of the bytes of the file, whatever was opened in the graph since."""
    graph: bytes
    metadata: dict[str, str]
    input_name: str
    input_shape: Shape
    half: bool
    """The graph takes float16."""
    output_names: tuple[str, ...]

    @property
    def batch_size(self) -> int | None:
        """The only batch that the graph takes, or None when it takes any."""
        return self.input_shape[0]


def read_onnx(path: Path) -> OnnxFile:
    """The file, whole. Raises WeightsUnavailable, WeightsUnreadable or UnsupportedModel."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsUnavailable(f"model {path}: {error.strerror}") from error
    return _describe(path, hashlib.sha256(content).hexdigest(), _parse(path, content))


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    """Some bytes that are not ONNX pass as a message with nothing in it, so that is looked at."""
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise WeightsUnreadable(f"model {path}: not an ONNX file, or cut short") from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise WeightsUnreadable(f"model {path}: not an ONNX file: no graph in it")
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise UnsupportedModel(
            f"model {path}: its weights lie in another file; save it with the weights inside"
        )
    return model


def _describe(path: Path, sha256: str, model: onnx.ModelProto) -> OnnxFile:
    port = _picture_input(path, model.graph)
    tensor = port.type.tensor_type
    shape = _shape(port)
    if len(shape) != 4 or shape[1] not in (3, None):
        raise UnsupportedModel(f"model {path}: expected input (B, 3, H, W), it takes {shape}")
    if tensor.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise UnsupportedModel(f"model {path}: expected floating-point input, it takes {kind}")
    return OnnxFile(
        path=path,
        sha256=sha256,
        graph=model.SerializeToString(),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        input_name=port.name,
        input_shape=shape,
        half=tensor.elem_type == onnx.TensorProto.FLOAT16,
        output_names=tuple(output.name for output in model.graph.output),
    )


def _picture_input(path: Path, graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """The one input that must be given. A size input is fixed to the network's own size."""
    weights = {tensor.name for tensor in graph.initializer}
    given: list[onnx.ValueInfoProto] = [p for p in graph.input if p.name not in weights]
    sizes = [port for port in given if port.name == SIZE_INPUT]
    pictures = [port for port in given if port.name != SIZE_INPUT]
    if len(pictures) != 1:
        names = ", ".join(f"{port.name} {_shape(port)}" for port in given)
        raise UnsupportedModel(f"model {path}: expected one input, it takes {names or 'none'}")
    for port in sizes:
        height, width = (side or DEFAULT_SIDE for side in _shape(pictures[0])[-2:])
        graph.initializer.append(numpy_helper.from_array(np.array([[width, height]]), port.name))
        graph.input.remove(port)
    return pictures[0]


def _shape(port: onnx.ValueInfoProto) -> Shape:
    # A size that is open has a name, nothing, or in some exports -1.
    dims = port.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in dims)


def with_size(file: OnnxFile, height: int, width: int) -> OnnxFile:
    """The same for pictures of this size only, which compiles to something faster than any size."""
    if file.input_shape[2:] == (height, width):
        return file
    model = onnx.load_model_from_string(file.graph)
    for port in model.graph.input:
        if port.name == file.input_name:
            dims = port.type.tensor_type.shape.dim
            dims[2].dim_value, dims[3].dim_value = height, width
    shape = (*file.input_shape[:2], height, width)
    return dataclasses.replace(file, graph=model.SerializeToString(), input_shape=shape)


def with_open_batch(file: OnnxFile) -> OnnxFile:
    """The same with a first dimension of any size, as far as the graph allows (see above)."""
    model = onnx.load_model_from_string(file.graph)
    batched = _batched_values(model, file.batch_size)
    del model.graph.value_info[:]
    for port in [*model.graph.input, *model.graph.output]:
        if port.name == file.input_name or port in model.graph.output:
            dims = port.type.tensor_type.shape.dim
            if dims:
                dims[0].dim_param = "batch"
    _copy_batch_in_reshapes(model.graph, batched, file.batch_size)
    shape = (None, *file.input_shape[1:])
    return dataclasses.replace(file, graph=model.SerializeToString(), input_shape=shape)


def _batched_values(model: onnx.ModelProto, batch_size: int | None) -> set[str]:
    """Names of the values whose first size is the batch size that the file is for."""
    graph = shape_inference.infer_shapes(model).graph
    ports = [*graph.input, *graph.value_info, *graph.output]
    return {port.name for port in ports if _shape(port)[:1] == (batch_size,)}


def _copy_batch_in_reshapes(
    graph: onnx.GraphProto, batched: set[str], batch_size: int | None
) -> None:
    """Each target is given a tensor of its own, as one may be shared by other nodes."""
    constants = dict(_constants(graph))
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[0] not in batched:
            continue
        target = constants.get(node.input[-1], [])
        if target[:1] != [batch_size]:
            continue
        name = f"{node.input[1]}_open_{number}"
        graph.initializer.append(numpy_helper.from_array(np.array([0, *target[1:]]), name))
        node.input[1] = name


def _constants(graph: onnx.GraphProto) -> Iterable[tuple[str, list[int]]]:
    """Constant rows of whole numbers by name: initializers, and those of Constant nodes."""
    named = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            named += [
                (node.output[0], value.t) for value in node.attribute if value.name == "value"
            ]
    for name, tensor in named:
        if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1:
            yield name, numpy_helper.to_array(tensor).tolist()
