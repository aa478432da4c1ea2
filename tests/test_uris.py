"""No secret of a URI is ever shown, and what is shown still tells which source it is."""

import copy
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from contracts.errors import BadSetting, InternalError, SourceLost
from contracts.secrets import resolve_secrets
from contracts.settings import Settings, source_id_from
from contracts.uris import breaks_off, has_credentials, redact, remember_secret, without_credentials

SHOWN = [
    # User and password, as people write them.
    ("rtsp://jo.e:Hunter2@host:554/door", "rtsp://host:554/door"),
    ("rtsp://jo.e:Hun%40ter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:Hun@ter2@host/door", "rtsp://host/door"),
    ("rtsp://bob@corp.com:Hun@ter@2@host/door", "rtsp://host/door"),
    ("rtsp://bob:Hun/ter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:Hun?ter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:Hun#ter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:Hun:ter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:12/Hunter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:x://Hunter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:x=y://Hunter2@host/door", "rtsp://host/door"),
    (r"rtsp://CORP\bob:Hunter2@host/door", "rtsp://host/door"),
    ("rtsp://:Hunter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:@host/door", "rtsp://host/door"),
    ("rtsp://Hunter2@host/door", "rtsp://host/door"),
    ("rtsp://bob%3AHunter2%40host/door", "rtsp://host/door"),
    ("rtsp://jürgen:Hunter2ß€@höst/tür", "rtsp://höst/tür"),
    ("RTSP://Bob:Hunter2@HOST/Door", "RTSP://HOST/Door"),
    ("  rtsp://bob:Hun ter2@host/door\n", "  rtsp://host/door\n"),
    ("rtsp://bob:Hun\nter2@host/door", "rtsp://host/door"),
    ("rtsp://bob:Hunter2@[fe80::1%eth0]:554/door", "rtsp://[fe80::1%eth0]:554/door"),
    ("rtsp+tcp://bob:Hunter2@host/door", "rtsp+tcp://host/door"),
    ("concat:http://b:Hunter2@host/1|http://b:Hunter2@host/2", "concat:http://host/1|http://host/2"),
    ("bob:Hunter2@host/door", "host/door"),
    ("bob@corp.com:Hun/ter2@host/door", "host/door"),
    ("rtsp://bob:Hunter2", "rtsp://bob:***"),
    # Parameters.
    ("https://host/door?token=Hunter2&size=1", "https://host/door?token=***&size=1"),
    ("https://host/door?size=1&PassWord=Hunter2", "https://host/door?size=1&PassWord=***"),
    ("https://host/door?size=1;pwd=Hunter2;n=1", "https://host/door?size=1;pwd=***;n=1"),
    ("https://host/door?pass=Hun@t;er2&n=1", "https://host/door?pass=***&n=1"),
    ("https://b:Hunter2@host/door?pass=Hun@ter2", "https://host/door?pass=***"),
    ("https://host/door?%74%6Fken=Hunter2&n=1", "https://host/door?%74%6Fken=***&n=1"),
    ("https://host/door?X-Amz-Signature=Hunter2&n=1", "https://host/door?X-Amz-Signature=***&n=1"),
    ("https://host/door#access_token=Hunter2", "https://host/door#access_token=***"),
    ("srt://host:9000?passphrase=Hunter2&streamid=r:x:Hunter2",
     "srt://host:9000?passphrase=***&streamid=***"),
    ("rtsp://host:554/user=admin&password=Hunter2&channel=1",
     "rtsp://host:554/user=admin&password=***&channel=1"),
    ("rtsp://host/user=admin_password=Hunter2_channel=1", "rtsp://host/user=admin_password=***"),
    # The key of a stream stands in an RTMP path.
    ("rtmp://host/app/Hunter2", "rtmp://host/app/***"),
    ("RTMPS://bob:Hunter2@host:1935/app/part/Hunter2/", "RTMPS://host:1935/app/part/***/"),
    ("rtmp://host/app playpath=Hunter2", "rtmp://host/app playpath=***"),
    # URIs in URIs.
    ("http://host/door?src=rtsp://bob:Hunter2@cam/1", "http://host/door?src=rtsp://cam/1"),
    ("http://b:Hunter2@host/door?src=rtsp://bob:Hunter2@cam/1", "http://host/door?src=rtsp://cam/1"),
    ("http://host/door?src=rtsp%3A%2F%2Fbob%3AHunter2%40cam%2F1&n=1",
     "http://host/door?src=rtsp%3A%2F%2F***&n=1"),
    ("http://host/door?src=rtsp%253a%252f%252fbob%253AHunter2%2540cam",
     "http://host/door?src=rtsp%253a%252f%252f***"),
    ("http://host/rtsp%3A%2F%2Fcam%2F1%3Ftoken%3DHunter2", "http://host/rtsp%3A%2F%2F***"),
]  # fmt: skip


