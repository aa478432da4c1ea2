"""Which URLs are fetched at all: what two readers may understand differently is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import UrlNotAllowed
from sinks.http.urls import LONGEST_URL, SHOWN_CHARACTERS, read_url, redirected, shown

PORTS = (80, 443)

READ = [
    ("http://example.com/a.jpg", "http://example.com/a.jpg"),
    ("HTTPS://EXAMPLE.com", "https://example.com"),
    ("http://example.com:80/a?b=c#d", "http://example.com/a?b=c"),
    ("http://example.com:443/", "http://example.com:443/"),
    ("http://example.com:/", "http://example.com/"),
    ("http://example.com./", "http://example.com/"),
    ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
    ("http://XN--BCHER-KVA.example/", "http://xn--bcher-kva.example/"),
    ("http://my_store.example/", "http://my_store.example/"),
    ("http://localhost/", "http://localhost/"),
    ("http://93.184.216.34/", "http://93.184.216.34/"),
    ("http://127.0.0.1./", "http://127.0.0.1/"),
    ("http://127。0。0。1/", "http://127.0.0.1/"),
    ("http://[::1]:443/", "http://[::1]:443/"),
    ("http://example.com/@user:pass", "http://example.com/@user:pass"),
    ("http://example.com?@evil.example/", "http://example.com?@evil.example/"),
    ("http://example.com/../../a", "http://example.com/a"),
    ("http://example.com//a", "http://example.com//a"),
]
REFUSED = [
    # Not a URL of the web.
    "",
    "example.com/a.jpg",
    "//example.com/a.jpg",
    "/a.jpg",
    "file:///etc/passwd",
    "ftp://example.com/a.jpg",
    "gopher://127.0.0.1:6379/_",
    "data:image/png;base64,AA==",
    "http:example.com",
    "http:/example.com",
    "http:///example.com",
    "https://",
    "http://?a",
    "http://:80/",
    "http://./",
    "ｈttp://example.com/",
    # Someone, before or instead of the host.
    "http://good.example@evil.example/",
    "http://user:secret@example.com/",
    "http://@example.com/",
    "http://good.example:80@evil.example/",
    # A host or another, as it is read.
    "http://good.example\\@evil.example/",
    "http://good.example\\.evil.example/",
    "http:\\\\example.com\\",
    "http://good.example /",
    " http://example.com/",
    "http://example.com/\n",
    "http://example.com/a b",
    "http://example.com\t/",
    "http://example.com\r\nHost: evil.example/",
    "http://exam\u00a0ple.com/",
    "http://exam\u2028ple.com/",
    "http://example.com%00.evil.example/",
    "http://exa%6Dple.com/",
    "http://exa mple.com/",
    "http://example..com/",
    "http://.example.com/",
    "http://example.com../",
    "http://exam$ple.com/",
    "http://exam\ud800ple.com/",
    "http://example.com/\ud800",
    f"http://{'a' * 64}.example/",
    f"http://{'a.' * 127}a/",
    f"http://example.com/{'a' * LONGEST_URL}",
    # Addresses that are not in their usual form.
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0X7F.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.1.1/",
    "http://256.0.0.1/",
    "http://127.0.0.0x1/",
    "http://１２７.0.0.1/",
    "http://①②⑦.0.0.1/",
    "http://127.0.0.%31/",
    "http://example.0/",
    "http://0/",
    "http://[::1/",
    "http://[::1]evil.example/",
    "http://[::1].evil.example/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[example.com]/",
    "http://[v1.a]/",
    "http://[127.0.0.1]/",
    "http://::1/",
    # Other ports.
    "http://example.com:22/",
    "http://example.com:8080/",
    "http://example.com:0/",
    "http://example.com:65616/",
    "http://example.com:-80/",
    "http://example.com:80:443/",
    "http://example.com:http/",
    f"http://example.com:{'8' * 5000}/",
]


@pytest.mark.parametrize(("text", "read"), READ)
def test_a_url_is_read_in_one_spelling(text: str, read: str) -> None:
    assert str(read_url(text, PORTS)) == read
    assert str(read_url(read, PORTS)) == read


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text)[:60])
def test_what_may_be_misunderstood_is_refused(text: str) -> None:
    with pytest.raises(UrlNotAllowed):
        read_url(text, PORTS)


def test_ports_are_those_of_the_settings() -> None:
    assert read_url("http://example.com:9000/", (9000,)).port == 9000
    with pytest.raises(UrlNotAllowed, match="another port than 443, 9000"):
        read_url("http://example.com/", (9000, 443))


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://example.com{text}"):
        try:
            read = read_url(url, PORTS)
        except UrlNotAllowed:
            continue
        assert read.scheme in ("http", "https")
        assert read.host
        assert not read.userinfo


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b.jpg", "https://example.com/b.jpg"),
        ("b.jpg?size=1", "https://example.com/folder/b.jpg?size=1"),
        ("//other.example/b.jpg", "https://other.example/b.jpg"),
        ("https://Other.example./", "https://other.example/"),
        ("", "https://example.com/folder/a.jpg"),
        ("https:b.jpg", "https://example.com/folder/b.jpg"),
    ],
)
def test_a_redirect_leads_where_browsers_go(location: str, target: str) -> None:
    url = read_url("https://example.com/folder/a.jpg", PORTS)
    assert str(redirected(url, location, PORTS)) == target


@pytest.mark.parametrize(
    "location",
    [
        "http://example.com/a.jpg",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user@example.com/",
        "//user@example.com/",
        "https://example.com:22/",
        "//127.1/",
        "\\\\evil.example/",
        "/\\evil.example/",
        "/a b",
        "https://exam\nple.com/",
        "https://[",
        "https://" + "a" * LONGEST_URL,
    ],
)
def test_a_redirect_is_refused_as_a_url_is_and_from_https_to_http(location: str) -> None:
    url = read_url("https://example.com/folder/a.jpg", PORTS)
    with pytest.raises(UrlNotAllowed):
        redirected(url, location, PORTS)


def test_a_redirect_may_lead_from_http_to_https() -> None:
    url = read_url("http://example.com/", PORTS)
    assert str(redirected(url, "https://example.com/", PORTS)) == "https://example.com/"


def test_a_url_is_shown_without_what_must_not_be_seen() -> None:
    assert shown("http://user:secret@example.com/a") == "http://example.com/a"
    assert "secret" not in shown("https://example.com/a?token=secret")
    assert "secret" not in shown("http://user:secret@example.com/" + "a" * LONGEST_URL)
    assert shown("http://exa\x1b[2Jmple.com/") == "http://exa\ufffd[2Jmple.com/"
    assert len(shown("http://example.com/" + "a" * 1000)) == SHOWN_CHARACTERS + 1
