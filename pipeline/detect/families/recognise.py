"""Which family a network belongs to, by facts: its outputs' shapes and names, and its metadata."""

from collections.abc import Callable, Mapping

from contracts.errors import BadSetting, UnsupportedModel
from pipeline.detect.families import Family, Seen, detr
from pipeline.detect.families.detr import RfDetr, RtDetr, RtDetrScored
from pipeline.detect.families.nms_free import NmsFree
from pipeline.detect.families.yolov5 import YoloV5
from pipeline.detect.families.yolov8 import YoloV8
from pipeline.detect.families.yolox import YoloX

LAYOUTS: Mapping[str, Callable[[Seen], Family | None]] = {
    family.layout: family.of
    for family in (YoloX, YoloV5, YoloV8, NmsFree, RtDetr, RfDetr, RtDetrScored)
}
"""By the name that a configuration may state. None where the outputs are of another form."""

BY_LOOKS: tuple[Callable[[Seen], Family | None], ...] = (
    YoloX.of,
    YoloV5.of,
    YoloV8.of,
    NmsFree.of,
    RtDetrScored.of,
    detr.recognise,
)
"""No two take the same outputs, so the order makes no difference."""


def recognise(model: str, seen: Seen, layout: str) -> Family:
    """The family that fits, or the stated one. Raises UnsupportedModel with what was seen."""
    task = seen.metadata.get("task", "detect")
    if task != "detect":
        raise UnsupportedModel(f"model {model}: expected a detector, it is for the task {task!r}")
    if layout != "auto" and layout not in LAYOUTS:
        raise BadSetting(f"layout {layout!r}: expected auto, {', '.join(LAYOUTS)}")
    candidates = BY_LOOKS if layout == "auto" else (LAYOUTS[layout],)
    for family_of in candidates:
        if family := family_of(seen):
            return family
    wanted = "a known layout" if layout == "auto" else f"layout {layout}"
    raise UnsupportedModel(
        f"model {model}: its outputs are not of {wanted}: {seen}; known: {', '.join(LAYOUTS)}"
    )
