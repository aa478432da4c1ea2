"""Pictures are fetched from where it is allowed and from nowhere else."""

import asyncio
import shutil
import ssl
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.errors import RequestError, UrlFetchFailed, UrlNotAllowed
from contracts.serve import ServeSettings
from sinks.http.fetch import MAX_REDIRECTS
from sinks.http.pinned import resolve
from tests.fetching import (
    HERE,
    PICTURE,
    SECRET,
    Names,
    answering,
    fetch,
    fetch_all,
    nobody_comes,
    raw,
    sending_to,
    settings,
)
from tests.senders import Drive, Line, sending, serving


def test_a_picture_is_fetched_as_it_is() -> None:
    with serving(answering()) as port:
        assert fetch(f"http://{HERE}:{port}/a.png", settings(port)) == PICTURE


def test_the_server_is_asked_as_the_url_says_by_framewire_without_more() -> None:
    asked: list[str] = []

    def answer(line: Line) -> None:
        asked.append(line.request())
        line.send(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE)

    with serving(answer) as port:
        url = f"http://Pictures.test.:{port}/fol%20der/ü.png?size=1&b#part"
        fetch(url, settings(port), Names(pictures_test=[[HERE]]))
    first, *headers = asked[0].strip().split("\r\n")
    assert first == "GET /fol%20der/%C3%BC.png?size=1&b HTTP/1.1"
    assert sorted(header.partition(":")[0] for header in headers) == [
        "Accept",
        "Accept-Encoding",
        "Host",
        "User-Agent",
    ]
    assert f"Host: pictures.test:{port}" in headers
    assert "Accept-Encoding: identity" in headers
    assert "User-Agent: framewire" in headers


def test_an_ipv6_address_is_asked_for_in_its_brackets() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE)
        writer.close()

    async def ask() -> list[bytes | RequestError]:
        async with await asyncio.start_server(answer, "::1") as server:
            port = server.sockets[0].getsockname()[1]
            return await fetch_all([f"http://[::1]:{port}/"], settings(port, fetch_allow=["::1"]))

    try:
        fetched = asyncio.run(ask())
    except OSError:
        pytest.skip("no IPv6")
    assert fetched == [PICTURE]
    assert b"\r\nHost: [::1]:" in asked[0]


def test_what_a_name_means_a_moment_later_does_not_matter() -> None:
    names = Names(pictures_test=[[HERE], ["127.0.0.2"]])
    with serving(answering()) as port, nobody_comes("127.0.0.2", port):
        assert fetch(f"http://pictures.test:{port}/", settings(port), names) == PICTURE
    assert names.asked == ["pictures.test"]


def test_a_name_that_meant_something_bad_is_refused_whatever_it_means_later() -> None:
    names = Names(pictures_test=[["127.0.0.2"], [HERE]])
    with nobody_comes() as port, pytest.raises(UrlNotAllowed, match="not public"):
        fetch(f"http://pictures.test:{port}/", settings(port), names)
    assert names.asked == ["pictures.test"]


@pytest.mark.parametrize(
    "bad", ["10.0.0.1", "127.0.0.2", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%lo"]
)
def test_one_bad_address_of_many_refuses_the_host(bad: str) -> None:
    with nobody_comes() as port:
        for addresses in ([HERE, bad], [bad, HERE], [HERE, "93.184.216.34", bad]):
            with pytest.raises(UrlNotAllowed, match="not public"):
                fetch(f"http://a.test:{port}/", settings(port), Names(a_test=[addresses]))


@pytest.mark.parametrize("closed", ["127.0.0.2", "::1"])
def test_the_next_address_is_tried_where_one_refuses_connections(closed: str) -> None:
    names = Names(pictures_test=[[closed, HERE], [closed]])
    with serving(answering()) as port:
        served = settings(port, fetch_allow=[closed, HERE])
        assert fetch(f"http://pictures.test:{port}/", served, names) == PICTURE
        with pytest.raises(UrlFetchFailed, match="refuses connections"):
            fetch(f"http://pictures.test:{port}/", served, names)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "LOCALHOST.", "169.254.169.254", "[fd00:ec2::254]"]
)
def test_this_machine_and_its_clouds_credentials_are_refused_unless_allowed(host: str) -> None:
    with nobody_comes() as port, pytest.raises(UrlNotAllowed, match="not public"):
        fetch(f"http://{host}:{port}/", settings(port, fetch_allow=None))


