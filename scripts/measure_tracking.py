"""What tracking saves, and what it costs: `python -m scripts.measure_tracking --help`.

The frames of a clip go through the pipeline twice, batch by batch in turn: with each object
classified in every frame, and with labels carried along tracks. The detections are the same, so
each carried label stands beside the one that the classifier gives for that very frame.

A carried label that differs is not by itself a wrong one. Classifiers flicker: they name the same
object differently from one frame to the next. So that is counted too, on the same objects: how
often two fresh labels differ that are one frame apart.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence

import click
from rich.table import Column, Table

from contracts.errors import FramewireError, InferenceError
from contracts.frame import Frame
from contracts.messages import Classification, FrameResult
from contracts.settings import Settings
from pipeline.carry import Carried
from pipeline.inference import Pipeline, infer
from pipeline.load import load_pipeline
from scripts.console import set_up_logging
from scripts.tables import machine, print_markdown, standard_output, watched
from scripts.verify import read

CLIP = "scripts/demo_clip/conveyor.mp4"
BATCH = 8


@dataclasses.dataclass
class Tally:
    """What was counted over the clip."""

    frames: int = 0
    fresh_s: float = 0.0
    """From detecting to assembling, each object classified in every frame."""
    tracked_s: float = 0.0
    """The same with labels carried along tracks."""
    labels: int = 0
    """Classifications in the messages, the same number either way."""
    carried: int = 0
    """Of these, not made for this frame where labels are carried."""
    carried_differ: int = 0
    """Of these, another one than the classifier gives for this frame."""
    carried_age: int = 0
    """How many frames old the carried ones are, together."""
    pairs: int = 0
    """Fresh labels of a tracked object in two frames that follow each other."""
    pairs_differ: int = 0


def load(settings: Settings, max_frames: int) -> tuple[Pipeline, Iterable[Frame]]:
    """The pipeline, ready to follow the objects of the first source, and that one's frames."""
    pipeline, source = load_pipeline(settings), settings.sources[0]
    pipeline.views[source.id] = pipeline.view_of(source)
    frames = read(settings, source, max_frames)
    return pipeline, watched(frames, "measuring")


def measure(pipeline: Pipeline, frames: Iterable[Frame]) -> Tally:
    """Both ways over all frames, in turn. The pipeline has tracks and a classifier."""
    fresh_pipeline = dataclasses.replace(pipeline, views={}, carried=Carried(1))
    tally = Tally()
    last: dict[int, str] = {}
    for batch in _batches(frames):
        if not tally.frames:
            _results(fresh_pipeline, batch)  # Warms up.
        started_s = time.monotonic()
        fresh = _results(fresh_pipeline, batch)
        between_s = time.monotonic()
        tracked = _results(pipeline, batch)
        tally.tracked_s += time.monotonic() - between_s
        tally.fresh_s += between_s - started_s
        tally.frames += len(batch)
        for one, other in zip(fresh, tracked, strict=True):
            _count_carried(tally, one, other)
            last = _count_flicker(tally, one, other, last)
    return tally


def _batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    rest = iter(frames)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch


def _results(pipeline: Pipeline, frames: Sequence[Frame]) -> list[FrameResult]:
    results: list[FrameResult] = []
    for result in infer(pipeline, frames):
        if not isinstance(result, FrameResult):
            raise InferenceError(f"{result.image_id}: {result.code}: {result.message}")
        results.append(result)
    return results


def _by_detection(result: FrameResult) -> dict[int, Classification]:
    return {item.detection_index: item for item in result.classifications}


def _count_carried(tally: Tally, fresh: FrameResult, tracked: FrameResult) -> None:
    now = _by_detection(fresh)
    for index, said in _by_detection(tracked).items():
        tally.labels += 1
        age = tracked.frame_index - (said.classified_at_frame or 0)
        if age:
            tally.carried += 1
            tally.carried_age += age
            tally.carried_differ += said.class_name != now[index].class_name


def _count_flicker(
    tally: Tally, fresh: FrameResult, tracked: FrameResult, last: dict[int, str]
) -> dict[int, str]:
    """The fresh labels of this frame's tracked objects, for the next frame to be compared with."""
    now = {
        track_id: said.class_name
        for index, said in _by_detection(fresh).items()
        if (track_id := tracked.detections[index].track_id) is not None
    }
    both = now.keys() & last.keys()
    tally.pairs += len(both)
    tally.pairs_differ += sum(now[track_id] != last[track_id] for track_id in both)
    return now


def table_of(tally: Tally) -> Table:
    """Both ways side by side."""
    names = ("", "classified in every frame", "carried along tracks")
    table = Table(*(Column(name, justify="right" if name else "left") for name in names))
    made = tally.labels - tally.carried
    saved = _percent(tally.carried, tally.labels)
    table.add_row("classifier calls (crops)", str(tally.labels), f"{made}, {saved} saved")
    ways = [spent_s / tally.frames for spent_s in (tally.fresh_s, tally.tracked_s)]
    table.add_row("ms a frame, detect to assemble", *(f"{1e3 * way:.1f}" for way in ways))
    table.add_row("frames/s of that", *(f"{1 / way:.1f}" for way in ways))
    age = tally.carried_age / max(tally.carried, 1)
    table.add_row("mean age of a carried label, frames", "–", f"{age:.1f}")
    differ = _percent(tally.carried_differ, tally.carried)
    table.add_row("carried label differs from the frame's own", "–", differ)
    flicker = _percent(tally.pairs_differ, tally.pairs)
    table.add_row("own label differs from the frame before's", flicker, "–")
    return table


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


@click.command()
@click.option("--source", default=CLIP, show_default=True, help="A video.")
@click.option("--detector", default="bundled:parts", show_default=True)
@click.option("--classifier", default="bundled:parts", show_default=True)
@click.option("--classify-every", default=30, show_default=True, help="As in `framewire run`.")
@click.option("--max-frames", default=10_000, show_default=True)
@click.option("--markdown", is_flag=True, help="Print the table for a document.")
def main(
    source: str,
    detector: str,
    classifier: str,
    classify_every: int,
    max_frames: int,
    markdown: bool,
) -> None:
    """Count what carrying labels along tracks saves, and how often they differ from fresh ones."""
    set_up_logging("warning")
    given = {"detector": detector, "classifier": classifier, "classify_every": classify_every}
    try:
        settings = Settings.model_validate({"sources": [source], "track": True, **given})
        tally = measure(*load(settings, max_frames))
    except FramewireError as error:
        raise click.ClickException(f"{error.code}: {error}") from error
    table = table_of(tally)
    output = standard_output()
    output.print(f"{tally.frames} frames of {source}, {detector}, {classifier}\n", soft_wrap=True)
    print_markdown(table) if markdown else output.print(table)
    output.print(f"\n{machine()}", soft_wrap=True)


if __name__ == "__main__":
    main()
