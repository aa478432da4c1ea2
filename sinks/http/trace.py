"""A request's trace, as W3C has it: taken over from who calls, or begun here."""

import re
import secrets
from typing import NamedTuple

from starlette.datastructures import Headers

from contracts.frame import new_trace_id

# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may say more at the end.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


class Trace(NamedTuple):
    """What a request belongs to."""

    trace_id: str
    traceparent: str
    """As it goes back to who called."""


def trace_of(headers: Headers) -> Trace:
    """The caller's, where it sends a valid one."""
    given = headers.get("traceparent", "")
    match = _TRACEPARENT.fullmatch(given)
    if match:
        version, trace_id, parent_id, more = match.groups()
        right = version != "ff" and not (version == "00" and more)
        if right and int(trace_id, 16) and int(parent_id, 16):
            return Trace(trace_id, given)
    begun = new_trace_id()
    return Trace(begun, f"00-{begun}-{secrets.token_hex(8)}-00")
