"""Searched byte by byte: what is withheld is in no file, message, log line, picture or answer."""

import dataclasses
import io
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import zmq
from numpy.typing import NDArray
from PIL import Image

from contracts.settings import Settings
from pipeline.filters import Filter
from pipeline.inference import Pipeline
from scripts.report import show
from scripts.run import _summary
from scripts.tables import standard_output
from scripts.wiring import Run
from tests.clips import FFV1, write_clip
from tests.filtered import (
    CAR,
    PERSON,
    StreetDetector,
    blocks_bright,
    reading,
    rule,
    street,
    with_filters,
)
from tests.http_service import serving

SECRET, MARK = "hush_child", "100×60"
"""The class that is withheld, and what the reader says of its crop's size."""


class SecretDetector(StreetDetector):
    """Its person has a name that is found nowhere else."""

    class_names = ("background", SECRET, "car", "plate")


def secretive(*filters: Filter) -> Pipeline:
    pipeline = with_filters(*filters, text=reading(SECRET))
    detector = SecretDetector((PERSON, 1, 0.9), (CAR, 2, 0.8))
    return dataclasses.replace(pipeline, detector=detector)


def run_over(
    tmp_path: Path, images: Sequence[NDArray[np.uint8]], *filters: Filter
) -> tuple[bytes, NDArray[np.uint8], Run]:
    """Every byte of text that left, the last picture of the video, and the run."""
    clip = write_clip(tmp_path / "clip.mkv", list(images), FFV1)
    jsonl, video, endpoint = tmp_path / "out.jsonl", tmp_path / "out.mp4", f"ipc://{tmp_path}/wire"
    outputs = {"jsonl": jsonl, "video": video, "zmq": endpoint, "zmq_subscribers": 1}
    settings = Settings.model_validate({"sources": [str(clip)], **outputs})
    heard = b""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        socket.connect(endpoint)
        run = Run(settings, lambda: secretive(*filters), threading.Event())
        thread = threading.Thread(target=run.execute)
        thread.start()
        parts: list[bytes] = [b""]
        while not parts[0].startswith(b"end/"):
            parts = socket.recv_multipart()
            heard += b"".join(parts)
        thread.join(60)
    summary = json.dumps(_summary(run, None)).encode()
    with av.open(str(video)) as container:
        shown = [
            np.asarray(one.to_ndarray(format="rgb24"), np.uint8)
            for one in container.decode(video=0)
        ]
    assert len(shown) == len(images)
    return heard + jsonl.read_bytes() + summary, shown[-1], run


def sharpness(shown: NDArray[np.uint8], box: Sequence[float]) -> float:
    """How much neighbours differ inside the box, whose frame and label are left out."""
    x1, y1, x2, y2 = (int(edge) for edge in box)
    inside = shown[y1 + 22 : y2 - 4, x1 + 4 : x2 - 4].astype(float)
    return float(np.abs(np.diff(inside, axis=1)).mean())


def test_without_filters_all_of_it_is_found_there(tmp_path: Path) -> None:
    text, shown, _ = run_over(tmp_path, [street()] * 3)
    assert text.count(SECRET.encode()) >= 7
    assert MARK in text.decode()
    assert sharpness(shown, PERSON) > 5


@pytest.mark.parametrize("kind", ["block", "redact"])
def test_a_withheld_class_its_label_and_text_are_in_no_byte_that_leaves(
    kind: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    blur = rule("blur", name="blurred", classes=[SECRET])
    text, shown, run = run_over(tmp_path, [street()] * 3, rule(kind, classes=[SECRET]), blur)
    show(_summary(run, None), standard_output())
    said = text.decode() + caplog.text + capsys.readouterr().out
    for secret in (SECRET, MARK, '"bright"'):
        assert secret not in said
    assert f"filtered: {kind} 3, blurred 3" in said
    assert sharpness(shown, PERSON) < 2
    assert sharpness(shown, CAR) > 5


def test_of_a_blocked_picture_nothing_is_in_any_byte_and_the_video_is_blurred(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bright = np.full_like(street(), 200) + street() // 4
    text, shown, _ = run_over(tmp_path, [bright] * 2, blocks_bright())
    said = text.decode() + caplog.text
    for secret in (SECRET, MARK, '"car"', '"bright"', '"dark"'):
        assert secret not in said
    assert "no_detections" not in said
    assert sharpness(shown, (0, 0, 400, 200)) < 2


class Broken:
    """Judges nothing."""

    name, by_label, identity = "broken", False, None

    def judge(self, sights: Sequence[Any]) -> list[Any]:
        raise RuntimeError(f"can't judge {len(sights)} frames")


def test_where_a_filter_fails_nothing_is_in_any_byte_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    clip = write_clip(tmp_path / "clip.mkv", [street()] * 2, FFV1)
    jsonl, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    outputs = {"zmq": "none", "jsonl": jsonl, "video": video}
    settings = Settings.model_validate({"sources": [str(clip)], **outputs})
    run = Run(settings, lambda: secretive(Broken()), threading.Event())
    run.execute()
    assert run.feeds["clip"].ledger.counts().failed == {"filter_failed": 2}
    assert not video.exists()
    said = jsonl.read_text() + caplog.text
    assert not [secret for secret in (SECRET, MARK, "car") if secret in said]


def test_an_answer_and_the_picture_drawn_for_it_are_filtered_too() -> None:
    file = io.BytesIO()
    Image.fromarray(street()).save(file, "PNG")
    filters = (rule("block", classes=[SECRET]), rule("blur", name="blurred", classes=[SECRET]))
    with serving(pipeline=secretive(*filters)) as served:
        plain = served.detect(file.getvalue())
        drawn = served.detect(file.getvalue(), params={"annotated": "true", "min_score": "0.95"})
    assert plain.json()["filtered"] == {"block": 1, "blurred": 1}
    assert not [secret for secret in (SECRET, MARK) if secret in plain.text]
    shown = np.asarray(Image.open(io.BytesIO(drawn.content)))
    assert sharpness(shown, PERSON) < 2
    assert sharpness(shown, CAR) > 5
