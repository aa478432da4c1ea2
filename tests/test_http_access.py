"""Who may do what: keys, scopes, rates, web pages, TLS."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadSetting
from sinks.http.access import Bucket
from sinks.http.keys import SCOPES, find_key, new_key, read_keys
from sinks.http.server import tls_of
from tests.frames import FixedDetector
from tests.http_service import FORM, Served, code_of, serving
from tests.picture_corpus import JPEG

SOURCE = {"uri": "scripts/demo_clip/conveyor.mp4"}
NEEDED = [
    ("POST", "/detect", "detect"),
    ("POST", "/detect_batch", "detect"),
    ("GET", "/v1/models", "read"),
    ("GET", "/v1/sources", "read"),
    ("POST", "/v1/sources", "admin"),
    ("POST", "/v1/sources/cam/pause", "admin"),
    ("POST", "/v1/sources/cam/resume", "admin"),
    ("DELETE", "/v1/sources/cam", "admin"),
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key for each scope, and where their hashes are."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    made = {scope: new_key(f"the {scope} one", [scope]) for scope in SCOPES}
    file.write_text("# ours\n\n" + "".join(f"{line}\n" for _, line in made.values()))
    return {"file": str(file), **{scope: key for scope, (key, _) in made.items()}}


@pytest.fixture(scope="module")
def guarded(keys: dict[str, str]) -> Iterator[Served]:
    """Reachable from everywhere, for those with a key."""
    serve = {"api_keys": keys["file"], "host": "0.0.0.0"}  # noqa: S104
    with serving(FixedDetector(), serve) as one:
        yield one


def asked(served: Served, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    body = {"content-type": "application/json", **headers}
    return served.client.request(method, path, json=SOURCE, headers=body)


@pytest.mark.parametrize(("method", "path", "scope"), NEEDED)
def test_each_path_takes_a_key_with_its_scope_and_no_other(
    guarded: Served, keys: dict[str, str], method: str, path: str, scope: str
) -> None:
    def code(headers: dict[str, str]) -> str | None:
        answer = asked(guarded, method, path, headers)
        assert answer.status_code != 500
        return code_of(answer) if answer.is_error else None

    assert code({}) == "unauthorized"
    assert code({"X-API-Key": "fw_guess"}) == "unauthorized"
    assert code({"Authorization": f"Basic {keys[scope]}"}) == "unauthorized"
    for other in set(SCOPES) - {scope}:
        assert code({"Authorization": f"Bearer {keys[other]}"}) == "forbidden"
    for right in ({"X-API-Key": keys[scope]}, {"Authorization": f"Bearer {keys[scope]}"}):
        assert code(right) not in ("unauthorized", "forbidden")


def test_who_is_refused_is_told_how_to_ask(guarded: Served) -> None:
    answer = guarded.client.post("/detect", files=FORM)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_probes_and_the_document_need_no_key(guarded: Served) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert guarded.client.get(path).status_code in (200, 503)


def test_who_has_no_key_is_refused_before_a_picture_is_read(guarded: Served) -> None:
    head = (
        b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n"
        b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
    )
    answer = guarded.say(head)
    assert code_of(answer) == "unauthorized"


def test_a_key_is_nowhere_but_with_who_has_it(keys: dict[str, str]) -> None:
    file = Path(keys["file"]).read_text()
    assert not [key for key in (keys[scope] for scope in SCOPES) if key in file]
    known = read_keys(Path(keys["file"]))
    found = find_key(known, keys["read"])
    assert found
    assert (found.name, set(found.scopes)) == ("the read one", {"read"})
    for wrong in ("", "fw_", keys["read"][:-1], keys["read"] + "x", "\udcff"):
        assert find_key(known, wrong) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no key in"),
        ("# nothing\n", "there is no key in"),
        ("hello\n", "line 1: expected `SHA256 SCOPES NAME`"),
        (f"{'0' * 64} all me\n", "line 1: no such scope: all; there is detect, read, admin"),
        (f"{'0' * 64} read\n", "line 1: expected"),
        (f"{'0' * 64} read me\n{'1' * 64} read me\n", "two keys in .* have the same name"),
        ("\xff", "can't be read"),
    ],
)
def test_a_file_of_keys_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(BadSetting, match=said):
        read_keys(file)


def test_a_file_of_keys_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="can't be read"):
        read_keys(tmp_path / "none")


@pytest.mark.parametrize(("name", "scopes"), [("", ["read"]), ("a\nb", ["read"]), ("a", ["all"])])
def test_a_key_that_would_make_no_line_is_not_made(name: str, scopes: list[str]) -> None:
    with pytest.raises(BadSetting):
        new_key(name, scopes)


def test_a_key_that_asks_too_often_waits_and_another_does_not(tmp_path: Path) -> None:
    (eager, line), (calm, other) = new_key("eager", ["read"]), new_key("calm", ["read"])
    file = tmp_path / "keys"
    file.write_text(f"{line}\n{other}\n")
    with serving(serve={"api_keys": str(file), "requests_per_s": 0.01}) as served:

        def ask(key: str) -> httpx.Response:
            return served.client.get("/v1/models", headers={"X-API-Key": key})

        assert ask(eager).status_code == 200
        answer = ask(eager)
        assert (answer.status_code, code_of(answer)) == (429, "rate_limited")
        assert 90 <= int(answer.headers["retry-after"]) <= 100
        assert ask(calm).status_code == 200


def test_each_picture_of_a_batch_counts() -> None:
    with serving(FixedDetector(), {"requests_per_s": 0.01}) as served:
        files = [("files", ("a.jpg", JPEG))] * 5
        assert served.client.post("/detect_batch", files=files).status_code == 200
        answer = served.client.post("/detect_batch", files=files)
        assert code_of(answer) == "rate_limited"
        assert int(answer.headers["retry-after"]) > 400


@given(
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 20)), max_size=50),
)
def test_a_bucket_gives_no_more_than_its_rate_and_one_credit(
    per_s: float, takes: list[tuple[float, int]]
) -> None:
    bucket, now_s, taken, largest = Bucket(per_s, 0.0), 0.0, 0, 0
    for after_s, n_tokens in takes:
        now_s += after_s
        if bucket.take(now_s) == 0:
            bucket.charge(n_tokens - 1)
            taken, largest = taken + n_tokens, max(largest, n_tokens)
    assert taken <= per_s * now_s + max(per_s, 1) + largest


def test_a_bucket_says_how_long_there_is_nothing_in_it() -> None:
    bucket = Bucket(2.0, 0.0)
    assert bucket.take(0.0) == 0
    bucket.charge(3)
    assert bucket.take(0.0) == pytest.approx(1.5)
    assert bucket.take(1.49) > 0
    assert bucket.take(1.6) == 0


def test_pages_that_are_named_may_ask_and_others_may_not() -> None:
    page = "https://lab.example"
    with serving(FixedDetector(), {"allowed_origins": [page]}) as served:
        asking = {"Origin": page, "Access-Control-Request-Method": "POST"}
        before = served.client.options("/detect", headers=asking)
        assert before.headers["access-control-allow-origin"] == page
        answer = served.client.post("/detect", files=FORM, headers={"Origin": page})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == page
        refused = served.client.post("/detect", headers={"Origin": page})
        assert refused.headers["access-control-allow-origin"] == page
        other = served.client.post(
            "/detect", files=FORM, headers={"Origin": "https://evil.example"}
        )
        assert code_of(other) == "forbidden"
        assert "access-control-allow-origin" not in other.headers
        own = served.client.post("/detect", files=FORM, headers={"Origin": served.url})
        assert own.status_code == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:80", "127.1.2.3"])
def test_without_keys_this_machine_is_asked_by_its_own_names(host: str) -> None:
    with serving() as served:
        assert served.client.get("/healthz", headers={"Host": host}).status_code == 200
        rebound = served.client.get("/healthz", headers={"Host": f"{host[0]}.evil.example"})
        assert code_of(rebound) == "forbidden"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself; and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-out", str(files[0]), "-keyout", str(files[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def test_with_a_certificate_https_is_spoken_and_http_is_not(
    certificate: tuple[Path, Path],
) -> None:
    serve = {"tls_certificate": str(certificate[0]), "tls_key": str(certificate[1])}
    with serving(FixedDetector(), serve) as served:
        answer = served.detect()
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"]
        assert answer.http_version == "HTTP/1.1"
        with pytest.raises(httpx.TransportError):
            httpx.get(served.url.replace("https", "http"))


def test_a_certificate_that_cant_be_used_is_refused(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    from contracts.serve import ServeSettings

    for wrong in (tmp_path / "none.pem", certificate[1]):
        settings = ServeSettings(tls_certificate=wrong, tls_key=certificate[1])
        with pytest.raises(BadSetting, match="tls_certificate"):
            tls_of(settings)
