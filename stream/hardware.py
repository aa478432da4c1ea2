"""Decoding in hardware where there is some, in software where there isn't."""

from typing import TYPE_CHECKING, cast

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel, hwdevices_available

from contracts.errors import BadSetting

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext


def check_hardware(name: str) -> None:
    """Raises `BadSetting` for a name of no device type that this build of FFmpeg has."""
    known = ["auto", "none", *hwdevices_available()]
    if name not in known:
        raise BadSetting(f"hwaccel: expected one of {', '.join(known)}, got {name}")


def hardware_decoder(software: "VideoCodecContext", name: str) -> "VideoCodecContext | None":
    """A decoder of the same stream on such a device, `auto`: on the first there is. None: nowhere.

    The decoded pictures are in main memory, like those of the software's decoder.
    """
    for device in hwdevices_available() if name == "auto" else [name]:
        try:
            # PyAV's own way, av.open(hwaccel=…), would have to connect anew where this fails.
            created = CodecContext.create(software.codec, "r", HWAccel(device))
        except av.FFmpegError:
            continue
        context = cast("VideoCodecContext", created)
        if context.is_hwaccel:
            context.extradata = software.extradata
            return context
    return None


def decodes_in_hardware(context: "VideoCodecContext") -> bool:
    """True once a picture was decoded and the hardware did it.

    A device may be there and yet refuse a stream, by its size or its profile; FFmpeg then goes on
    in software.
    """
    return context.pix_fmt in {
        config.format.name for config in context.codec.hardware_configs if config.format
    }
