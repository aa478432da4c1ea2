"""How a source's URI may be shown: without what opens the door.

Hidden are the user and the password, values of parameters that are named like a secret (`token=`,
`X-Amz-Signature=`, SRT's `passphrase=` and `streamid=`), and the last part of an RTMP path, which
is the stream's key. Where people write a password as it is, with `/`, `?`, `@` or `://` in it, no
rule tells where the host begins: then the last @ does, and rather too much is hidden. Two readings
are taken at their word: `http://name/a@b`, without a colon, is a path with an @ in it, and
`http://name:80/?src=rtsp://…` a URI in another.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import quote, unquote

HIDDEN = "***"
REFERENCE = re.compile(r"\$\{(?:file:(?P<file>[^{}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\}")
"""`${NAME}` or `${file:PATH}`: where a secret is put in when the source is opened."""

_SECRET_NAME = re.compile(
    r"token|secret|pass|pwd|psw|credential|auth|bearer|jwt|session|signature|hmac|streamid|playpath"
    r"|^hdn|(key|pas|pw|sig|sign|sas|md5|ticket)$"
)
# Every pattern begins where a scan can't have been before, so that long texts take linear time.
_PARAMETER = re.compile(r"(?:^|[\s?&;#=,|\"'(<]|(?<!:/)/)([^\s?&;#/=,|\"'(<:@]+)(?==)")
_NEXT_PARAMETER = re.compile(r"[&;](?=[^&;=:/@\s]+=)")
_NESTED = re.compile(r"[=|,;?&\"'(<\s][A-Za-z][A-Za-z0-9+.-]*://")
_ENCODED = re.compile(r"%(?:25)*3A(?:%(?:25)*2F){2}([^\s&;@]+)", re.IGNORECASE)
_ENCODED_AT = re.compile(r".*%(?:25)*40", re.DOTALL)
_HOST = re.compile(r"(?:[^\s:\[\]=,;|\"'<>&]+|\[[^\[\]]*\])(?::[0-9]{1,5})?")
_IPV6 = r"\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?\]"
_IPV6_AND_PORT = re.compile(rf"{_IPV6}(?::[0-9]{{1,5}})?")
# `tcp://*:*` is an endpoint, `tcp://HOST:PORT` tells how to write one.
_ENDS_IN_PORT = re.compile(rf"(?:{_IPV6}|[^:]*)(?::(?:[0-9]{{1,5}}|\*|PORT)?\W*)?")
_RTMP = re.compile(r"rtmp[a-z]*$", re.IGNORECASE)
# `C:\shots\a@b.jpg`, `file:a@b.mp4` and `onnx:a@b.onnx` are names of files.
_BARE = re.compile(r"(?!\W*[A-Za-z]:[/\\]|\W*(?:file|onnx):)[^/\\:?#]+:[^@]*@")
_AT_HOST = re.compile(r"@[\w\[]")
# A text may go on right behind what was hidden before: `?token=***: refused`.
_ALREADY_HIDDEN = re.compile(r"\*{3}\W*")
_AUTHORIZATION = re.compile(r"(authorization:\s*\w+\s+)\S.*", re.IGNORECASE)

_resolved: dict[str, str] = {}
"""What may never be shown, and what is shown in its place."""
_SHORTEST_RESOLVED = 6


class Secret(NamedTuple):
    """Characters `start` to `end` of a URI, and what is shown in their place."""

    start: int
    end: int
    shown: str = HIDDEN


def without_credentials(uri: str) -> str:
    """The URI as it may be shown: `rtsp://user:secret@host/door` is `rtsp://host/door`."""
    # What a first look leaves may look like something to hide too.
    while (shown := _show(uri, _secrets(uri))) != uri:
        uri = shown
    return uri


def redact(text: str) -> str:
    """The text, such as an error's of FFmpeg, with every URI in it as it may be shown.

    What `remember_secret` was told is hidden too, wherever it stands. In a text, a space may end a
    URI: one whose password has spaces is shown safely only by `without_credentials`.
    """
    for secret in sorted(_resolved, key=len, reverse=True):
        text = text.replace(secret, _resolved[secret])
    text = _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    if not re.search("[@=%]|://", text):
        return text
    return "".join(without_credentials(piece) for piece in _pieces(text))


def remember_secret(value: str, reference: str) -> None:
    """From now on `redact` shows the reference wherever the value stands.

    Values shorter than six characters are hidden in URIs only: others turn up by chance too often.
    """
    for spelling in (value, quote(value, safe="", errors="surrogateescape")):
        if len(spelling) >= _SHORTEST_RESOLVED:
            _resolved[spelling] = reference


def has_credentials(uri: str) -> bool:
    """True where a secret is written out in it: not `${NAME}`, and not a user before a colon.

    A user without a colon may be a token.
    """
    plain = REFERENCE.sub("", uri)
    return any(_is_written_out(plain, secret) for secret in _secrets(plain))


def _is_written_out(uri: str, secret: Secret) -> bool:
    if secret.shown:
        return secret.end > secret.start
    user, colon, password = uri[secret.start : secret.end - 1].partition(":")
    return bool(password if colon else user)


def _show(uri: str, secrets: Iterable[Secret]) -> str:
    shown, position = "", 0
    for secret in sorted(secrets):
        if secret.start >= position:
            shown += uri[position : secret.start] + secret.shown
        position = max(position, secret.end)
    return shown + uri[position:]


def _secrets(uri: str) -> list[Secret]:
    """Everything in the text that must not be shown."""
    found = list(_parameters(uri))
    # An @ in a parameter's value is not the one that ends a password.
    characters = list(uri)
    for start, end, _ in found:
        characters[start:end] = "*" * (end - start)
    masked = "".join(characters)
    found += _encoded(uri)
    before_scheme = masked.partition("://")[0]
    if _BARE.match(before_scheme):
        found.append(Secret(0, before_scheme.rindex("@") + 1, ""))
    for start, end in _locations(masked):
        host = start
        if userinfo := _userinfo(masked, start, end):
            found.append(userinfo)
            host = userinfo.end
        found += _wrong_port(masked, host, end)
        if _RTMP.search(masked, max(0, start - 11), start - 3):
            found += _rtmp_key(masked, host, end)
    return [one for one in found if not _ALREADY_HIDDEN.fullmatch(uri, one.start, one.end)]


def _parameters(uri: str) -> Iterator[Secret]:
    """Values of parameters that are named like a secret, each up to the next parameter."""
    position = 0
    for parameter in _PARAMETER.finditer(uri):
        name = re.sub("[^a-z0-9]", "", unquote(parameter[1]).lower())
        if parameter.start(1) >= position and _SECRET_NAME.search(name):
            start = parameter.end() + 1
            following = _NEXT_PARAMETER.search(uri, start)
            position = following.start() if following else len(uri)
            yield Secret(start, position)


def _encoded(uri: str) -> Iterator[Secret]:
    """URIs inside of URIs, percent-encoded however often, that have something to hide."""
    for match in _ENCODED.finditer(uri):
        decoded = "://" + unquote(re.sub("%(?:25)+", "%", match[1]))
        if "@" in decoded or any(_parameters(decoded)):
            yield Secret(*match.span(1))


def _locations(uri: str) -> Iterator[tuple[int, int]]:
    """What follows each `://`, up to the next URI in the text, if that is not in a password."""
    start = uri.find("://") + 3
    if start < 3:
        return
    for nested in _NESTED.finditer(uri, start):
        host = _authority(uri, start, nested.start()).rpartition("@")[2]
        if not _HOST.fullmatch(host):
            break
        yield start, nested.start() + 1
        start = nested.end()
    yield start, len(uri)


def _authority(uri: str, start: int, end: int) -> str:
    return re.split("[/?#]", uri[start:end], maxsplit=1)[0]


def _userinfo(uri: str, start: int, end: int) -> Secret | None:
    """User and password with their @, where the location has them, written well or not."""
    authority = _authority(uri, start, end)
    if _IPV6_AND_PORT.fullmatch(authority):
        return None
    at = uri.rfind("@", start, end)
    if at > start and (":" in uri[start:at] or "@" in authority):
        return Secret(start, at + 1, "")
    if encoded := _ENCODED_AT.match(authority):
        return Secret(start, start + encoded.end(), "")
    return None


def _wrong_port(uri: str, start: int, end: int) -> Iterator[Secret]:
    """What stands for a port and can't be one: a password whose host was forgotten."""
    authority = _authority(uri, start, end)
    if not _ENDS_IN_PORT.fullmatch(authority):
        yield Secret(start + authority.index(":") + 1, start + len(authority))


