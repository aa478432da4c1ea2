"""`framewire check`: asks a running vision service good and bad questions, and names its bugs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.errors import BadSetting
from contracts.uris import redact
from scripts.console import console as standard_error
from scripts.review import pictures
from scripts.review.answers import Review
from scripts.review.client import Client, Request, Target
from scripts.review.course import run_course
from scripts.review.curl import curl_line
from scripts.review.findings import Finding, Findings, Level
from scripts.review.geometry import PROMISES

COLORS = {Level.BUG: "red", Level.WEAKNESS: "yellow", Level.UNTOLD: "dim"}


def check_service(
    target: Target,
    console: Console,
    promised: str = "xyxy",
    image: Path | None = None,
    as_json: bool = False,
    folder: Path = Path("out/check"),
) -> int:
    """What is wrong is shown, the first bug first; 1 where there is a bug, else 0.

    `image` is shown to the service in place of the picture that is drawn; what the requests told
    upload is written into `folder`. Raises BadSetting, NotAnImage, OutputUnwritable, and
    ServiceUnreachable where nobody answers.
    """
    if promised not in PROMISES:
        raise BadSetting(f"box_format: {promised!r} is none of {', '.join(PROMISES)}")
    picture = pictures.opened(image) if image else pictures.drawn()
    client = Client(target)
    review = Review(client, Findings(), promised)
    try:
        with standard_error.status("asking") as status:
            review.tell = lambda name: status.update(f"asking: {name}")
            run_course(review, picture, () if image else pictures.SHAPES)
    finally:
        client.close()
    curls = {
        finding.rule.code: curl_line(finding.exchange.request, target, folder)
        for finding in review.findings.all()
    }
    if as_json:
        print(json.dumps(report_of(review, curls), indent=2, ensure_ascii=False))
    else:
        show(review, curls, console)
    return 1 if review.findings.of(Level.BUG) else 0


def report_of(review: Review, curls: dict[str, str]) -> dict[str, Any]:
    """The review for a program; `first_bug` is None where there is none."""

    def entry(finding: Finding) -> dict[str, Any]:
        return {
            "code": finding.rule.code,
            "level": str(finding.level),
            "meaning": finding.rule.meaning,
            "detail": finding.detail,
            "status": finding.exchange.status,
            "curl": curls[finding.rule.code],
            "also_seen": finding.more,
        }

    bugs = review.findings.of(Level.BUG)
    return {
        "url": _address(review),
        "contract": "framewire" if review.findings.ours else "any",
        "requests": review.client.sent,
        "first_bug": entry(bugs[0]) if bugs else None,
        "findings": [entry(finding) for finding in review.findings.all()],
    }


def show(review: Review, curls: dict[str, str], console: Console) -> None:
    """The review for a person."""
    findings, bugs = review.findings.all(), review.findings.of(Level.BUG)
    kind = "answers as framewire does" if review.findings.ours else "has a contract of its own"
    line = f"{_address(review)} {kind}; {review.client.sent} requests"
    console.print(Text(line), soft_wrap=True)
    if not bugs:
        console.print(Text("no bug found", "green"))
    for finding in findings[: len(bugs[:1])]:
        console.print(Text(f"first bug: {finding.rule.meaning}", "bold red"))
        _show_request(finding, curls, console)
    if findings:
        console.print(table_of(findings))
    for finding in findings[len(bugs[:1]) :]:
        _show_request(finding, curls, console)


def table_of(findings: Sequence[Finding]) -> Table:
    """One row a finding: bugs, weaknesses, what could not be told."""
    table = Table("", "code", "what is wrong")
    table.add_column("seen", justify="right")
    for finding in findings:
        level = Text(finding.level, COLORS[finding.level])
        seen = f"{1 + finding.more}×"
        table.add_row(level, Text(finding.rule.code), Text(finding.rule.meaning), seen)
    return table


def _show_request(finding: Finding, curls: dict[str, str], console: Console) -> None:
    code = Text(finding.rule.code, COLORS[finding.level])
    console.print(Text.assemble(code, f"  {finding.detail}"), soft_wrap=True)
    console.print(Text(f"  {curls[finding.rule.code]}"), soft_wrap=True)


def _address(review: Review) -> str:
    return redact(review.client.target.url_of(Request("")))
