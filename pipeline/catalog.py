"""The models that have a name: what each is built from and where its weights come from."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any, Literal

import torchvision
from torchvision.models import get_model_weights, list_models

from contracts.errors import UnknownModel
from pipeline.weights_file import Weights, fetch_published, read_weights

Role = Literal["detector", "classifier"]

BUNDLED_FOLDER = Path(__file__).parent / "weights"
BUNDLED: dict[Role, dict[str, str]] = {
    "detector": {"parts": "ssdlite320_mobilenet_v3_large"},
    "classifier": {"parts": "mobilenet_v3_small"},
}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A named model: torchvision's builder `architecture`, and a file or a URL with the weights."""

    name: str
    architecture: str
    weights_file: Path | None
    weights_url: str

    @property
    def published(self) -> Any:
        """torchvision's own record of the architecture's published weights (a WeightsEnum)."""
        return get_model_weights(self.architecture).DEFAULT

    def read_weights(self) -> Weights:
        """Raises WeightsUnavailable or WeightsUnreadable."""
        return read_weights(self.weights_file or fetch_published(self.weights_url))


def architectures(role: Role) -> list[str]:
    """torchvision's builders for this role."""
    module = torchvision.models.detection if role == "detector" else torchvision.models
    return list(list_models(module=module))


def names(role: Role) -> list[str]:
    """Every name that `find_model` takes."""
    bundled = [f"bundled:{name}" for name in BUNDLED[role]]
    return bundled + [f"torchvision:{name}" for name in architectures(role)]


def find_model(role: Role, name: str, weights_file: Path | None = None) -> ModelSpec:
    """The model of this name. `weights_file` takes the place of its own weights."""
    if name not in names(role):
        close = difflib.get_close_matches(name, names(role), n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UnknownModel(
            f"{role} {name!r}: unknown; {hint}`framewire models` lists them; a file is onnx:FILE"
        )
    origin, _, short = name.partition(":")
    if origin == "bundled":
        file = weights_file or BUNDLED_FOLDER / f"{short}_{role}.safetensors"
        return ModelSpec(name, BUNDLED[role][short], file, "")
    return ModelSpec(name, short, weights_file, get_model_weights(short).DEFAULT.url)
