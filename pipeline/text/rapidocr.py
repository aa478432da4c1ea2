"""RapidOCR: PaddleOCR's networks for text, computed by ONNX Runtime on the CPU in float32.

One network finds lines, one says which stand upside down, one reads them. The files are those in
the package; with sessions of our own the library looks for none and downloads none.

The graphs take pictures of any size, and each line has another width. ONNX Runtime computes that as
fast in float32 as OpenVINO does, and without its arena gives the memory of each size back.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime
import rapidocr
from numpy.typing import NDArray
from omegaconf import flag_override
from rapidocr.inference_engine.onnxruntime import ONNXRuntimeError

from contracts.errors import (
    InferenceError,
    UnsupportedModel,
    WeightsUnavailable,
    WeightsUnreadable,
)
from contracts.messages import ModelIdentity
from contracts.quads import Quad, area_of
from pipeline.runtime.failure import LIBRARIES, failure
from pipeline.runtime.onnxruntime import REFUSALS
from pipeline.text import Line

if TYPE_CHECKING:
    from contracts.frame import ImageHWC

FILES = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}
"""By the name of its part in the library's configuration. The hash of the weights is that of these
files one after the other, in this order: `cat … | sha256sum`."""

NAME = "text rapidocr"

SETTINGS = {
    "Global.log_level": "critical",
    # What a picture is scaled to is said once, for the network that finds lines.
    "Global.use_preprocess_img": False,
    # Lines are found in a picture reduced to this and cut from the picture as it came: printed
    # letters of 8 pixels in a frame of 1920, of 16 in one of 3840. The library itself enlarges
    # pictures to 736 pixels, which finds no more in crops and takes twenty times as long.
    "Det.limit_type": "max",
    "Det.limit_side_len": 960,
    # A line's answer is then its own, whatever stands beside it, and as quick; the scores of 18710
    # letters at each of its places are in memory for one line at a time.
    "Rec.rec_batch_num": 1,
}


class RapidOcr:
    """Finds and reads lines of printed text, of most scripts. See `TextReader`."""

    def __init__(self) -> None:
        """Loaded and warm. Raises ModelError."""
        contents = read_files()
        self.identity = ModelIdentity(
            name="rapidocr",
            weights_sha256=hashlib.sha256(b"".join(contents.values())).hexdigest(),
            runtime="onnxruntime",
            precision="float32",
        )
        self.ocr = rapidocr.RapidOCR(params=SETTINGS)
        with flag_override(self.ocr.cfg, "allow_objects", True):
            for part, name in FILES.items():
                self.ocr.cfg[part].session = _session(name, contents[name])
        _warm_up(self)

    def read(self, image_hwc: "ImageHWC") -> list[Line]:
        """See `TextReader.read`. A score is the mean of the letters', none below 0.5."""
        try:
            # The networks were trained on pictures as OpenCV reads them: blue, green, red.
            found: Any = self.ocr(cv2.cvtColor(image_hwc, cv2.COLOR_RGB2BGR))
        except (ONNXRuntimeError, *LIBRARIES) as error:
            # The text of an ONNXRuntimeError is a whole traceback, that of its cause says why.
            cause = error.__cause__
            raise failure(NAME, cause if isinstance(cause, Exception) else error) from error
        if found.txts is None:
            return []
        lines = zip(found.txts, found.scores, map(_quad, found.boxes), strict=True)
        # The library puts a border around a wide picture; what it sees there has no place in ours.
        return [Line(text, score, quad) for text, score, quad in lines if area_of(quad) > 0]


def _quad(corners: NDArray[Any]) -> Quad:
    first, second, third, fourth = ((float(x), float(y)) for x, y in corners)
    return first, second, third, fourth


def read_files() -> dict[str, bytes]:
    """What is in the package's files, by name, in the order of `FILES`. Raises ModelError."""
    folder = Path(rapidocr.__file__).parent / "models"
    try:
        return {name: (folder / name).read_bytes() for name in FILES.values()}
    except OSError as error:
        raise WeightsUnavailable(f"{NAME}: {error.filename}: {error.strerror}") from error


def _session(name: str, content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # What goes wrong is raised as well; the library's own lines would only double it.
    options.log_severity_level = 4
    # Threads that spin until the next run take the cores from decoding and from torch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise WeightsUnreadable(f"{NAME}: {name}: {error}") from error


def _warm_up(reader: "RapidOcr") -> None:
    """One line has gone through all networks, which the library loads when they are first used."""
    picture = np.full((64, 192, 3), 255, np.uint8)
    cv2.putText(picture, "WARM 42", (16, 44), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
    try:
        lines = reader.read(picture)
    except InferenceError as error:
        raise UnsupportedModel(str(error)) from error
    if not lines:
        raise UnsupportedModel(f"{NAME}: finds no text where there is some")
