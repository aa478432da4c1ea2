"""Subscribes to a run and shows each message as a line. Needs zmq, pydantic and rich, no torch."""

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import zmq
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from contracts.errors import BadSetting
from contracts.messages import (
    AnyMessage,
    FrameFailure,
    FrameResult,
    LedgerCounts,
    SourceEnd,
    SourceEvent,
    Status,
    parse_message,
)

POLL_MS = 200


def listen(
    endpoint: str,
    topic: str = "",
    as_json: bool = False,
    count: int | None = None,
    until_end: bool = False,
) -> int:
    """Messages have been printed until `count` came, all sources seen ended, or Ctrl-C.

    `topic` is a prefix: `frame/` takes every source's results, `frame/cam1/` those of one; ends
    come with `""` or `end/`. `as_json` prints the messages as they came, one a line. Returns the
    exit status: 1 if a message broke the contract, else 0; after Ctrl-C always 0. BadSetting where
    the endpoint is not one.
    """
    listener = Listener(as_json)
    try:
        with subscribed(endpoint, topic) as socket:
            listener.say(f"listening to {endpoint}, Ctrl-C ends")
            while not listener.done(count, until_end):
                # Not an endless wait: a Ctrl-C just before it would be noticed only after it.
                if socket.poll(POLL_MS):
                    listener.take(*socket.recv_multipart()[:2])
    except KeyboardInterrupt:
        listener.say(listener.summary())
        return 0
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): what Python flushes at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    listener.say(listener.summary())
    return 1 if listener.broken else 0


@contextlib.contextmanager
def subscribed(endpoint: str, topic: str) -> Iterator[zmq.Socket[bytes]]:
    """A SUB socket that is connected, or will be as soon as somebody publishes there."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        socket.subscribe(topic.encode())
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise BadSetting(
                f"{endpoint!r} is not an endpoint ({error.strerror}); "
                "write tcp://HOST:PORT or ipc://PATH"
            ) from error
        yield socket


class Output(Console):
    """The console; where nobody reads it any more, that is a BrokenPipeError, not an exit."""

    def on_broken_pipe(self) -> None:
        """Called by rich."""
        raise BrokenPipeError


class Listener:
    """What came so far, and how it is shown: messages on stdout, everything else on stderr."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._out = Output(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._received: Counter[str] = Counter()
        self._frames: Counter[str] = Counter()
        self._ended: set[str] = set()
        self.broken = 0

    def done(self, count: int | None, until_end: bool) -> bool:
        """True when nothing more is waited for."""
        if count is not None and self._received.total() + self.broken >= count:
            return True
        return until_end and bool(self._ended) and self._ended >= set(self._received)

    def take(self, topic: bytes, payload: bytes = b"") -> None:
        """The message is shown, or named and counted where it breaks the contract."""
        try:
            message = parse_message(payload)
        except ValidationError as error:
            self.broken += 1
            where = printable(topic.decode(errors="replace"))
            self._err.print(Text(f"{where}: breaks the contract: {first_fault(error)}", "red"))
            return
        line = line_of(message, self._count(message))
        if self._as_json:
            print(payload.decode(), flush=True)
        elif line:
            self._out.print(line)

    def _count(self, message: AnyMessage) -> int:
        """How many results and failures of its source came before this one.

        Counted before it is printed, so that a Ctrl-C meanwhile finds it counted.
        """
        if isinstance(message, Status):
            return 0
        source_id = message.source_id
        before = self._frames[source_id]
        self._frames[source_id] += isinstance(message, FrameResult | FrameFailure)
        self._received[source_id] += 1
        if isinstance(message, SourceEnd):
            self._ended.add(source_id)
        return before

    def say(self, text: str) -> None:
        """A line about the listening itself."""
        self._err.print(Text(text, "dim"))

    def summary(self) -> str:
        """How many messages came from how many sources."""
        sources = ", ".join(f"{name} {n}" for name, n in sorted(self._received.items()))
        broken = f"; {self.broken} broke the contract" if self.broken else ""
        return f"{self._received.total()} messages ({sources or 'none came'}){broken}"