def test_a_host_that_is_allowed_by_its_name_need_not_be_public_but_no_other() -> None:
    names = Names(images_lab=[[HERE]], lab=[[HERE]], an_images_lab=[[HERE]])
    with serving(answering()) as port:
        served = settings(port, fetch_allow=["Images.Lab"])
        assert fetch(f"http://images.lab:{port}/", served, names) == PICTURE
        for host in ("lab", "an.images.lab", HERE):
            with pytest.raises(UrlNotAllowed, match="not public"):
                fetch(f"http://{host}:{port}/", served, names)


def test_a_host_that_is_allowed_by_its_name_never_leads_to_a_clouds_credentials() -> None:
    names = Names(images_lab=[["169.254.169.254"]])
    with pytest.raises(UrlNotAllowed, match="not public"):
        fetch("http://images.lab/", settings(fetch_allow=["images.lab"]), names)


def test_a_name_that_nobody_knows_is_a_failure() -> None:
    with pytest.raises(UrlFetchFailed, match=r"http://nobody\.test/: no host of that name"):
        fetch("http://nobody.test/", settings(), Names())


def test_a_port_is_refused_that_is_not_in_the_settings() -> None:
    with nobody_comes() as port, pytest.raises(UrlNotAllowed, match="port than 80, 443"):
        fetch(f"http://{HERE}:{port}/", settings())


def test_redirects_are_followed_three_times() -> None:
    hops = ["/1", "?2", "3"]
    with serving(sending_to(*hops)) as port:
        assert fetch(f"http://{HERE}:{port}/0", settings(port)) == PICTURE
    with (
        serving(sending_to(*hops, "/4")) as port,
        pytest.raises(UrlFetchFailed, match=f"more than {MAX_REDIRECTS} redirects"),
    ):
        fetch(f"http://{HERE}:{port}/0", settings(port))


def test_a_redirect_to_this_machine_is_refused() -> None:
    names = Names(pictures_test=[[HERE]], inside_test=[[HERE]], localhost=[["::1", HERE]])
    for host in (HERE, "localhost", "[::1]", "inside.test", "169.254.169.254"):
        with nobody_comes() as inside, serving(sending_to(f"http://{host}:{inside}/")) as port:
            served = settings(port, inside, fetch_allow=["pictures.test"])
            with pytest.raises(UrlNotAllowed, match="its redirect: the host has"):
                fetch(f"http://pictures.test:{port}/", served, names)


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "//user@127.0.0.1/", "//127.0.0.1:22/", "//127.1/", "/a b", "https://["],
)
def test_a_redirect_is_looked_at_as_a_url_is(location: str) -> None:
    with (
        serving(sending_to(location)) as port,
        pytest.raises(UrlNotAllowed, match="its redirect: "),
    ):
        fetch(f"http://{HERE}:{port}/", settings(port))


def test_a_redirect_takes_no_cookie_along() -> None:
    asked: list[str] = []

    def answer(line: Line) -> None:
        asked.append(line.request())
        head = "302 Found\r\nLocation: /b" if len(asked) == 1 else "200 OK"
        line.send(f"HTTP/1.1 {head}\r\nSet-Cookie: a=b\r\n\r\n".encode() + PICTURE)

    with serving(answer) as port:
        assert fetch(f"http://{HERE}:{port}/", settings(port)) == PICTURE
    assert len(asked) == 2
    assert "cookie" not in asked[1].lower()


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answering()) as port, nobody_comes() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://{HERE}:{proxy}")
            monkeypatch.setenv(name.upper(), f"http://{HERE}:{proxy}")
        assert fetch(f"http://{HERE}:{port}/", settings(port)) == PICTURE


@pytest.mark.parametrize(
    "drive",
    [
        answering(PICTURE, status=f"404 {SECRET}"),
        answering(SECRET.encode(), status="500 Oops"),
        answering(PICTURE, f"Location: {SECRET}", status="201 Created"),
        answering(PICTURE, status="206 Partial Content"),
        answering(b"", status="204 No Content"),
        answering(b"", status="302 Found"),
        answering(b"", f"ETag: {SECRET}", status="304 Not Modified"),
        answering(b"", f"Location: http://{SECRET}/\\", status="302 Found"),
        answering(b"", f"Location: ftp://{SECRET}/", status="302 Found"),
        answering(b"", f"Location: http://{SECRET}:1/", status="302 Found"),
        answering(PICTURE, f"Content-Encoding: {SECRET}"),
        answering(PICTURE, f"Content-Length: {SECRET}"),
        answering(PICTURE, f"Transfer-Encoding: {SECRET}"),
        raw(f"SSH-2.0-{SECRET}\r\n".encode()),
        raw(f"-ERR {SECRET}\r\n".encode()),
        raw(f"HTTP/1.1 200 OK\r\n{SECRET}\r\n\r\n".encode()),
        raw(b"HTTP/1.1 200 OK\r\nA: " + SECRET.encode() * 10_000),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET.encode()),
        raw(b""),
        Line.reset,
    ],
)
def test_a_failure_tells_nothing_of_what_was_answered(drive: Drive) -> None:
    with serving(drive) as port:
        url = f"http://{HERE}:{port}/a.png"
        with pytest.raises((UrlNotAllowed, UrlFetchFailed)) as failure:
            fetch(url, settings(port))
    assert str(failure.value).startswith(f"{url}: ")
    assert SECRET not in str(failure.value)
    assert len(str(failure.value)) < 120