@pytest.mark.parametrize(("uri", "shown"), SHOWN, ids=[uri for uri, _ in SHOWN])
def test_uri_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown
    assert not re.search("hunter|ter2", shown, re.IGNORECASE)
    assert without_credentials(shown) == shown


@pytest.mark.parametrize("uri", [uri for uri, _ in SHOWN if "hunter2" in uri.lower()])
def test_a_secret_is_seen_where_one_is_written_out(uri: str) -> None:
    assert has_credentials(uri)
    assert has_credentials(f"--source={uri}")


@pytest.mark.parametrize(
    "uri",
    [
        "photos/a@b.jpg",
        "a@b.jpg",
        "/data/12:30@gate.mp4",
        r"C:\photos\a@b.jpg",
        "C:/photos/a@b.jpg",
        "file:photos/a@b.mp4",
        "onnx:models/a@b.onnx",
        "shots/*.jpg",
        "0",
        "https://host/@someone",
        "https://host/door?size=1&n=2",
        "rtsp://[::1]:554/a@b",
        "rtsp://@host/door",
        "rtmp://host/app",
        "tcp://127.0.0.1:*",
        "tcp://*:5555",
        "ipc:///tmp/a@b",
        "http://[::1]:8000",
    ],
)
def test_what_has_no_secret_is_shown_as_it_is(uri: str) -> None:
    assert without_credentials(uri) == uri
    assert redact(f"source {uri}: gone") == f"source {uri}: gone"
    assert not has_credentials(uri)


def test_a_reference_in_a_secrets_place_is_none() -> None:
    for uri in (
        "rtsp://bob:${PASSWORD}@host/door",
        "rtsp://${USER}:${PASSWORD}@host/door",
        "rtsp://${file:/run/secrets/a:b@c}@host/door?token=${TOKEN}",
        "rtmp://host/app/${KEY}",
        "${CAM1}",
    ):
        assert not has_credentials(uri)
    assert has_credentials("rtsp://bob:${PASSWORD}x@host/door")


nasty_texts = st.text("ab1@/?#:;&=%+.-_ \\'\"[]{}$\n€|,<>", max_size=12)
parts = ["@", "://", "rtsp://", "/", "?", "&", ";", "=", "%40", "%3A%2F%2F", "[::1]", "80", " "]
passwords = st.text() | nasty_texts | st.lists(st.sampled_from(parts), max_size=6).map("".join)


@given(passwords, passwords)
@settings(max_examples=300)
def test_any_user_and_any_password_are_cut_away_from_the_host(user: str, password: str) -> None:
    assume(not user.startswith("[") and "://" not in user)  # So begin a host of IPv6, and a URI.
    # `http://host:80/?src=rtsp://…` is read as what it looks like.
    assume(not re.match("[0-9]{0,5}[^0-9]", password) or "://" not in password)
    # What hides a parameter's value up to the next one would hide the host too.
    assume(not has_credentials(f"&{user}=x") and not has_credentials(f"={password}=x"))
    uri = f"rtsp://{user}:{password}@host.example:554/door"
    assert without_credentials(uri) == "rtsp://host.example:554/door"


@given(st.lists(st.sampled_from([*parts, "token=", "key="]), max_size=6).map("".join))
@settings(max_examples=300)
def test_no_part_of_a_password_is_shown_whatever_it_looks_like(middle: str) -> None:
    shown = without_credentials(f"rtsp://jo.e:Hunter{middle}Two@host/door")
    assert "Hunter" not in shown
    assert "Two" not in shown


@given(nasty_texts)
def test_any_value_of_a_secret_parameter_is_hidden(value: str) -> None:
    uri = f"https://host/door?size=1&token={value.replace('=', '')}&n=2"
    assert without_credentials(uri) == "https://host/door?size=1&token=***&n=2"


