"""Weights from a file: the tensors, the file's own metadata, and the SHA-256 of the bytes loaded.

Two formats: safetensors, and PyTorch's own (`.pth`, `.pt`) read with `weights_only=True`, which
refuses a pickle that would run code. A published model is a file too, once it is downloaded.
"""

import dataclasses
import hashlib
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.parse import urlparse

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from contracts.errors import WeightsMismatch, WeightsUnavailable, WeightsUnreadable
from pipeline.sidecar import sidecar_names, sidecar_of

Stated = TypeVar("Stated", list[Any], dict[str, Any])


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by name on the CPU, as they lie in the file, and where they came from."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str


def read_weights(path: Path) -> Weights:
    """Raises WeightsUnavailable where there is no file, WeightsUnreadable where it is damaged."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsUnavailable(f"weights {path}: {error.strerror}") from error
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    tensors, metadata = read(path, content)
    return Weights(path, tensors, metadata, hashlib.sha256(content).hexdigest())


def _read_safetensors(path: Path, content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsUnreadable(f"weights {path}: not a whole safetensors file: {error}") from error
    # The format opens with the header's length (8 bytes, little-endian) and the header in JSON.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, header.get("__metadata__", {})


def _read_torch(path: Path, content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The library's text goes on for a page and recommends loading it all the same.
        raise WeightsUnreadable(
            f"weights {path}: not a plain file of tensors (a pickle that runs code is refused); "
            "save the state dict, best as .safetensors"
        ) from error
    except Exception as error:
        # In a damaged pickle any instruction may meet anything, so any error may come.
        text = f"weights {path}: damaged or cut short: {type(error).__name__}: {error}"
        raise WeightsUnreadable(text) from error
    return _state_dict_in(path, loaded), {}


def _state_dict_in(path: Path, loaded: object) -> dict[str, Tensor]:
    """The state dict itself, or the one under the key that training scripts put it under."""
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise WeightsUnreadable(f"weights {path}: expected a state dict (names to tensors)")
    return dict(loaded)


def fetch_published(url: str) -> Path:
    """The published file, from torch's cache or downloaded into it with a progress bar.

    The name's last part is the beginning of the file's SHA-256, which the download checks.
    """
    path = published_file(url)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    hash_prefix = path.stem.rsplit("-", 1)[-1]
    try:
        torch.hub.download_url_to_file(url, os.fspath(path), hash_prefix, progress=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsUnavailable(
            f"weights {path.name}: can't be downloaded from {urlparse(url).hostname} ({error}); "
            "give a file with --detector-weights or --classifier-weights"
        ) from error
    return path


def published_file(url: str) -> Path:
    """Where in torch's cache the published file lies, once it is downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def categories_of(weights: Weights, published: list[str]) -> list[str]:
    """The class names by class id: the file's own, those in `FILE.labels.txt`, or the published.

    Raises WeightsUnreadable where the file's own are no JSON list, or its neighbour's no text.
    """
    if "categories" in weights.metadata:
        return [str(name) for name in stated(weights, "categories", list)]
    beside = sidecar_names(weights.path)
    return published if beside is None else list(beside)


def stated(weights: Weights, key: str, kind: type[Stated]) -> Stated:
    """What the file's metadata says under this key, in JSON. Raises WeightsUnreadable."""
    try:
        value = json.loads(weights.metadata[key])
    except (ValueError, RecursionError) as error:
        text = f"weights {weights.path}: its metadata `{key}` is not JSON: {error}"
        raise WeightsUnreadable(text) from error
    if not isinstance(value, kind):
        raise WeightsUnreadable(
            f"weights {weights.path}: its metadata `{key}` is a {type(value).__name__}, "
            f"expected a {kind.__name__}"
        )
    return value


def load_into(model: torch.nn.Module, weights: Weights, architecture: str) -> None:
    """The tensors are in the model.

    Raises WeightsMismatch that names the first difference, WeightsUnreadable where a value is NaN
    or infinite: a model would give nothing but that, or, where a layer swallows it, nonsense.
    """
    try:
        model.load_state_dict(weights.tensors, strict=True)
    except RuntimeError as error:
        difference = str(error).split("\n", 1)[-1]
        raise WeightsMismatch(
            f"weights {weights.path} don't fit {architecture}: {difference[:300]} – is it "
            "another architecture, or another set of classes (name them in "
            f"{sidecar_of(weights.path).name})?"
        ) from error
    for name, tensor in weights.tensors.items():
        if not tensor.isfinite().all():
            raise WeightsUnreadable(f"weights {weights.path}: NaN or infinity in {name}")
