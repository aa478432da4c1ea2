"""The last stage of the inference thread: every frame is judged by every filter, and cut down."""

from collections.abc import Container, Sequence
from typing import NamedTuple

from contracts.errors import FilterFailed, InferenceError
from contracts.frame import Frame, fail
from contracts.messages import FrameFailure, FrameResult
from pipeline.contain import InferenceHealth, contain
from pipeline.filters import Filter, Sight, Verdict
from pipeline.filters.withhold import picture_of, result_of


class Answer(NamedTuple):
    """What leaves of a frame: a message, and where that is a result, a picture to go with it."""

    message: FrameResult | FrameFailure
    frame: Frame | None = None


def sift(
    sights: Sequence[Sight],
    filters: Sequence[Filter],
    class_count: int,
    shared: Container[Frame],
    health: InferenceHealth,
) -> list[Answer]:
    """Nothing is left in them that a filter withholds.

    A frame that a filter can't judge fails (`filter_failed`): an empty result would look as if it
    had been judged. The pixels of `shared` frames are blurred in place, those of others in a copy.
    """
    verdicts: list[dict[str, Verdict]] = [{} for _ in sights]
    errors: dict[int, FilterFailed] = {}
    for each in filters:
        for position, said in enumerate(contain(each.judge, sights, health)):
            if isinstance(said, InferenceError):
                errors[position] = FilterFailed(f"filter {each.name}: {said}")
            else:
                verdicts[position][each.name] = said
    return [
        Answer(fail(sight.frame, errors[position]))
        if position in errors
        else _answer(sight, verdicts[position], class_count, sight.frame in shared)
        for position, sight in enumerate(sights)
    ]


def _answer(sight: Sight, verdicts: dict[str, Verdict], class_count: int, in_place: bool) -> Answer:
    try:
        result = result_of(sight, verdicts, class_count)
        return Answer(result, picture_of(sight, verdicts, in_place))
    except Exception as error:
        # Its kind only: its text might tell what was to be withheld.
        return Answer(fail(sight.frame, FilterFailed(f"filters: {type(error).__name__}")))
