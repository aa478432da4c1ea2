"""How the service refuses: each bad upload, path, method and parameter, and the errors it sends."""

import re
from typing import Any

from scripts.review.answers import Review, check_json, shown
from scripts.review.client import Exchange, Request
from scripts.review.compare import trace_id_of
from scripts.review.findings import Findings
from scripts.review.read import is_number, plain, walk
from scripts.review.uploads import Upload

HEALTH_PATHS = (
    "/healthz",
    "/health",
    "/readyz",
    "/ready",
    "/livez",
    "/v1/health",
    "/ping",
    "/status",
)
CODE_KEYS = ("code", "errorcode", "type", "error", "reason")
CODE = re.compile(r"[A-Za-z][\w.-]*|(?:https?://|urn:)\S+")
TRACEBACK = re.compile(rb'Traceback \(most recent call last\)|File "[^"]+", line \d+')


def check_upload(review: Review, upload: Upload) -> None:
    """The upload is refused, with an error that a program can tell from others."""
    exchange = review.ask(upload.request)
    refused = upload.ours_refused if review.findings.ours else upload.refused
    if exchange.failed:
        review.findings.report("bad_upload_fails", exchange, shown(exchange))
    elif exchange.good and refused:
        review.findings.report("bad_upload_accepted", exchange, shown(exchange))
    check_error(review.findings, exchange)


def check_protocol(review: Review, good: Request) -> None:
    """A wrong path, method or parameter is refused in the same way."""
    nowhere = Request("a path that isn't there", good.part, path="/v1/framewire-check/nothing")
    method = Request("GET in place of POST", method="GET")
    senseless = Request("min_score=nonsense", good.part, query=(("min_score", "nonsense"),))
    for request, code in (
        (nowhere, "wrong_path_accepted"),
        (method, "wrong_method_accepted"),
        (senseless, "bad_parameter_ignored"),
    ):
        exchange = review.ask(request)
        if exchange.failed:
            review.findings.report("bad_request_fails", exchange, shown(exchange))
        elif exchange.good:
            review.findings.report(code, exchange, shown(exchange))
        check_error(review.findings, exchange)


def check_health(review: Review) -> None:
    """There is a path that says whether the service is well."""
    for path in HEALTH_PATHS:
        exchange = review.ask(Request(f"GET {path}", method="GET", path=path))
        if exchange.status in (200, 204, 503):
            return
    tried = ", ".join(HEALTH_PATHS)
    review.findings.report("health_missing", exchange, f"nothing at {tried}")


def check_error(findings: Findings, exchange: Exchange) -> None:
    """An error is JSON with a code and a trace id, and tells nothing of the inside."""
    if exchange.status is None or exchange.status < 400:
        return
    if TRACEBACK.search(exchange.content):
        findings.report("error_tells_internals", exchange, shown(exchange))
    if exchange.html:
        findings.report("html_page", exchange, shown(exchange))
    elif not isinstance(exchange.json, dict):
        findings.report("error_not_json", exchange, shown(exchange))
    else:
        check_json(findings, exchange)
        if not any(_is_code(key, value, exchange) for key, value in walk(exchange.json)):
            findings.report("error_without_code", exchange, shown(exchange))
        if trace_id_of(exchange) is None:
            findings.report("error_without_trace_id", exchange, shown(exchange))


def _is_code(key: str, value: Any, exchange: Exchange) -> bool:
    """A word or a number, but not the HTTP status once more."""
    if plain(key) not in CODE_KEYS or value == exchange.status:
        return False
    return is_number(value) or (isinstance(value, str) and bool(CODE.fullmatch(value)))
