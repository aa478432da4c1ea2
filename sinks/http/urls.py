"""Which URLs the service may fetch: those that every reader reads alike, on the ports allowed."""

import ipaddress
import re
from collections.abc import Collection

import httpx

from contracts.errors import UrlNotAllowed
from contracts.uris import without_credentials

LONGEST_URL = 8192
LONGEST_HOST = 253
SHOWN_CHARACTERS = 200

_BEGIN = re.compile(r"https?://(?P<authority>[^/?#]*)", re.IGNORECASE)
_NEVER_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]|\s")
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_LAST_IS_A_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def read_url(text: str, ports: Collection[int]) -> httpx.URL:
    """The URL, with its host in one spelling: lower case, punycode, no dot at its end.

    Raises UrlNotAllowed for other schemes, credentials, other ports, and whatever two readers of
    URLs may understand differently (`http://a\\@b/`, `http://0x7f.1/`).
    """
    if len(text) > LONGEST_URL:
        raise UrlNotAllowed(f"has {len(text)} characters, at most {LONGEST_URL}")
    if _NEVER_IN_A_URL.search(text):
        raise UrlNotAllowed("has a space, a backslash or a control character")
    begin = _BEGIN.match(text)
    if begin is None:
        raise UrlNotAllowed("expected http:// or https://")
    if "@" in begin["authority"]:
        raise UrlNotAllowed("has a user or a password before its host, which isn't taken")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise UrlNotAllowed("isn't a valid URL") from error
    host = url.raw_host.decode("ascii").removesuffix(".")
    _check_host(host)
    port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if port not in ports:
        raise UrlNotAllowed(f"is on another port than {', '.join(map(str, sorted(ports)))}")
    return url.copy_with(host=host, fragment=None)


def redirected(url: httpx.URL, location: str, ports: Collection[int]) -> httpx.URL:
    """Where a redirect leads, read as any URL is. Raises UrlNotAllowed; also from https to http."""
    # Before it is joined, which may take some of these away.
    if _NEVER_IN_A_URL.search(location):
        raise UrlNotAllowed("has a space, a backslash or a control character")
    try:
        joined = str(url.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise UrlNotAllowed("isn't a valid URL") from error
    target = read_url(joined, ports)
    if url.scheme == "https" and target.scheme == "http":
        raise UrlNotAllowed("leads from https to http")
    return target


def shown(url: str) -> str:
    """As it may stand in a message: without credentials, one line, not too long."""
    if len(url) > LONGEST_URL:
        return f"a URL of {len(url)} characters"
    text = without_credentials(url)
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _check_host(host: str) -> None:
    """A name, or an IP address in its one usual form. Raises UrlNotAllowed."""
    # What ends in a number is an address to some readers: `127.1`, `0x7f000001`, `010.0.0.1`.
    if ":" in host or _LAST_IS_A_NUMBER.fullmatch(host):
        if not _is_usual_address(host):
            raise UrlNotAllowed("has an address that isn't in its usual form")
    elif len(host) > LONGEST_HOST or not _NAME.fullmatch(host):
        raise UrlNotAllowed("has no valid host name")


def _is_usual_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    # A zone (`fe80::1%eth0`) is of this machine only.
    return "%" not in host
