"""One log line where a source begins to fail or to show nothing, and one where that is over."""

import logging
from collections.abc import Iterable

from contracts.messages import FrameFailure, FrameResult

log = logging.getLogger("framewire.pipeline")


class Stretches:
    """Used by the inference thread only, with what the models say, in each source's order."""

    def __init__(self) -> None:
        self._failing: dict[str, str] = {}
        self._empty: set[str] = set()

    def log(self, messages: Iterable[FrameResult | FrameFailure]) -> None:
        """A line where a stretch begins or ends with one of these."""
        for message in messages:
            if isinstance(message, FrameFailure):
                self._log_failure(message)
            else:
                self._log_recovery(message)
                self._log_empty(message)

    def forget(self, source_id: str) -> None:
        """The source has ended, and with it whatever it was in."""
        self._failing.pop(source_id, None)
        self._empty.discard(source_id)

    def _log_failure(self, failure: FrameFailure) -> None:
        source_id = failure.source_id
        if failure.code != self._failing.get(source_id):
            at = (source_id, failure.code, failure.frame_index)
            log.error("%s: %s from frame %d on: %s", *at, failure.message)
        self._failing[source_id] = failure.code

    def _log_recovery(self, result: FrameResult) -> None:
        if failing := self._failing.pop(result.source_id, None):
            at = (result.source_id, failing, result.frame_index)
            log.info("%s: no %s any more at frame %d", *at)

    def _log_empty(self, result: FrameResult) -> None:
        if result.filtered:
            return  # What it shows is not to be told.
        source_id = result.source_id
        if not result.detections and source_id not in self._empty:
            self._empty.add(source_id)
            log.info("%s: no_detections from frame %d on", source_id, result.frame_index)
        elif result.detections and source_id in self._empty:
            self._empty.remove(source_id)
            log.info("%s: detections again at frame %d", source_id, result.frame_index)
