"""The safety filters of a configuration: what is withheld before anything leaves the process."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.messages import Code, Score

Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
Hidden = Literal["class", "label", "text", "mask"]


class NamedFilter(BaseModel):
    """What every filter has."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Code = ""
    """Under which it is counted; its kind where none is given."""

    @model_validator(mode="before")
    @classmethod
    def _is_called_by_its_kind(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and not raw.get("name"):
            return {**raw, "name": raw.get("kind")}
        return raw


class ObjectFilter(NamedFilter):
    """One that goes by what was detected. It matches what the models say, whatever other filters
    make of that.
    """

    classes: Names = ()
    """Detections of these classes. Left out: of any."""

    labels: Names = ()
    """Detections that the classifier gives one of these labels, or could give none. Left out: any.
    Where both are given, both must hold."""

    min_score: Score | None = None
    """Detections below this are let through. Left out: none that would leave is, and none that
    reaches the run's `min_score`."""

    @model_validator(mode="after")
    def _says_which(self) -> "ObjectFilter":
        if not self.classes and not self.labels:
            raise ValueError(f"filter {self.name}: say which classes or labels")
        return self


class BlockSettings(ObjectFilter):
    """The detections are removed, with their labels and texts. Pictures show the objects still."""

    kind: Literal["block"]


class RedactSettings(ObjectFilter):
    """The detections stay, without what they are."""

    kind: Literal["redact"]

    hide: Annotated[tuple[Hidden, ...], Field(min_length=1)] = ("class", "label", "text", "mask")
    """`class`: it is called `redacted`, and its id is one that no class has; `label`, `text` and
    `mask` are removed."""


class BlurSettings(ObjectFilter):
    """The pixels of their boxes are blurred in every picture, and texts on them removed."""

    kind: Literal["blur"]


class WholeImageSettings(NamedFilter):
    """A classifier looks at the whole frame, as it looks at crops: at its middle."""

    kind: Literal["whole_image"]

    classifier: str
    """`torchvision:NAME` or `onnx:FILE`, as `classifier` of the run."""

    classifier_weights: Path | None = None
    """As `detector_weights`."""

    classes: Names
    """Frames whose likeliest class is one of these."""

    min_score: Score = 0.0
    """Frames that the classifier is less sure of are let through."""

    action: Literal["block", "flag"]
    """`block`: nothing that was found leaves, and pictures are blurred as a whole; `flag`: the
    result only says so."""


FilterSettings = Annotated[
    BlockSettings | RedactSettings | BlurSettings | WholeImageSettings, Field(discriminator="kind")
]
