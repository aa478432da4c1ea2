"""The configuration: one frozen tree, read once, unknown keys refused.

A setting has one name everywhere: `min_score` in YAML, `--min-score` on the command line,
`FRAMEWIRE_MIN_SCORE` in the environment. The command line wins over the environment, the
environment over the file, the file over the defaults below.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from contracts.filters import FilterSettings, ObjectFilter
from contracts.messages import Score, SourceId
from contracts.serve import ServeSettings
from contracts.uris import without_credentials
from contracts.wire import is_local

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5555"
WhenFull = Literal["block", "drop_oldest"]
RuntimeName = Literal["torch", "compile", "openvino", "onnxruntime", "tensorrt"]
AskedRuntime = Literal["auto", RuntimeName]
Precision = Literal["float32", "bfloat16", "float16"]
CAN_BE_NONE = ("zmq", "zmq_catchup", "jsonl", "video", "summary")


def _a_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name):
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    return name


def _a_region(region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = region
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise ValueError("region: expected fractions 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1")
    return region


Region = Annotated[tuple[float, float, float, float], AfterValidator(_a_region)]


def _split_at_commas(names: Any) -> Any:
    """On the command line and in the environment a list of names is one text."""
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else names


Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=1),
    BeforeValidator(_split_at_commas),
]


def _without_last_newline(uri: str) -> str:
    """A block of YAML ends with a newline, which nobody means."""
    return uri.rstrip("\n") or uri


class SourceSettings(BaseModel):
    """One place that frames come from."""

    # What is wrong with a source is said without its URI, which may carry a password.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    uri: Annotated[str, Field(pattern=r"^[^\x00]+$"), AfterValidator(_without_last_newline)]
    """A video file, a webcam (`0`, `/dev/video0`), an image, a folder of them, `shots/*.jpg`, or a
    URL: `rtsp://`, `rtsps://`, `rtmp://`, `http://` (also HLS), `udp://`. In a URL, `${NAME}` is a
    variable of the environment and `${file:PATH}` what is in a file."""

    id: SourceId = ""
    """Names the source in every message; made from the URI where it isn't given."""

    when_full: WhenFull | None = None
    """What the queue does when it is full. Left out: files block, live sources drop the oldest."""

    queue_depth: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Frames that may wait for inference. Left out: 16 for files, 2 for live sources."""

    track: bool | None = None
    """Follow objects from frame to frame. Left out: as `track` says for all sources."""

    classes: tuple[str, ...] = ()
    """Only objects of these classes are reported; empty: all that the detector knows."""

    region: Region | None = None
    """(x1, y1, x2, y2) as fractions of the frame, where the detector looks; left out: all of it."""

    max_fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Frames a second that are looked at; those that come faster are dropped (`rate_limit`)."""

    max_age_ms: Annotated[float, Field(gt=0)] | None = None
    """A frame older than this when its batch begins is dropped (`stale`). Left out: 1000 for live
    sources, none for files."""

    realtime: bool = False
    """Play a file as a camera would: at its own speed, without waiting for us."""

    loop: bool = False
    """Play a file again and again; needs `realtime`."""

    transport: Literal["tcp", "udp"] = "tcp"
    """What carries RTSP's media."""

    hwaccel: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = "auto"
    """Decode in hardware: `auto` where there is some, `none`, or FFmpeg's name of one."""

    ffmpeg_options: dict[str, str] = {}
    """More options for FFmpeg's protocol and demuxer, for example `{user_agent: door}`."""

    open_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """How long a live source may take to open."""

    stall_timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    """A live source that gives no frame for so long is closed and opened again."""

    first_retry_s: Annotated[float, Field(gt=0, le=3600)] = 0.5
    """How long to wait before a lost live source is opened again; doubles at each failure."""

    max_retry_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """The longest such wait; wrong credentials and unknown paths wait ten times as long."""

    @model_validator(mode="after")
    def _only_files_loop(self) -> "SourceSettings":
        if self.loop and not self.realtime:
            raise ValueError("loop: needs realtime: true; a file job ends where its file ends")
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What `repr` and `str` show: the URI without its credentials, and of options the names."""
        for name, value in super().__repr_args__():
            if name == "uri":
                yield name, without_credentials(value)
            else:
                yield name, [*value] if name == "ffmpeg_options" else value


class Settings(BaseModel):
    """Everything that `framewire run` and `framewire serve` can be told."""

    # The docstrings below are also the help texts of the command line.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    sources: tuple[SourceSettings, ...] = ()
    """Where frames come from: a video, a webcam (`0`), images (`shots/*.jpg`), `rtsp://…`."""

    detector: str = "bundled:parts"
    """`bundled:parts`, `torchvision:NAME` (see `framewire models`), or `onnx:FILE`."""

    detector_weights: Path | None = None
    """A .safetensors or .pth file for the architecture, in place of the published weights."""

    classifier: str = "bundled:parts"
    """`bundled:parts`, `torchvision:NAME`, `onnx:FILE`, or `none`."""

    classifier_weights: Path | None = None
    """As `detector_weights`."""

    min_score: Score = 0.5
    """Detections below this are left out."""

    max_detections: Annotated[int, Field(ge=1, le=1000)] = 100
    """The best-scored so many of a frame are kept."""

    nms_iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of boxes of a class that overlap by more, the best is kept. Left out: the model's own."""

    layout: str = "auto"
    """How an ONNX detector's outputs read: `yolox`, `yolov5`, `yolov8`, `nms_free`, …"""

    runtime: AskedRuntime = "auto"
    """`openvino`; torchvision's models: `torch`, `compile`; files: `onnxruntime`, `tensorrt`."""

    precision: Precision = "float32"
    """What the models compute in; less than float32 is faster where the device has it."""

    masks: bool = False
    """Each detection's mask too, where the detector makes them (Mask R-CNN)."""

    classifier_timeout_ms: Annotated[float, Field(gt=0)] | None = None
    """How long classifying a batch may take; what is left then has no label. Left out: any time."""

    min_crop_px: Annotated[int, Field(ge=1)] = 32
    """A detection whose box is narrower or lower than this is not classified or read."""

    text: Literal["none", "rapidocr"] = "none"
    """Read texts in the frame; ONNX Runtime computes it on the CPU, in float32."""

    text_classes: Names | None = None
    """Read only on detections of these classes (`bus,truck`). Left out: in the whole frame."""

    track: bool = False
    """Give each object a `track_id` that stays while it is seen (ByteTrack)."""

    classify_every: Annotated[int, Field(ge=1)] = 30
    """A tracked object is classified and read when it appears, changes, or after so many frames."""

    filters: tuple[FilterSettings, ...] = ()
    """What is withheld before anything leaves: see `contracts.filters`. In a file only."""

    device: Annotated[str, AfterValidator(_a_device)] = "auto"
    """`auto` takes CUDA where there is a device, else the CPU."""

    max_batch: Annotated[int, Field(ge=1, le=256)] = 8
    """Frames that run through the models together."""

    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 10.0
    """How long a batch waits for more frames after its first one."""

    max_frame_megapixels: Annotated[float, Field(gt=0, le=1000)] = 64.0
    """A larger frame is refused (`frame_too_large`); 8K video has 33 megapixels."""

    inference_timeout_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """A batch that takes longer is taken for hung: the process says so and ends (status 70)."""

    max_queue_megabytes: Annotated[float, Field(gt=0, le=1e6)] = 256.0
    """Pixels that one queue may hold; it always takes one frame, however large."""

    max_frames: Annotated[int, Field(ge=1)] | None = None
    """Stop reading each source after so many frames."""

    zmq: str | None = DEFAULT_ENDPOINT
    """ZeroMQ endpoint to publish on; `none` publishes nothing, and so for the files below."""

    zmq_subscribers: Annotated[int, Field(ge=0)] = 0
    """Read the first frame only when so many subscriptions have come (30 s at most)."""

    zmq_max_message_megabytes: Annotated[float, Field(gt=0, le=1000)] = 16.0
    """A larger message is not published, but counted (`message_too_large`) and logged."""

    zmq_catchup: str | None = None
    """ZeroMQ endpoint where subscribers ask for what they missed; left out, nobody can."""

    zmq_catchup_s: Annotated[float, Field(gt=0, le=86400)] = 30.0
    """How long a message is kept for those who ask."""

    zmq_catchup_megabytes: Annotated[float, Field(gt=0, le=1e6)] = 64.0
    """How much is kept for those who ask, the oldest goes first."""

    zmq_key: Path | None = None
    """The run's own `.key_secret` (`framewire keys`): what is published is then encrypted."""

    zmq_allowed: Path | None = None
    """Folder with the `.key` of each subscriber that is let in. Changes count at once."""

    zmq_open: bool = False
    """Publish to other machines without encryption, to whoever can reach the endpoint."""

    jsonl: Path | None = None
    """File to write, one JSON message a line."""

    video: Path | None = None
    """Annotated MP4 to write. With several sources the name must contain `{source}`."""

    summary: Path | None = None
    """JSON file to write at the end: counts, frame rate, stage times, models."""

    serve: ServeSettings = ServeSettings()
    """The HTTP service, which only `framewire serve` opens."""

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, raw: Any) -> Any:
        """`sources: [clip.mp4]` is `sources: [{uri: clip.mp4}]`; `none` is nothing."""
        if not isinstance(raw, dict):
            return raw
        read = {
            key: None if key in CAN_BE_NONE and value == "none" else value
            for key, value in raw.items()
        }
        sources = raw.get("sources")
        if isinstance(sources, str | int):
            read["sources"] = _with_ids([sources])
        if isinstance(sources, list | tuple):
            read["sources"] = _with_ids(sources)
        return read

    @model_validator(mode="after")
    def _names_do_not_collide(self) -> "Settings":
        ids = [source.id for source in self.sources]
        if len(set(ids)) != len(ids):
            raise ValueError(f"two sources have the same id: {', '.join(ids)}")
        if self.video and len(ids) > 1 and "{source}" not in str(self.video):
            raise ValueError(
                f"video: {len(ids)} sources need a file each: put {{source}} in the name"
            )
        return self

    @model_validator(mode="after")
    def _filters_can_be_told_apart(self) -> "Settings":
        names = [each.name for each in self.filters]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"filters: two are called {name}; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _nothing_is_asked_in_vain(self) -> "Settings":
        """A setting that would do nothing is refused: whoever wrote it expects something of it."""
        if self.zmq_subscribers and not self.zmq:
            raise ValueError("zmq_subscribers: nobody can subscribe while zmq is none")
        if bool(self.zmq_key) != bool(self.zmq_allowed):
            raise ValueError("zmq_key, zmq_allowed: encryption needs both")
        if self.zmq_key and not self.zmq:
            raise ValueError("zmq_key: nothing is encrypted while zmq is none")
        if self.zmq_catchup and not self.zmq:
            raise ValueError("zmq_catchup: nothing can be missed while zmq is none")
        if self.classifier_weights and self.classifier == "none":
            raise ValueError("classifier_weights: not read while classifier is none")
        if self.classifier_timeout_ms and self.classifier == "none":
            raise ValueError("classifier_timeout_ms: not read while classifier is none")
        for each in self.filters:
            if isinstance(each, ObjectFilter) and each.labels and self.classifier == "none":
                raise ValueError(f"filter {each.name}: no labels while classifier is none")
        if self.text_classes and self.text == "none":
            raise ValueError("text_classes: not read while text is none")
        if self.layout != "auto" and not self.detector.startswith("onnx:"):
            raise ValueError(f"layout: is for an onnx: detector, not for {self.detector}")
        return self

    @model_validator(mode="after")
    def _results_are_not_open_to_all_by_mistake(self) -> "Settings":
        for name in () if self.zmq_open or self.zmq_key else ("zmq", "zmq_catchup"):
            endpoint = getattr(self, name)
            if endpoint and endpoint.startswith("tcp://") and not is_local(endpoint):
                raise ValueError(
                    f"{name}: other machines can reach {endpoint}: give zmq_key and zmq_allowed, "
                    "or say zmq_open: true"
                )
        return self

    @model_validator(mode="after")
    def _outputs_are_files_of_their_own(self) -> "Settings":
        """No output may be another one, or a source: it would be overwritten while it is read."""
        taken = {_resolved(source.uri): f"source {source.id}" for source in self.sources}
        for name, path in self._outputs():
            where = _resolved(path)
            if where in taken and not where.startswith("/dev/"):
                raise ValueError(
                    f"{name}: {path} is also {taken[where]}; give it a file of its own"
                )
            taken[where] = name
        return self

    def _outputs(self) -> Iterator[tuple[str, str]]:
        for name in ("jsonl", "summary"):
            if path := getattr(self, name):
                yield name, str(path)
        for source in self.sources if self.video else ():
            yield "video", str(self.video).replace("{source}", source.id)


