"""What strangers send: each request has its own status and code, and none of them is a 5xx."""

from collections.abc import Iterator

import pytest

from tests.frames import FixedDetector
from tests.http_corpus import ANSWERED, REFUSED, Request
from tests.http_service import Served, code_of, serving
from tests.picture_corpus import READABLE, Sent
from tests.picture_corpus import REFUSED as REFUSED_PICTURES
from tests.resources import held, released


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A small service; at the end it holds no more than before, and was never at a loss."""
    before = held()
    with serving(FixedDetector(), {"max_upload_megabytes": 2}) as one:
        yield one
        assert one.client.get("/readyz").json()["ready"]
    assert released(before)


@pytest.mark.parametrize("sent", [*ANSWERED, *REFUSED], ids=lambda sent: sent.name)
def test_a_request_has_its_answer(served: Served, sent: Request) -> None:
    answer = served.say(sent.data)
    assert (answer.status_code, code_of(answer)) == (sent.status, sent.code), answer.text
    assert "Traceback" not in answer.text
    assert "/work" not in answer.text


@pytest.mark.parametrize("sent", READABLE, ids=lambda sent: sent.name)
def test_a_picture_is_answered(served: Served, sent: Sent) -> None:
    answer = served.detect(sent.data)
    assert answer.status_code == 200
    assert (answer.json()["width"], answer.json()["height"]) == sent.size
    assert answer.json()["degraded"] == list(sent.degraded)


@pytest.mark.parametrize("sent", REFUSED_PICTURES, ids=lambda sent: sent.name)
def test_a_picture_is_refused(served: Served, sent: Sent) -> None:
    answer = served.detect(sent.data)
    assert code_of(answer) == sent.code
    assert answer.status_code in (400, 413)


def test_there_are_many_of_them() -> None:
    assert len(REFUSED) + len(REFUSED_PICTURES) >= 150
    assert len({sent.name for sent in (*ANSWERED, *REFUSED)}) == len(ANSWERED) + len(REFUSED)
