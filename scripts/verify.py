"""`framewire verify`: do the runtimes here agree, on the same frames, and what does each cost?

Every way to compute a model is compared with the reference (`scripts/ways.py`), and timed in turn
with it: A B C, A B C, so that what else the machine does falls on all alike. Detector and
classifier are compared apart: each classifier is given the same crops, eight of every frame.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from contracts.errors import BadSetting
from contracts.frame import Frame, still_frame
from contracts.messages import Detection, ModelIdentity
from contracts.secrets import resolve_secrets
from contracts.settings import Settings, SourceSettings
from contracts.uris import without_credentials
from scripts.agreement import MAX_SCORE_GAP, Agreement, compare_detections, compare_labels
from scripts.console import console as standard_error
from scripts.ways import CROPS, Boxes, Way, boxes_of, classifier_ways, detector_ways
from stream.reader import Latent, Picture, ReaderOptions
from stream.source import open_reader


@dataclasses.dataclass(frozen=True)
class Row:
    """What was seen of one way: the median time for a frame in each round, and how it agrees."""

    model: str
    identity: ModelIdentity
    round_ms: Sequence[float]
    agreement: Agreement

    @property
    def agrees(self) -> bool:
        """Within the bounds of its precision."""
        return self.agreement.within(self.identity.precision)


def verify(settings: Settings, n_frames: int, rounds: int, console: Console) -> int:
    """The table is printed; 1 where a way of computing is outside its bounds, else 0."""
    frames = [frame for source in settings.sources for frame in read(settings, source, n_frames)]
    rows, found = compare_detector(settings, frames, rounds, f"detector {settings.detector}")
    if settings.classifier != "none":
        boxes = boxes_of(frames, found, settings.min_crop_px)
        rows += compare_classifier(settings, frames, boxes, rounds, of_classifier(settings))
    uris = ", ".join(without_credentials(source.uri) for source in settings.sources)
    console.print(f"{len(frames)} frames of {uris}, timed {rounds}× in turn\n", soft_wrap=True)
    print_rows(rows, console)
    return 0 if all(row.agrees for row in rows) else 1


def of_classifier(settings: Settings) -> str:
    """What the classifier is called in the table."""
    return f"classifier {settings.classifier}, {CROPS} crops"


def read(
    settings: Settings, source: SourceSettings, n_frames: int, apart: int = 1
) -> Iterator[Frame]:
    """Frames of the source, from its first on and so far apart. Raises BadSetting on none."""
    options = ReaderOptions(max_frame_pixels=int(settings.max_frame_megapixels * 1e6))
    reader = open_reader(resolve_secrets(source.uri), options)
    index = -1
    try:
        whole = (each for each in reader.pictures() if isinstance(each, Picture | Latent))
        for index, picture in enumerate(itertools.islice(whole, 0, n_frames * apart, apart)):
            image = picture.image_hwc if isinstance(picture, Picture) else picture.develop()
            frame = still_frame(image, source.id, f"{source.id}/{index}", index)
            yield dataclasses.replace(frame, pts_s=picture.pts_s)
    finally:
        reader.close()
    if index < 0:
        raise BadSetting(f"{without_credentials(source.uri)}: has no frame to verify with")


def compare_detector(
    settings: Settings, frames: Sequence[Frame], rounds: int, model: str
) -> tuple[list[Row], list[Sequence[Detection]]]:
    """A row for each way to compute the detector, the reference first, and what that one found."""

    def compare(reference: Any, found: Any, precision: str) -> Agreement:
        edge = settings.min_score + MAX_SCORE_GAP[precision]
        return compare_detections(reference, found, edge)

    return _measure(detector_ways(settings), compare, frames, rounds, model)


def compare_classifier(
    settings: Settings, frames: Sequence[Frame], boxes: Boxes, rounds: int, model: str
) -> list[Row]:
    """A row for each way to compute the classifier, the reference first."""

    def compare(reference: Any, found: Any, _precision: str) -> Agreement:
        return compare_labels(reference, found)

    rows, _ = _measure(classifier_ways(settings, boxes), compare, frames, rounds, model)
    return rows


def _measure(
    ways: Iterator[Way],
    compare: Callable[[Any, Any, str], Agreement],
    frames: Sequence[Frame],
    rounds: int,
    model: str,
) -> tuple[list[Row], list[Sequence[Any]]]:
    """Each way over all frames once, which also warms it up; then in turn, timed."""
    hidden = not standard_error.is_terminal
    with Progress(console=standard_error, transient=True, disable=hidden) as progress:
        task = progress.add_task(f"{model}: loading", total=None)
        loaded = list(ways)
        progress.update(task, total=len(loaded) * len(frames) * (1 + rounds), description=model)

        def over_all(way: Way) -> Iterator[tuple[float, Sequence[Any]]]:
            for frame in frames:
                yield way.compute(frame)
                progress.advance(task)

        found = [[result for _, result in over_all(way)] for way in loaded]
        taken = [
            [statistics.median(ms for ms, _ in over_all(way)) for way in loaded]
            for _ in range(rounds)
        ]
    rows = [
        Row(model, way.identity, round_ms, compare(found[0], result, way.identity.precision))
        for way, round_ms, result in zip(loaded, zip(*taken, strict=True), found, strict=True)
    ]
    return rows, found[0]


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """A table for each model, its reference first."""
    for model, of_model in itertools.groupby(rows, key=lambda row: row.model):
        table = Table(*columns(), title=model, title_justify="left")
        for line in lines_of(list(of_model)):
            table.add_row(*line)
        console.print(table)


def columns() -> list[Column]:
    """Of a table of one model."""
    numbers = ("ms a frame", "speed", "objects", "unpaired", "IoU ≥", "score ±")
    right = (Column(name, justify="right", overflow="fold") for name in numbers)
    return [Column("computed by", overflow="fold"), *right, Column("")]


def lines_of(rows: Sequence[Row]) -> Iterator[list[str]]:
    """One model's cells under `columns`. The first row is the reference."""
    for row in rows:
        verdict = "agrees" if row.agrees else "[red]differs[/]"
        yield [*_cells(row, rows[0]), "reference" if row is rows[0] else verdict]


def _cells(row: Row, reference: Row) -> list[str]:
    """The speed is that of the rounds' own ratios, as both had the same neighbours there."""
    pairs = zip(reference.round_ms, row.round_ms, strict=True)
    speed = statistics.median(theirs / ours for theirs, ours in pairs)
    agreement = row.agreement
    at_edge = f" ({agreement.at_edge} at edge)" if agreement.at_edge else ""
    low, middle, high = (
        f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}"
        for ms in (min(row.round_ms), statistics.median(row.round_ms), max(row.round_ms))
    )
    return [
        f"{row.identity.runtime} {row.identity.precision}",
        f"{middle} ({low}–{high})",
        f"{speed:.1f}×",
        str(agreement.compared),
        f"{agreement.unpaired}{at_edge}",
        f"{agreement.worst_iou:.4f}",
        f"{agreement.worst_score:.4f}",
    ]