def _with_ids(sources: list[Any] | tuple[Any, ...]) -> list[Any]:
    """Each source as a dict with an id; one made from a URI that is taken gets -2, -3, …"""
    entries = [_entry(source) for source in sources]
    taken = {str(entry["id"]) for entry in entries if isinstance(entry, dict) and entry.get("id")}
    read: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict) and not entry.get("id") and entry.get("uri") is not None:
            uri = str(entry["uri"])
            name = source_id_from(uri)
            numbered = (f"{name}-{number}" for number in itertools.count(2))
            free = next(one for one in itertools.chain([name], numbered) if one not in taken)
            taken.add(free)
            entry = {**entry, "uri": uri, "id": free}
        read.append(entry)
    return read


def _resolved(path: str) -> str:
    """One spelling for each file, whatever links lead to it."""
    return str(Path(path).resolve())


def _entry(source: Any) -> Any:
    """A URI alone, or a number of a webcam, as the dict that it is short for."""
    if isinstance(source, SourceSettings):
        return source.model_dump()
    return {"uri": str(source)} if isinstance(source, str | int) else source


def source_id_from(uri: str) -> str:
    """A readable id from the last part of a path: `/clips/My clip.mp4` gives `My-clip`."""
    if re.fullmatch(r"[0-9]{1,9}", uri):
        return f"webcam{uri}"
    shown = without_credentials(uri)
    path = Path(shown.partition("?")[0] if "://" in shown else shown)
    name = path.parent.name if set(path.name) & set("*?[") else path.stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")[:48] or "source"
