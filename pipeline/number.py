"""The numbers by which a subscriber sees that nothing is missing, or what is."""

from collections.abc import Callable, Mapping

from contracts.messages import FrameFailure, FrameResult, SourceEnd, SourceEvent

DropsBefore = Callable[[str, int], Mapping[str, int]]
"""(source id, frame index) → dropped frames before it by reason, each told once."""

Message = FrameResult | FrameFailure | SourceEvent | SourceEnd


class Numbering:
    """Used by the inference thread only, message by message in each source's order.

    In a source's results and failures `sequence` counts from 0 without gaps, and of two that follow
    each other, the indices between theirs are those of the frames in `dropped_before`.
    """

    def __init__(self, drops_before: DropsBefore) -> None:
        self._drops_before = drops_before
        self._next: dict[str, int] = {}

    def number(self, message: Message) -> Message:
        """The message, numbered where it is of a frame."""
        if not isinstance(message, FrameResult | FrameFailure):
            return message
        source_id = message.source_id
        sequence = self._next.get(source_id, 0)
        self._next[source_id] = sequence + 1
        dropped = self._drops_before(source_id, message.frame_index)
        return message.model_copy(update={"sequence": sequence, "dropped_before": dict(dropped)})

    def forget(self, source_id: str) -> None:
        """The source has ended; one of the same name counts from 0 again."""
        self._next.pop(source_id, None)
