"""On CUDA the models give what they give on the CPU, whatever computes them there."""

import pytest
import torch

from contracts.errors import BadSetting, DeviceUnavailable
from pipeline.catalog import find_model
from pipeline.classify.torchvision import TorchvisionClassifier
from pipeline.detect import RawDetections, Thresholds
from pipeline.detect.onnx import OnnxDetector
from pipeline.detect.torchvision import TorchvisionDetector
from pipeline.device import choose_device
from pipeline.runtime import AskedRuntime, Compute, Precision
from pipeline.runtime.choose import available
from stream.file import FileReader
from stream.reader import Picture
from tests.computing import by
from tests.frames import frame
from tests.test_onnx_detector import YOLOX_NANO, walkers
from tests.test_torchvision_models import CLIP

# Compiling takes minutes.
pytestmark = [pytest.mark.cuda, pytest.mark.timeout(900)]
CUDA = torch.device("cuda")
MAX_SCORE_DIFFERENCE = {"float32": 0.01, "bfloat16": 0.05, "float16": 0.02}
MAX_BOX_DIFFERENCE_PX = {"float32": 0.5, "bfloat16": 8.0, "float16": 2.0}


def assert_same(
    ours: list[RawDetections], theirs: list[RawDetections], precision: Precision
) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.class_ids.tolist() == other.class_ids.tolist()
        score = (one.scores - other.scores).abs().max()
        assert score <= MAX_SCORE_DIFFERENCE[precision]
        box_px = (one.boxes_xyxy - other.boxes_xyxy).abs().max()
        assert box_px <= MAX_BOX_DIFFERENCE_PX[precision]


@pytest.mark.parametrize("runtime", ["torch", "compile"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_bundled_detector_finds_the_same(runtime: AskedRuntime, precision: Precision) -> None:
    spec = find_model("detector", "bundled:parts")
    pictures = [p for p in FileReader(CLIP, 10**7).pictures() if isinstance(p, Picture)]
    frames = [frame(i, image_hwc=p.image_hwc) for i, p in enumerate(pictures[::30])]
    compute = Compute(CUDA, runtime, precision, max_batch=4)
    on_cuda = TorchvisionDetector(spec, compute, Thresholds(0.7))
    on_cpu = TorchvisionDetector(spec, by("torch"), Thresholds(0.7))
    assert (on_cuda.identity.runtime, on_cuda.identity.precision) == (runtime, precision)
    for count in (1, 3, 5):
        assert_same(on_cuda.detect(frames[:count]), on_cpu.detect(frames[:count]), precision)


@pytest.mark.parametrize("runtime", ["torch", "compile"])
def test_the_bundled_classifier_says_the_same(runtime: AskedRuntime) -> None:
    spec = find_model("classifier", "bundled:parts")
    on_cuda = TorchvisionClassifier(spec, Compute(CUDA, runtime, max_batch=16))
    on_cpu = TorchvisionClassifier(spec, by("torch"))
    crops = torch.randn(11, 3, 128, 128)
    ours, theirs = on_cuda.logits(crops.to(CUDA)).cpu(), on_cpu.logits(crops)
    torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)


@pytest.mark.shared
@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
def test_yolox_nano_finds_the_same(runtime: AskedRuntime) -> None:
    frames = [
        frame(i, image_hwc=picture.image_hwc)
        for i, picture in enumerate(walkers(3))
        if isinstance(picture, Picture)
    ]
    try:
        on_cuda = OnnxDetector(YOLOX_NANO, "yolox", Compute(CUDA, runtime), Thresholds(0.4))
    except (BadSetting, DeviceUnavailable) as error:
        pytest.skip(str(error))
    on_cpu = OnnxDetector(YOLOX_NANO, "yolox", by("onnxruntime"), Thresholds(0.4))
    assert_same(on_cuda.detect(frames), on_cpu.detect(frames), "float32")


def test_what_torch_computes_there_is_listed() -> None:
    assert available("torchvision", choose_device("auto")) == ("torch", "compile")
