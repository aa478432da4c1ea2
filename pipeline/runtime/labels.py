"""What an ONNX file's classes are called: by its own metadata, or by a list beside it."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from contracts.errors import UnsupportedModel, WeightsMismatch
from pipeline.runtime.onnx_file import OnnxFile
from pipeline.sidecar import sidecar_names, sidecar_of

UNNAMED = "N/A"
"""A class id between the named ones, as COCO's 91 ids have some."""


def labels_of(
    file: OnnxFile, class_count: int | None, well_known: Mapping[int, Sequence[str]]
) -> tuple[str, ...]:
    """The class names by class id.

    In this order: the metadata's `names` (YOLO tools: a dict or list in Python's notation), its
    `rfdetr_inference` (RF-DETR: JSON), its `categories` (a JSON list); `FILE.labels.txt` beside the
    file, one name a line; the well-known set of that many classes. `class_count` is None where
    the outputs don't tell it. Raises WeightsMismatch where names and count differ, UnsupportedModel
    where there are no names or those of its metadata can't be read, WeightsUnreadable where those
    beside it can't.
    """
    names = _from_metadata(file, class_count)
    if names is None:
        names = sidecar_names(file.path)
    if names is None and class_count is not None:
        names = tuple(well_known.get(class_count, ()))
    if not names:
        count = "its" if class_count is None else f"its {class_count}"
        raise UnsupportedModel(
            f"model {file.path}: no names for {count} classes; put them into "
            f"{sidecar_of(file.path).name} beside it, one a line"
        )
    if class_count is not None and len(names) != class_count:
        raise WeightsMismatch(
            f"model {file.path}: {class_count} classes in its outputs, {len(names)} names"
        )
    return names


def _from_metadata(file: OnnxFile, class_count: int | None) -> tuple[str, ...] | None:
    metadata = file.metadata
    try:
        if "names" in metadata:
            return _in_order(ast.literal_eval(metadata["names"]))
        if "rfdetr_inference" in metadata:
            named = json.loads(metadata["rfdetr_inference"]).get("class_id_to_name") or {}
            return _with_gaps({int(key): name for key, name in named.items()}, class_count or 0)
        if "categories" in metadata:
            return _in_order(json.loads(metadata["categories"]))
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError) as error:
        raise UnsupportedModel(
            f"model {file.path}: the class names in its metadata can't be read: {error}"
        ) from error
    return None


def _in_order(names: Any) -> tuple[str, ...]:
    """A list as it is; a dict by its keys 0, 1, 2, …, of which none may be missing."""
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise ValueError("their ids are not 0, 1, 2, …")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list | tuple):
        raise TypeError(f"expected a dict or a list, it is a {type(names).__name__}")
    return tuple(str(name) for name in names)


def _with_gaps(named: dict[int, str], class_count: int) -> tuple[str, ...] | None:
    size = max([class_count, *(number + 1 for number in named)])
    return tuple(named.get(number, UNNAMED) for number in range(size)) if named else None
