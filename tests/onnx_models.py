"""Small ONNX files, built here: what they give is known, or they break in one way.

The second half are the outputs by which each family of detectors would tell the same boxes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Sides = tuple[int | str, int | str, int | str, int | str]
INPUT_HW = (96, 128)
CELLS = 252
"""12·16 + 6·8 + 3·4: what a YOLO head looks at for an input of 96×128."""


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    outputs: Mapping[str, tuple[Any, ...]],
    weights: Mapping[str, NDArray[Any]],
    sides: Sides = (1, 3, *INPUT_HW),
    metadata: Mapping[str, str] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] = (),
    types: Mapping[str, int] | None = None,
) -> Path:
    """The file, with the picture as its input `images`; `outputs` are shapes by name.

    `types` says which of the inputs and outputs are not float32.
    """
    type_of = dict.fromkeys(["images", *outputs], TensorProto.FLOAT) | dict(types or {})
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("images", type_of["images"], sides), *inputs],
        [
            helper.make_tensor_value_info(name, type_of[name], shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path


def constant(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    sides: Sides = ("batch", 3, *INPUT_HW),
    nan_when_plain: bool = False,
) -> Path:
    """Gives the same for every picture: `outputs` by name, each (1, …), one a picture.

    With `nan_when_plain` a picture of one colour makes all of it NaN.
    """
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMin", ["images"], ["least"], axes=[2, 3], keepdims=0),
        helper.make_node("Sub", ["most", "least"], ["spans"]),
        helper.make_node("ReduceMean", ["spans"], ["span"], axes=[1], keepdims=0),
        helper.make_node("Div", ["span", "span"], ["ratio"]),
        helper.make_node("Mul", ["ratio" if nan_when_plain else "span", "zero"], ["none"]),
    ]
    weights: dict[str, NDArray[Any]] = {"zero": np.zeros(1, np.float32)}
    types = {n: helper.np_dtype_to_tensor_dtype(value.dtype) for n, value in outputs.items()}
    for name, value in outputs.items():
        weights |= {
            f"{name}_value": value.astype(np.float32),
            f"{name}_axes": np.arange(1, value.ndim),
        }
        nodes += [
            helper.make_node("Unsqueeze", ["none", f"{name}_axes"], [f"{name}_none"]),
            helper.make_node("Add", [f"{name}_value", f"{name}_none"], [f"{name}_float"]),
            helper.make_node("Cast", [f"{name}_float"], [name], to=types[name]),
        ]
    shapes = {name: ("batch", *value.shape[1:]) for name, value in outputs.items()}
    return save(path, nodes, shapes, weights, sides, metadata, types=types)


def hungry(path: Path, always: bool = False) -> Path:
    """A file of `constant` now asks for petabytes where a value of the picture is 1 or more.

    Or for any picture, with `always`.
    """
    model = onnx.load(path)
    graph = model.graph
    graph.node[0].output[0] = "plain"
    inserted = [
        helper.make_node("ReduceMax", ["images"], ["peak"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["peak"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Min", ["whole", "one"], ["wanted"]),
        helper.make_node("Mul", ["wanted", "many"], ["more"]),
        helper.make_node("Add", ["more", "least_target"], ["target"]),
        helper.make_node("Unsqueeze", ["plain", "last_axes"], ["small"]),
        helper.make_node("Expand", ["small", "target"], ["wide"]),
        helper.make_node("ReduceMax", ["wide"], ["most"], axes=[2, 3], keepdims=0),
    ]
    many = np.array([0, 0, 1 << 24, 1 << 24])
    weights = {
        "one": np.array(1),
        "many": many,
        "least_target": np.ones(4, np.int64) + many * always,
        "last_axes": np.array([2, 3]),
    }
    nodes = [graph.node[0], *inserted, *graph.node[1:]]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    onnx.save(model, path)
    return path


def convolution(path: Path, ending: str = "reshape", columns: int = 7) -> Path:
    """Random weights, exported for a batch of one: pictures in, (1, CELLS, columns) out.

    `ending` is how the batch of one is baked in: "reshape" into a target that begins with 1,
    "merged" through one that has no place for a batch, "mixed" takes the mean over the batch off.
    """
    rng = np.random.default_rng(7)
    size = CELLS * columns
    weights: dict[str, NDArray[Any]] = {
        "kernel": rng.normal(0, 0.3, (4, 3, 8, 8)).astype(np.float32),
        "matrix": rng.normal(0, 0.05, (4 * 12 * 16, size)).astype(np.float32),
        "flat": np.array([1, -1]),
        "target": np.array([1, CELLS, columns]),
        "no_batch": np.array([CELLS, columns]),
        "axis": np.array([0]),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["features"], strides=[8, 8]),
        helper.make_node("Sigmoid", ["features"], ["active"]),
        helper.make_node("Reshape", ["active", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "matrix"], ["numbers"]),
    ]
    endings = {
        "reshape": [helper.make_node("Reshape", ["numbers", "target"], ["output"])],
        "merged": [
            helper.make_node("Reshape", ["numbers", "no_batch"], ["table"]),
            helper.make_node("Unsqueeze", ["table", "axis"], ["output"]),
        ],
        "mixed": [
            helper.make_node("ReduceMean", ["numbers"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["numbers", "mean"], ["rest"]),
            helper.make_node("Reshape", ["rest", "target"], ["output"]),
        ],
    }
    names = {"names": str({number: f"class {number}" for number in range(columns - 5)})}
    shapes = {"output": (1, CELLS, columns)}
    return save(path, [*nodes, *endings[ending]], shapes, weights, metadata=names)


def with_sizes(path: Path, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Path:
    """RT-DETR's own export: a second input says what to scale the boxes in [0, 1] to."""
    height, width = INPUT_HW
    size = helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ("batch", 2))
    nodes = [
        helper.make_node("Cast", ["orig_target_sizes"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["size", "size"], ["twice"], axis=1),
        helper.make_node("Unsqueeze", ["twice", "axis"], ["scale"]),
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["none"]),
        helper.make_node("Unsqueeze", ["none", "axis"], ["column"]),
        helper.make_node("Add", ["unit_scores", "column"], ["scores"]),
        helper.make_node("Unsqueeze", ["none", "both"], ["block"]),
        helper.make_node("Add", ["unit_boxes", "block"], ["moved"]),
        helper.make_node("Mul", ["moved", "scale"], ["boxes"]),
        helper.make_node("Cast", ["column"], ["zeros"], to=TensorProto.INT64),
        helper.make_node("Add", ["class_ids", "zeros"], ["labels"]),
    ]
    count = scores.shape[1]
    weights = {
        "axis": np.array([1]),
        "both": np.array([1, 2]),
        "zero": np.zeros(1, np.float32),
        "unit_boxes": boxes,
        "unit_scores": scores,
        "class_ids": np.arange(count)[None],
    }
    shapes = {"labels": ("N", count), "boxes": ("N", count, 4), "scores": ("N", count)}
    sides: Sides = ("N", 3, height, width)
    names = {"names": str({number: f"class {number}" for number in range(count)})}
    return save(path, nodes, shapes, weights, sides, names, [size], {"labels": TensorProto.INT64})


