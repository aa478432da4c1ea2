"""Sources come, pause and go over HTTP while others run, and share the models with pictures."""

from pathlib import Path
from typing import Any

import httpx

from contracts.messages import SourceEnd, SourceStatus
from tests.clips import FFV1, write_clip
from tests.http_service import FORM, Served, code_of, serving, until
from tests.test_run import NumberDetector, messages_in, results_of


def states(served: Served) -> dict[str, str]:
    """Of each source, as GET /v1/sources has it."""
    sources = [SourceStatus.model_validate(one) for one in served.client.get("/v1/sources").json()]
    return {one.source_id: one.state for one in sources}


def add(served: Served, **source: Any) -> httpx.Response:
    return served.client.post("/v1/sources", json=source)


def playing(clip: Path, source_id: str) -> dict[str, Any]:
    """A source that goes on until it is told to stop."""
    return {"uri": str(clip), "id": source_id, "realtime": True, "loop": True}


def test_a_source_is_added_paused_resumed_and_removed_beside_another(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 20, FFV1)
    with serving(NumberDetector(), sources=[playing(clip, "first")]) as served:
        answer = add(served, **playing(clip, "second"))
        assert answer.status_code == 201
        assert answer.headers["location"] == "/v1/sources/second"
        assert SourceStatus.model_validate(answer.json()).source_id == "second"
        until(lambda: states(served) == {"first": "live", "second": "live"})
        assert served.client.post("/v1/sources/second/pause").status_code == 200
        until(lambda: states(served)["second"] == "paused")
        assert states(served)["first"] == "live"
        assert served.client.post("/v1/sources/second/resume").status_code == 200
        until(lambda: states(served)["second"] == "live")
        assert served.client.delete("/v1/sources/second").status_code == 204
        until(lambda: states(served) == {"first": "live"})
        for path in ("pause", "resume"):
            gone = served.client.post(f"/v1/sources/second/{path}")
            assert (gone.status_code, code_of(gone)) == (404, "no_such_path")
        assert code_of(served.client.delete("/v1/sources/second")) == "no_such_path"
        assert add(served, **playing(clip, "second")).status_code == 201


def test_every_frame_of_an_added_file_is_delivered_while_pictures_are_answered(
    tmp_path: Path,
) -> None:
    clip = write_clip(tmp_path / "my clip.mkv", 40, FFV1)
    results = tmp_path / "results.jsonl"
    with serving(NumberDetector(), jsonl=str(results), max_batch=4) as served:
        assert add(served, uri=str(clip)).json()["source_id"] == "my-clip"
        answered = 0
        while states(served)["my-clip"] != "ended":
            answered += served.client.post("/detect", files=FORM).status_code == 200
        until(lambda: "my-clip" in served.run.report.ends)
        assert served.run.uploads.counts()["answered"] == answered
    messages = messages_in(results)
    numbers = [one.detections[0].class_id for one in results_of(messages, "my-clip")]
    assert numbers == list(range(40))
    assert not [one for one in messages if getattr(one, "source_id", "") == "upload"]
    end = messages[-1]
    assert isinstance(end, SourceEnd)
    assert end.ledger.delivered == 40


def test_a_source_of_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 20, FFV1)
    with serving(NumberDetector(), sources=[playing(clip, "cam")]) as served:
        answer = add(served, **playing(clip, "cam"))
        assert (answer.status_code, code_of(answer)) == (400, "bad_setting")
        assert "cam" in answer.json()["detail"]


def test_a_password_is_in_no_answer() -> None:
    with serving() as served:
        added = add(served, uri="rtsp://bob:hunter2@127.0.0.1:9/door", id="door")
        assert added.json()["uri"] == "rtsp://127.0.0.1:9/door"
        until(lambda: states(served)["door"] == "backing_off")
        refused = add(served, uri="rtsp://bob:hunter2@cam/door", quee_depth=3)
        assert "quee_depth" in refused.json()["detail"]
        wrong = add(served, uri=["rtsp://bob:hunter2@cam/door"])
        said = served.client.get("/v1/sources").text
        assert "hunter2" not in added.text + refused.text + wrong.text + said
