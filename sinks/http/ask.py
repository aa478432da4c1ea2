"""One picture's way to the models and back: header, pixels, the inference thread, the result."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from contracts.errors import DeadlineExceeded, ModelUnavailable
from contracts.frame import Frame, utc_now
from contracts.messages import FrameFailure, FrameResult
from contracts.upload import UPLOAD, Upload, Wishes
from sinks.http.limits import Share
from sinks.http.picture import Header, decode, read_header
from sinks.http.problems import error_of
from sinks.http.received import Sent
from sinks.http.service import Service

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

MOST_DECODERS = 8
Made = TypeVar("Made")


class Answer(NamedTuple):
    """What the models say of a picture, and its pixels."""

    result: FrameResult
    image_hwc: "ImageHWC"


class Errand(NamedTuple):
    """What is asked of a picture, since when and until when (monotonic clock), in which trace."""

    wishes: Wishes
    since_s: float
    deadline_s: float
    trace_id: str

    def age_ms(self) -> float:
        """How long it has taken so far."""
        return (time.monotonic() - self.since_s) * 1e3


class Asker:
    """Asks the models. Used on the loop's thread; decoding happens on a few threads of its own."""

    def __init__(self, service: Service) -> None:
        self.pool = ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_DECODERS), "framewire-decode")
        self._service = service

    def close(self) -> None:
        """Its threads end; what they were at goes nowhere."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, sent: Sent, errand: Errand, share: Share) -> Answer:
        """What the models say; the memory for it is taken from `share`.

        Raises what is wrong with the picture, Overloaded, DeadlineExceeded, or the error of the
        failure that came in place of a result.
        """
        try:
            async with asyncio.timeout(errand.deadline_s - time.monotonic()):
                return await self._ask(sent, errand, share)
        except TimeoutError:
            raise self._too_late() from None

    async def _ask(self, sent: Sent, errand: Errand, share: Share) -> Answer:
        header = read_header(sent.data, self._service.max_pixels)
        share.take(header.n_bytes)
        self._service.announce()
        try:
            frame = await asyncio.get_running_loop().run_in_executor(
                self.pool, _frame_of, sent, header, errand.trace_id
            )
        except BaseException:
            self._service.withdraw()
            raise
        message = await self._answer_to(frame, errand)
        if isinstance(message, FrameFailure):
            raise error_of(message.code, message.message)
        return Answer(message, frame.image_hwc)

    async def _answer_to(self, frame: Frame, errand: Errand) -> FrameResult | FrameFailure:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[FrameResult | FrameFailure] = loop.create_future()

        def take(message: FrameResult | FrameFailure) -> None:
            if not answer.done():
                answer.set_result(message)

        def reply(message: FrameResult | FrameFailure) -> None:
            # A loop that is closed is one on which nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(take, message)

        deadline_ns = int(errand.deadline_s * 1e9)
        # Who stops waiting cancels what it waits for: then it is done too.
        self._service.offer(Upload(frame, errand.wishes, deadline_ns, reply, gone=answer.done))
        return await answer

    def _too_late(self) -> DeadlineExceeded | ModelUnavailable:
        status = self._service.status()
        if not status.ready:
            return ModelUnavailable(f"no answer before the deadline: {'; '.join(status.reasons)}")
        return DeadlineExceeded("no answer before the deadline")


def _frame_of(sent: Sent, header: Header, trace_id: str) -> Frame:
    """The picture, decoded; on a thread of the pool."""
    started_ns = time.monotonic_ns()
    image_hwc, degraded = decode(sent.data, header)
    now_ns = time.monotonic_ns()
    return Frame(
        source_id=UPLOAD,
        frame_index=0,
        image_id=sent.name,
        pts_s=None,
        captured_at=utc_now(),
        captured_ns=now_ns,
        decode_ms=(now_ns - started_ns) / 1e6,
        trace_id=trace_id,
        degraded=degraded,
        image_hwc=image_hwc,
    )


async def while_connected(receive: Receive, work: Awaitable[Made]) -> Made:
    """What the work gives. It is cancelled as soon as whoever asked leaves: ClientDisconnect."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
