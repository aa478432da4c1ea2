"""Subscribes to a run and shows each message as a line. Needs zmq, pydantic and rich, no torch."""

import os
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from contracts.errors import WireError
from contracts.messages import (
    AnyMessage,
    FrameFailure,
    FrameResult,
    LedgerCounts,
    SourceEnd,
    SourceEvent,
    Status,
)
from scripts.listen_stats import Stats
from sinks.client import Received, subscribe

POLL_S = 0.2


def listen(
    endpoint: str,
    topic: str = "",
    as_json: bool = False,
    count: int | None = None,
    until_end: bool = False,
    stats: bool = False,
    silence_s: float | None = None,
    key: Path | None = None,
    publisher_key: Path | None = None,
) -> int:
    """Messages have been printed until `count` came, all sources seen ended, or Ctrl-C.

    `topic` is a prefix: `frame/` takes every source's results, `frame/cam1/` those of one; ends
    come with `""` or `end/`. `as_json` prints the messages as they came, one a line. `stats` prints
    a line a second instead: rate, latency, losses. Returns the exit status: 1 if a message could
    not be read or was lost on the way, else 0; after Ctrl-C always 0. BadSetting where the endpoint
    is not one, NoPublisher where not even a heartbeat comes for `silence_s`.
    """
    listener = Listener(as_json, Stats() if stats else None)
    subscription = subscribe(
        endpoint,
        [topic],
        on_gap=listener.lost,
        on_restart=listener.restarted,
        on_unreadable=listener.unreadable,
        silence_s=silence_s,
        key=key,
        publisher_key=publisher_key,
    )
    try:
        with subscription:
            listener.say(f"listening to {endpoint}, Ctrl-C ends")
            while not listener.done(count, until_end):
                if received := subscription.receive(POLL_S):
                    listener.take(received)
                listener.tick()
    except KeyboardInterrupt:
        listener.say(listener.summary())
        return 0
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): what Python flushes at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    listener.tick(last=True)
    listener.say(listener.summary())
    return 1 if listener.broken or listener.missing else 0


class Output(Console):
    """The console; where nobody reads it any more, that is a BrokenPipeError, not an exit."""

    def on_broken_pipe(self) -> None:
        """Called by rich."""
        raise BrokenPipeError


class Listener:
    """What came so far, and how it is shown: messages on stdout, everything else on stderr."""

    def __init__(self, as_json: bool, stats: Stats | None) -> None:
        self._as_json = as_json
        self._stats = stats
        self._out = Output(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._received: Counter[str] = Counter()
        self._frames: Counter[str] = Counter()
        self._ended: set[str] = set()
        self.broken = 0
        self.missing = 0

    def done(self, count: int | None, until_end: bool) -> bool:
        """True when nothing more is waited for."""
        if count is not None and self._received.total() + self.broken >= count:
            return True
        return until_end and bool(self._ended) and self._ended >= set(self._received)

    def take(self, received: Received) -> None:
        """The message is shown, or goes into the figures."""
        line = line_of(received.message, self._count(received.message))
        if self._stats:
            self._stats.take(received)
        elif self._as_json:
            print(received.payload.decode(), flush=True)
        elif line:
            self._out.print(line)

    def tick(self, last: bool = False) -> None:
        """The figures of the last second are shown, where they are asked for."""
        if self._stats and (last or self._stats.due):
            figures = self._stats.next_figures()
            print(figures.to_json() if self._as_json else figures, flush=True)

    def lost(self, topic: str, missing: range) -> None:
        """Told, and the exit status is 1."""
        self.missing += len(missing)
        if self._stats:
            self._stats.missing += len(missing)
        name = printable(topic)
        self.warn(f"{name}: lost {len(missing)}, numbers {missing.start} to {missing.stop - 1}")

    def restarted(self, _before: str, publisher: str) -> None:
        """Told."""
        self.warn(f"the publisher has been restarted: now {publisher}")

    def unreadable(self, error: WireError) -> None:
        """Named and counted."""
        self.broken += 1
        self._err.print(Text(printable(f"{error.code}: {error}"), "red"))

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

    def warn(self, text: str) -> None:
        """A line about what is not as it should be."""
        self._err.print(Text(text, "yellow"))

    def say(self, text: str) -> None:
        """A line about the listening itself."""
        self._err.print(Text(text, "dim"))

    def summary(self) -> str:
        """How many messages came from how many sources."""
        sources = ", ".join(f"{name} {n}" for name, n in sorted(self._received.items()))
        broken = f"; {self.broken} could not be read" if self.broken else ""
        missing = f"; {self.missing} were lost" if self.missing else ""
        total = self._received.total()
        return f"{total} messages ({sources or 'none came'}){broken}{missing}"


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
    if result.filtered:
        filtered = ", ".join(f"{name} {n}" for name, n in result.filtered.items())
        line.append(f"  filtered: {filtered}", "yellow")
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


def printable(text: str) -> str:
    """The text without control characters: it came over the network and goes to a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)