@given(st.text(st.characters(exclude_categories=["Z", "C"])))
@settings(max_examples=300)
def test_no_password_is_shown_in_the_middle_of_a_text(middle: str) -> None:
    password = f"Hunter{middle}Two"
    text = redact(f"can't open 'rtsp://jo.e:{password}@host/door': refused")
    assert "Hunter" not in text
    assert "Two" not in text
    assert text.startswith("can't open 'rtsp://")


@given(st.text() | passwords)
@settings(max_examples=300)
def test_what_is_shown_is_shown_the_same_again(text: str) -> None:
    assert without_credentials(without_credentials(text)) == without_credentials(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("start", ["", "rtsp://u:"])
@pytest.mark.parametrize(
    "part",
    ["a", "://", "a://", "@", "a:", "=", "token=", "&token=a", "a://u:x =b://", "=a://", "%25", "/",
     "%3A%2F%2Fa%40 ", "a@b:", "rtsp://u:p@h/a ", "rtsp://u:pa ", "[", "rtmp://a/b/c |", "${a}"],
)  # fmt: skip
def test_a_text_of_any_length_is_done_in_linear_time(start: str, part: str) -> None:
    """Were one pattern quadratic, pytest's time limit would end this test."""
    text = start + part * 20_000
    assert len(without_credentials(text)) <= 3 * len(text)
    assert len(redact(text)) <= 3 * len(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[Errno 111] Connection refused: 'rtsp://bob:Hunter2@host/door'",
         "[Errno 111] Connection refused: 'rtsp://host/door'"),
        ("no rtsp://b:Hun ter2@host/1, no b:Hunter2@host/2", "no rtsp://host/1, no host/2"),
        ("SourceSettings(uri='rtsp://b:Hunter2@host', id='x')",
         "SourceSettings(uri='rtsp://host', id='x')"),
        ("> Authorization: Basic Ym9iOkh1bnRlcjI=\n> Accept: */*",
         "> Authorization: Basic ***\n> Accept: */*"),
        ("rtsp://host/door?token=***: refused", "rtsp://host/door?token=***: refused"),
        ("write tcp://HOST:PORT or ipc://PATH", "write tcp://HOST:PORT or ipc://PATH"),
        ("tcp://127.0.0.1:5555: in use; me@host", "tcp://127.0.0.1:5555: in use; me@host"),
        ("[rtsp @ 0x55d0] method DESCRIBE failed", "[rtsp @ 0x55d0] method DESCRIBE failed"),
        ("3 × gear (brass) at 12:30:05, 50 % of 7 = 3.5", None),
    ],
)  # fmt: skip
def test_a_text_keeps_all_but_the_secrets(text: str, shown: str | None) -> None:
    assert redact(text) == (shown or text)


def test_a_remembered_secret_is_hidden_wherever_it_stands() -> None:
    remember_secret("open sesame!", "${WORD}")
    assert redact("GET /open%20sesame%21/1, 'open sesame!'") == "GET /${WORD}/1, '${WORD}'"


def test_a_short_remembered_secret_does_not_riddle_every_text() -> None:
    remember_secret("door", "${DOOR}")
    assert redact("the door of rtsp://bob:door@host") == "the door of rtsp://host"


def test_an_errors_text_has_no_secret_whoever_wrote_it() -> None:
    cause = OSError(111, "Connection refused", "rtsp://bob:Hunter2@host/door")
    assert str(SourceLost(f"door: {cause}")) == (
        "door: [Errno 111] Connection refused: 'rtsp://host/door'"
    )
    assert "Hunter2" not in str(InternalError(f"KeyError: {'bob:Hunter2@host'!r}"))


@pytest.mark.parametrize("uri", [uri for uri, _ in SHOWN])
def test_an_id_made_from_a_uri_has_no_secret(uri: str) -> None:
    assert not re.search("hun|ter2", source_id_from(uri), re.IGNORECASE)


def test_settings_show_no_secret_but_keep_it() -> None:
    uri, options = "rtsp://bob:Hunter2@host/door", {"passphrase": "Hunter2"}
    read = Settings.model_validate({"sources": [{"uri": uri, "ffmpeg_options": options}]})
    assert "Hunter2" not in f"{read!r} {read} {read.sources!r} {read.sources[0]}"
    assert "rtsp://host/door" in repr(read)
    for same in (copy.deepcopy(read), pickle.loads(pickle.dumps(read))):  # noqa: S301
        assert same.sources[0].uri == uri