def test_no_password_of_a_url_is_in_a_message() -> None:
    for url in ("http://user:hunter2@a.test/", "http://a.test:1/?token=hunter2"):
        with pytest.raises(UrlNotAllowed) as failure:
            fetch(url, settings())
        assert "hunter2" not in str(failure.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for pictures.test that it has signed itself, and its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")
    asked = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=pictures"
    command = ["openssl", *asked.split(), "-addext", "subjectAltName=DNS:pictures.test"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return folder / "cert.pem"


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """For servers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


TLS_NAMES = {"pictures_test": [[HERE]], "other_test": [[HERE]]}


def test_a_server_is_known_by_its_name_not_by_the_address_that_is_connected_to(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    named: list[str] = []
    tls.sni_callback = lambda _socket, name, _context: named.append(name)
    with serving(answering(), tls) as port:
        url = f"https://Pictures.test.:{port}/"
        assert fetch(url, settings(port), Names(**TLS_NAMES)) == PICTURE
        assert named == ["pictures.test"]
        for host in ("other.test", HERE):
            with pytest.raises(UrlFetchFailed, match="no certificate that is trusted"):
                fetch(f"https://{host}:{port}/", settings(port), Names(**TLS_NAMES))


def test_a_certificate_that_nobody_trusts_is_refused(tls: ssl.SSLContext) -> None:
    with (
        serving(answering(), tls) as port,
        pytest.raises(UrlFetchFailed, match="no certificate that is trusted"),
    ):
        fetch(f"https://pictures.test:{port}/", settings(port), Names(**TLS_NAMES))


def test_a_redirect_from_https_to_http_is_refused(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        nobody_comes() as plain,
        serving(sending_to(f"http://{HERE}:{plain}/"), tls) as port,
        pytest.raises(UrlNotAllowed, match="its redirect: leads from https to http"),
    ):
        fetch(f"https://pictures.test:{port}/", settings(port, plain), Names(**TLS_NAMES))


def test_a_server_that_does_not_know_tls_is_a_failure() -> None:
    with (
        serving(sending(SECRET.encode())) as port,
        pytest.raises(UrlFetchFailed, match="does not answer in TLS"),
    ):
        fetch(f"https://{HERE}:{port}/", settings(port))


@pytest.mark.parametrize(
    "entry", ["10.1.0.1/16", "10.1", "0x7f.1", "*.lab", "https://images.lab", "images.lab:80", ""]
)
def test_what_is_allowed_is_a_network_or_a_name(entry: str) -> None:
    with pytest.raises(ValidationError, match=r"(?s)^1 validation error.*expected a network"):
        settings(fetch_allow=[entry])


def test_what_is_allowed_can_be_one_text() -> None:
    served = settings(fetch_allow="10.1.0.0/16, Images.Lab.,::1", fetch_ports="80,9000")
    assert served.fetch_allow == (ip_network("10.1.0.0/16"), "images.lab", ip_network("::1/128"))
    assert served.fetch_ports == (80, 9000)


@pytest.mark.parametrize("vain", [{"fetch_allow": ["10.1.0.0/16"]}, {"fetch_ports": [80]}])
def test_nothing_is_allowed_in_vain(vain: dict[str, Any]) -> None:
    assert not ServeSettings().fetch_urls
    with pytest.raises(ValidationError, match="while fetch_urls is false"):
        ServeSettings(**vain)


def test_names_are_looked_up_as_the_system_does() -> None:
    assert asyncio.run(resolve("127.0.0.1", 80)) == [ip_address("127.0.0.1")]
    assert all(address.is_loopback for address in asyncio.run(resolve("localhost", 80)))
