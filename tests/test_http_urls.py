"""`POST /detect_batch` with URLs: real service, real servers that it fetches from."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fetching import HERE, SECRET, answering
from tests.http_service import Served, code_of, serving
from tests.picture_corpus import JPEG
from tests.senders import serving as sending_pictures


@contextlib.contextmanager
def fetching(*ports: int, **serve: Any) -> Iterator[Served]:
    """A service that fetches from these ports of this machine."""
    allowed = {"fetch_urls": True, "fetch_allow": [HERE], "fetch_ports": ports or None}
    with serving(serve={**allowed, **serve}) as served:
        yield served


def test_urls_are_not_fetched_unless_that_is_switched_on() -> None:
    with serving() as served:
        answer = served.client.post("/detect_batch", json=["http://127.0.0.1/a.jpg"])
    assert (answer.status_code, code_of(answer)) == (400, "url_not_allowed")
    assert "fetch_urls is false" in answer.json()["detail"]


def test_each_url_gives_what_is_on_its_picture_or_why_it_gives_nothing() -> None:
    with (
        sending_pictures(answering(JPEG)) as good,
        sending_pictures(answering(b"", "Location: http://127.0.0.2/", status="302 Found")) as bad,
        sending_pictures(answering(SECRET.encode())) as text,
        fetching(good, bad, text, 80) as served,
    ):
        here = f"http://{HERE}"
        urls = [f"{here}:{good}/a.jpg", f"{here}:{bad}/", f"{here}:{text}/", f"{here}:{good}/b.jpg"]
        for body in (urls, {"urls": urls}):
            answer = served.client.post("/detect_batch", json=body)
            assert answer.status_code == 200
            items = answer.json()["items"]
            assert [item["image_id"] for item in items] == urls
            codes = [item["problem"] and item["problem"]["code"] for item in items]
            assert codes == [None, "url_not_allowed", "url_fetch_failed", None]
            for item in (items[0], items[3]):
                assert item["result"]["image_id"] == item["image_id"]
                assert item["result"]["detections"]
            assert SECRET not in answer.text
            assert "127.0.0.2" not in answer.text


def test_a_picture_that_is_fetched_is_looked_at_as_one_that_is_sent() -> None:
    with sending_pictures(answering(JPEG)) as port, fetching(port) as served:
        fetched = served.client.post("/detect_batch", json=[f"http://{HERE}:{port}/"])
        sent = served.detect(JPEG)
    [item] = fetched.json()["items"]
    assert item["result"]["detections"] == sent.json()["detections"]


def test_pictures_that_are_fetched_share_the_memory() -> None:
    names = ("max_upload_megabytes", "max_request_megabytes", "max_memory_megabytes")
    fits_alone = dict.fromkeys(names, len(JPEG) / 1e6)
    with sending_pictures(answering(JPEG)) as port, fetching(port, **fits_alone) as served:
        answer = served.client.post("/detect_batch", json=[f"http://{HERE}:{port}/"])
    [item] = answer.json()["items"]
    assert item["problem"]["code"] == "overloaded"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[",
        "[" * 10_000,
        "null",
        '"http://127.0.0.1/"',
        "[]",
        '{"urls": []}',
        '{"urls": "http://127.0.0.1/"}',
        '{"urls": ["http://127.0.0.1/"], "classify": true}',
        "[1]",
        '["\\ud800"]',
        '["http://127.0.0.1/", "http://127.0.0.1/", "http://127.0.0.1/"]',
    ],
)
def test_what_is_no_list_of_urls_is_refused(body: str, two_at_most: Served) -> None:
    headers = {"content-type": "application/json"}
    answer = two_at_most.client.post("/detect_batch", content=body, headers=headers)
    assert (answer.status_code, code_of(answer)) == (400, "bad_parameter")


def test_more_urls_than_fit_are_not_read(two_at_most: Served) -> None:
    answer = two_at_most.client.post("/detect_batch", json=["http://a.test/" + "a" * 20_000])
    assert (answer.status_code, code_of(answer)) == (413, "request_too_large")


@pytest.fixture(scope="module")
def two_at_most() -> Iterator[Served]:
    """A service that takes two pictures in a request."""
    with fetching(max_files=2) as served:
        yield served


def test_a_password_in_a_url_is_in_no_answer() -> None:
    with fetching() as served:
        answer = served.client.post("/detect_batch", json=["http://user:hunter2@127.0.0.1/"])
    [item] = answer.json()["items"]
    assert item["problem"]["code"] == "url_not_allowed"
    assert "hunter2" not in answer.text
