"""`framewire status`: how a running process is, as it says itself each second over ZeroMQ."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.errors import NoPublisher
from contracts.messages import SourceStatus, Status
from scripts.listen import account, printable
from sinks.client import subscribe

COLORS = {"live": "green", "paused": "cyan", "failed": "red", "stalled": "red"}


def show_status(
    endpoint: str,
    timeout_s: float,
    as_json: bool,
    console: Console,
    key: Path | None = None,
    publisher_key: Path | None = None,
) -> int:
    """What the process says next is shown; 0 where it is ready, else 1. Keys as in `subscribe`.

    Raises BadSetting where the endpoint is not one, NoPublisher where nothing comes in time.
    """
    status = next_status(endpoint, timeout_s, key, publisher_key)
    if as_json:
        print(status.model_dump_json())
    else:
        console.print(headline(status))
        console.print(table_of(status.sources))
    return 0 if status.ready else 1


def next_status(
    endpoint: str, timeout_s: float, key: Path | None, publisher_key: Path | None
) -> Status:
    """What the process that publishes there says next. BadSetting, NoPublisher, WireError."""
    with subscribe(endpoint, ["status/"], key=key, publisher_key=publisher_key) as subscription:
        received = subscription.receive(timeout_s)
    if received and isinstance(received.message, Status):
        return received.message
    raise NoPublisher(
        f"{endpoint}: no status came within {timeout_s:g} s; does a run publish there?"
    )


def headline(status: Status) -> Text:
    """`ready, up 3 min, bundled:parts (openvino, float32)`."""
    up_s = (status.at - status.started_at).total_seconds()
    detector = status.models.detector
    ready = Text("ready", "green") if status.ready else Text("not ready", "bold red")
    models = f"{detector.name} ({detector.runtime}, {detector.precision})"
    line = Text.assemble(ready, f", up {_span(up_s)}, {printable(models)}")
    return line.append("".join(f"\n{printable(reason)}" for reason in status.reasons), "red")


def table_of(sources: Iterable[SourceStatus]) -> Table:
    """One row a source: its state, its rate, how often it was opened, and where its frames are."""
    table = Table("source", "state")
    table.add_column("frames/s", justify="right")
    table.add_column("opened", justify="right")
    table.add_column("account")
    for source in sources:
        table.add_row(
            Text(printable(source.source_id)),
            _state(source),
            f"{source.fps:.1f}",
            _opened(source),
            account(source.ledger),
        )
    return table


def _state(source: SourceStatus) -> Text:
    text = Text(source.state, COLORS.get(source.state, "yellow"))
    return text.append(f"\n{source.code}", "yellow") if source.code else text


def _opened(source: SourceStatus) -> str:
    hung = f"\n{source.abandoned_threads} hung" if source.abandoned_threads else ""
    return f"{source.connections}×{hung}"


def _span(seconds: float) -> str:
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"