def test_a_validation_error_shows_no_secret() -> None:
    wrong = {"uri": "rtsp://bob:Hunter2@host/door", "quee_depth": 3}
    with pytest.raises(ValueError, match="quee_depth") as caught:
        Settings.model_validate({"sources": [wrong, "rtsp://bob:Hunter2@host\0"]})
    assert "Hunter2" not in str(caught.value)


def test_a_variable_goes_into_user_password_and_query_percent_encoded() -> None:
    environment = {"U": "jo.e@x", "P": "a/b?c#d:e@f%ü \n", "T": "x&y=z"}
    uri = "rtsp://${U}:${P}@host/door?token=${T}&n=1#${T}"
    assert resolve_secrets(uri, environment) == (
        "rtsp://jo.e%40x:a%2Fb%3Fc%23d%3Ae%40f%25%C3%BC%20%0A@host/door?token=x%26y%3Dz&n=1#x%26y%3Dz"
    )


def test_a_variable_goes_elsewhere_as_it_is() -> None:
    environment = {"HOST": "[::1]:554", "PATH_": "a/b", "CAM1": "rtsp://u:p%40@host/x?y=1"}
    assert (
        resolve_secrets("rtsp://u@${HOST}/${PATH_}?n=1", environment)
        == "rtsp://u@[::1]:554/a/b?n=1"
    )
    assert resolve_secrets("${CAM1}", environment) == environment["CAM1"]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("ab@/:?#", max_size=5))
def test_any_password_can_be_put_in_by_reference(password: str, path: str) -> None:
    url = resolve_secrets(f"rtsp://bob:${{P}}@host/{path}", {"P": password})
    assert re.fullmatch(r"rtsp://bob:[A-Za-z0-9%._~-]*@host/" + re.escape(path), url)


def test_a_file_gives_its_text_without_the_last_newline(tmp_path: Path) -> None:
    secret = tmp_path / "cam?1@home"
    secret.write_text("line 1\nline 2\n\n")
    assert resolve_secrets(f"rtsp://u:${{file:{secret}}}@host/x") == (
        "rtsp://u:line%201%0Aline%202%0A@host/x"
    )


def test_a_doubled_dollar_is_one() -> None:
    assert resolve_secrets("rtsp://u:$${P}@host/$x", {}) == "rtsp://u:${P}@host/$x"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("rtsp://u:${NO_SUCH}@host", r"\$\{NO_SUCH\}: there is no such variable"),
        ("rtsp://u:${file:/no/such}@host", r"\$\{file:/no/such\}: can't be read: No such file"),
        ("rtsp://u:${file:/}@host", r"\$\{file:/\}: can't be read: Is a directory"),
        ("rtsp://u:Hunt${er2}x@host", r"\$\{er2\}: there is no such variable"),
        ("rtsp://u:Hunt${er-2@host", "neither"),
        ("rtsp://u:${Hunter 2}@host", "neither"),
    ],
)
def test_what_is_not_there_is_named(uri: str, said: str) -> None:
    with pytest.raises(BadSetting, match=said) as caught:
        resolve_secrets(uri, {})
    assert "Hunt" not in str(caught.value)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match="secret}: is not text in UTF-8"):
        resolve_secrets(f"rtsp://u:${{file:{secret}}}@host")


def test_what_was_put_in_is_never_shown_again() -> None:
    resolve_secrets("http://host/${K}/live.m3u8", {"K": "k3y-0f-tests"})
    text = "HTTP error 404: http://host/k3y-0f-tests/live.m3u8"
    assert str(SourceLost(text)) == "HTTP error 404: http://host/${K}/live.m3u8"


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("rtsp://bob:Hun", True),
        ("rtsp://bob:", True),
        ("rtsp://bob:Hunter2@", True),
        ("rtsp://bob:Hunter2@host", False),
        ("rtsp://host:554/door", False),
        ("clip.mp4", False),
    ],
)
def test_a_uri_that_ends_in_its_password_is_seen(text: str, broken: bool) -> None:
    assert breaks_off(text) is broken
