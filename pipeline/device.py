"""Which device the models run on."""

import torch

from contracts.errors import DeviceUnavailable


def choose_device(asked: str) -> torch.device:
    """`auto` is CUDA where there is a device, else the CPU. Raises DeviceUnavailable."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceUnavailable(f"device {asked}: this machine has {count} CUDA devices")
    return device
