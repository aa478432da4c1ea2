"""How one source is looked at: where, for which classes, and whether its objects are followed."""

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Sequence

from contracts.errors import BadSetting
from contracts.frame import Frame
from contracts.messages import Detection
from contracts.settings import Region, SourceSettings
from contracts.upload import Wishes
from pipeline.region import Window, cut, put_back, window_of


@dataclasses.dataclass(frozen=True)
class View:
    """A source that says nothing of it is looked at whole, for every class."""

    region: Region | None = None
    classes: frozenset[str] = frozenset()
    """Empty: all that the detector knows."""
    track: bool = False
    min_score: float | None = None
    """None: the pipeline's."""
    max_detections: int | None = None
    classify: bool = True

    def look_at(self, frame: Frame) -> Frame:
        """What the detector is shown of the frame."""
        window = self._window(frame)
        return cut(frame, window) if window else frame

    def pick(self, frame: Frame, detections: Sequence[Detection]) -> list[Detection]:
        """Of the detections in what it was shown, those asked for, where they are in the frame."""
        return self._place(frame, [one for one in detections if self._is_asked_for(one)])

    def pass_over(self, frame: Frame, detections: Sequence[Detection]) -> list[Detection]:
        """The others, where they are in the frame."""
        return self._place(frame, [one for one in detections if not self._is_asked_for(one)])

    def _is_asked_for(self, detection: Detection) -> bool:
        return not self.classes or detection.class_name in self.classes

    def _place(self, frame: Frame, detections: list[Detection]) -> list[Detection]:
        window = self._window(frame)
        if window is None:
            return detections
        return [put_back(one, window, frame.width, frame.height) for one in detections]

    def _window(self, frame: Frame) -> Window | None:
        return self.region and window_of(self.region, frame.width, frame.height)


WHOLE = View()


def view_for(wishes: Wishes) -> View:
    """What is asked of one picture."""
    return View(
        min_score=wishes.min_score,
        max_detections=wishes.max_detections,
        classify=wishes.classify,
    )


def view_of(source: SourceSettings, class_names: Collection[str], track: bool) -> View:
    """As the source's settings say; `track` is what holds for those that don't.

    Raises BadSetting where the detector has no class of a name that is asked for.
    """
    check_classes(f"source {source.id}: classes", source.classes, class_names)
    asked = track if source.track is None else source.track
    return View(source.region, frozenset(source.classes), asked)


def check_classes(
    setting: str, asked: Iterable[str], class_names: Collection[str], model: str = "detector"
) -> None:
    """Raises BadSetting where the model has no class of a name that is asked for."""
    for name in asked:
        if name not in class_names:
            close = difflib.get_close_matches(name, class_names, n=3)
            hint = (
                f"did you mean {' or '.join(close)}?" if close else f"there is {_some(class_names)}"
            )
            raise BadSetting(f"{setting}: the {model} knows no {name!r}; {hint}")


def _some(class_names: Collection[str]) -> str:
    few = ", ".join(sorted(class_names)[:8])
    return few if len(class_names) <= 8 else f"{few}, …"