def unknown_operation(path: Path, sides: Sides = (1, 3, *INPUT_HW)) -> Path:
    """A graph that no runtime can compute."""
    nodes = [helper.make_node("NoSuchThing", ["images"], ["output"], domain="nowhere")]
    return save(path, nodes, {"output": sides}, {}, sides)


Outputs = dict[str, NDArray[Any]]
Truth = tuple[tuple[float, float, float, float], float, int]
"""Corners in pixels of the input, score, class id."""


def centres(box: tuple[float, float, float, float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def yolox(truths: tuple[Truth, ...], classes: int = 3) -> Outputs:
    """Objectness 0.95; each box is told by another cell of the finest grid."""
    rows = np.zeros((1, CELLS, 5 + classes), np.float32)
    rows[..., :4] = -0.3
    for cell, (box, score, class_id) in enumerate(truths, start=17):
        cx, cy, width, height = centres(box)
        column, row = cell % 16, cell // 16
        rows[0, cell, :4] = cx / 8 - column, cy / 8 - row, np.log(width / 8), np.log(height / 8)
        rows[0, cell, 4], rows[0, cell, 5 + class_id] = 0.95, score / 0.95
    return {"output": rows}


def yolov5(truths: tuple[Truth, ...], classes: int = 3) -> Outputs:
    rows = np.zeros((1, 3 * CELLS, 5 + classes), np.float32)
    for anchor, (box, score, class_id) in enumerate(truths, start=40):
        rows[0, anchor, :4] = centres(box)
        rows[0, anchor, 4], rows[0, anchor, 5 + class_id] = 0.95, score / 0.95
    return {"output0": rows}


def yolov8(truths: tuple[Truth, ...], classes: int = 3) -> Outputs:
    columns = np.zeros((1, 4 + classes, CELLS), np.float32)
    for cell, (box, score, class_id) in enumerate(truths, start=40):
        columns[0, :4, cell] = centres(box)
        columns[0, 4 + class_id, cell] = score
    return {"output0": columns}


def nms_free(truths: tuple[Truth, ...], classes: int = 3) -> Outputs:
    rows = np.zeros((1, 300, 6), np.float32)
    for row, (box, score, class_id) in enumerate(truths):
        rows[0, row] = [*box, score, class_id]
    return {"output0": rows}


def queries(truths: tuple[Truth, ...], classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    logits = np.full((1, 30, classes), -20, np.float32)
    boxes = np.full((1, 30, 4), 0.5, np.float32)
    height, width = INPUT_HW
    for query, (box, score, class_id) in enumerate(truths):
        logits[0, query, class_id] = np.log(score / (1 - score))
        boxes[0, query] = np.array(centres(box)) / [width, height, width, height]
    return logits, boxes


def rtdetr(truths: tuple[Truth, ...], classes: int = 3) -> Outputs:
    logits, boxes = queries(truths, classes)
    return {"logits": logits, "pred_boxes": boxes}


def rfdetr(truths: tuple[Truth, ...], classes: int = 3) -> Outputs:
    logits, boxes = queries(truths, classes)
    return {"dets": boxes, "labels": logits}


def rtdetr_scored(truths: tuple[Truth, ...], classes: int = 3) -> Outputs:
    rows = nms_free(truths)["output0"]
    return {
        "labels": rows[..., 5].astype(np.int64),
        "boxes": rows[..., :4],
        "scores": rows[..., 4],
    }


FAMILIES: dict[str, Callable[..., Outputs]] = {
    family.__name__: family
    for family in (yolox, yolov5, yolov8, nms_free, rtdetr, rfdetr, rtdetr_scored)
}