def _rtmp_key(uri: str, start: int, end: int) -> Iterator[Secret]:
    """The last part of `HOST/APP/KEY`; a path of one part is the application's name."""
    path = re.split(r"[?#\s]", uri[start:end], maxsplit=1)[0].rstrip("/")
    if path.count("/") >= 2:
        yield Secret(start + path.rindex("/") + 1, start + len(path))


def _pieces(text: str) -> Iterator[str]:
    """The text's words and the space between them; a URI whose password has spaces is one word."""
    words = re.split(r"(\s+)", text)
    with_host = [bool(_AT_HOST.search(word)) for word in words]
    last_host = max((position for position, has in enumerate(with_host) if has), default=-1)
    piece: list[str] = []
    goes_on = False
    for position, word in enumerate(words):
        piece.append(word)
        goes_on = (goes_on or breaks_off(word)) and not with_host[position] and position < last_host
        if not goes_on:
            yield "".join(piece)
            piece.clear()


def breaks_off(uri: str) -> bool:
    """True where it ends in the middle of a password, as `rtsp://user:pa` of `user:pa,ss@host`."""
    _, separator, location = uri.rpartition("://")
    authority = _authority(location, 0, len(location))
    if not separator or _AT_HOST.search(location):
        return False
    return authority.partition(":")[1:] == (":", "") or not _ENDS_IN_PORT.fullmatch(authority)