def line_of(message: AnyMessage, received: int) -> Text | None:
    """One readable line; None for a status, which comes each second and says nothing new.

    `received` is how many results and failures of the source came before.
    """
    match message:
        case FrameResult():
            return result_line(message)
        case FrameFailure():
            return failure_line(message)
        case SourceEnd():
            return end_line(message, received)
        case SourceEvent():
            return event_line(message)
        case Status():
            return None


def result_line(result: FrameResult) -> Text:
    """`cam1 #12 0.480 s  2× gear (brass), 1× nut  “EXIT 4”  31 ms after capture`."""
    line = Text.assemble((printable(result.source_id), "cyan"), f" #{result.frame_index}")
    line.append(clock(result.pts_s), "dim")
    line.append("  " + (detected(result) or "nothing"))
    if result.texts:
        line.append("  " + " ".join(f"“{printable(item.text)}”" for item in result.texts), "green")
    age_ms = (datetime.now(UTC) - result.captured_at).total_seconds() * 1000
    # Another machine's clock may be ahead of ours; then the difference says nothing.
    if age_ms >= 0:
        line.append(f"  {age_ms:.0f} ms after capture", "dim")
    if result.degraded:
        line.append(f"  degraded: {', '.join(result.degraded)}", "yellow")
    return line


def failure_line(failure: FrameFailure) -> Text:
    """`cam1 #13 0.520 s  corrupt_image: …` in red."""
    line = Text.assemble((printable(failure.source_id), "cyan"), f" #{failure.frame_index}")
    line.append(clock(failure.pts_s), "dim")
    return line.append(f"  {failure.code}: {printable(failure.message)}", "red")


def event_line(event: SourceEvent) -> Text:
    """`cam1 backing_off  stalled: no frame for 5 s  next try in 0.5 s`."""
    line = Text.assemble((printable(event.source_id), "cyan"), f" {event.state}")
    if event.code:
        line.append(f"  {event.code}: {printable(event.message)}", "yellow")
    if event.retry_in_s is not None:
        line.append(f"  next try in {event.retry_in_s:.1f} s", "dim")
    return line


def end_line(end: SourceEnd, received: int) -> Text:
    """`cam1 ended  captured 120 = delivered 118 + failed 2 (decode_error 2)`, and what was lost."""
    line = Text.assemble((printable(end.source_id), "cyan"), " ended")
    if end.code:
        line.append(f"  {end.code}: {printable(end.message)}", "red")
    line.append(f"  {account(end.ledger)}", "bold")
    sent = end.ledger.delivered + sum(end.ledger.failed.values())
    if received < sent:
        line.append(f"  {sent - received} of {sent} messages did not come here", "yellow")
    return line


def account(ledger: LedgerCounts) -> str:
    """`captured 120 = delivered 110 + dropped 8 (queue_full 8) + failed 2 (decode_error 2)`."""
    parts = [f"delivered {ledger.delivered}"]
    for name, counts in (("dropped", ledger.dropped), ("failed", ledger.failed)):
        if counts:
            reasons = ", ".join(f"{code} {n}" for code, n in sorted(counts.items()))
            parts.append(f"{name} {sum(counts.values())} ({reasons})")
    if ledger.in_flight:
        parts.append(f"in flight {ledger.in_flight}")
    return f"captured {ledger.captured} = {' + '.join(parts)}"


def detected(result: FrameResult) -> str:
    """`2× gear (brass), 1× nut`: the most frequent first."""
    finer = {item.detection_index: item.class_name for item in result.classifications}
    names = Counter(
        f"{detection.class_name} ({finer[index]})" if index in finer else detection.class_name
        for index, detection in enumerate(result.detections)
    )
    return printable(", ".join(f"{n}× {name}" for name, n in names.most_common()))


def clock(pts_s: float | None) -> str:
    """` 0.480 s`, or nothing where the stream has no times."""
    return "" if pts_s is None else f" {pts_s:.3f} s"


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, on one line."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return printable(f"{where}: {fault['msg']}" if where else fault["msg"])


def printable(text: str) -> str:
    """The text without control characters: it came over the network and goes to a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)
