"""From an exchange to an answer that can be compared with others, or the reason why it can't."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from scripts.review.client import Client, Exchange, Request
from scripts.review.findings import Findings
from scripts.review.geometry import Seen
from scripts.review.pictures import Picture
from scripts.review.read import Found, Unreadable, detections_in, floats_in

OURS = {"detections", "classifications", "inference_ms"}
"""The keys by which framewire's own answers are known."""
MOST_SHOWN = 160


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a service said of a good picture."""

    picture: Picture
    exchange: Exchange
    found: list[Found]

    @property
    def seen(self) -> Seen:
        """For the geometry."""
        return Seen(self.found, self.picture.size, self.picture.move)

    @property
    def body(self) -> Any:
        """The JSON as it came."""
        return self.exchange.json


@dataclasses.dataclass
class Review:
    """One review: whom it asks, what it found, and the format of boxes that is promised."""

    client: Client
    findings: Findings
    promised: str = "xyxy"
    tell: Callable[[str], None] = lambda _name: None
    """Called with the name of each request before it is sent."""

    def ask(self, request: Request) -> Exchange:
        """The exchange; where no answer came, that is reported."""
        self.tell(request.name)
        exchange = self.client.send(request)
        if exchange.fault:
            waited = f"no whole answer in {exchange.wall_ms / 1e3:.1f} s"
            closed = "the connection ended without an answer that can be read"
            detail = waited if exchange.fault == "hangs" else closed
            self.findings.report(exchange.fault, exchange, detail)
        return exchange

    def show(self, picture: Picture, odd: bool = False) -> Answer | None:
        """What is said of a good picture; None where it is no result, and why is reported.

        An odd picture may be refused.
        """
        exchange = self.ask(picture.request)
        if exchange.status is None or not self._result(exchange, odd):
            return None
        try:
            found = detections_in(exchange.json, self.promised)
        except Unreadable as unread:
            self.findings.report(unread.code, exchange, str(unread))
            return None
        return Answer(picture, exchange, found)

    def _result(self, exchange: Exchange, odd: bool) -> bool:
        """True where it is JSON that says that all went well; else why not is reported."""
        report = self.findings.report
        if exchange.failed:
            report("odd_picture_fails" if odd else "good_upload_fails", exchange, shown(exchange))
        elif exchange.html:
            report("html_page", exchange, shown(exchange))
        elif not exchange.good:
            code = "odd_picture_refused" if odd else "good_upload_refused"
            report(code, exchange, shown(exchange) + _hint(exchange))
        elif exchange.json is None:
            report("json_broken", exchange, shown(exchange))
        else:
            self.findings.ours |= isinstance(exchange.json, dict) and exchange.json.keys() >= OURS
            check_json(self.findings, exchange)
            return True
        return False


def check_json(findings: Findings, exchange: Exchange) -> None:
    """It is JSON that every parser takes, and says so."""
    if not all(map(math.isfinite, floats_in(exchange.json))):
        findings.report("json_nan", exchange, "NaN or Infinity, which other parsers refuse")
    kind: str = exchange.headers.get("content-type", "")
    if "json" not in kind.lower():
        findings.report("content_type_missing", exchange, f"Content-Type: {kind or 'none'}")


def shown(exchange: Exchange) -> str:
    """The status and the beginning of what was said."""
    text = " ".join(exchange.content[: 4 * MOST_SHOWN].decode(errors="replace").split())
    printable = "".join(char if char.isprintable() else "�" for char in text)
    dots = " …" if len(printable) > MOST_SHOWN else ""
    return f"{exchange.status} {printable[:MOST_SHOWN]}{dots}"


def _hint(exchange: Exchange) -> str:
    """What may be meant."""
    if "location" in exchange.headers:
        return f" (it points to {exchange.headers['location']})"
    if exchange.status in (401, 403):
        return " (does it take a key? --header 'X-Api-Key: ${KEY}')"
    if exchange.status in (404, 405):
        return " (is it another --path?)"
    if exchange.status in (400, 415, 422):
        return " (does it take another --field, or --raw?)"
    return ""
