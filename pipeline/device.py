"""Which device the models run on."""

import torch

from contracts.errors import DeviceUnavailable


def choose_device(asked: str) -> torch.device:
    """`auto` is CUDA where there is a device, else the CPU. Raises DeviceUnavailable.

    What CUDA is to compute in float32 it does: left alone its convolutions are TF32, which keeps
    10 bits of the mantissa's 23. For what is faster there is `precision`.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(("cuda" if count else "cpu") if asked == "auto" else asked)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceUnavailable(f"device {asked}: this machine has {count} CUDA devices")
    torch.backends.cudnn.allow_tf32 = False
    return device
