"""From a URL to an open stream, in a time that is known."""

import contextlib
import dataclasses
import ssl
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import av
import av._core

from contracts.errors import BadSetting, UnsupportedCodec
from contracts.uris import without_credentials
from stream.lost import SECURE, opening_error, scheme_of, scrubbed
from stream.reader import ReaderOptions

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How FFmpeg is told to use one."""

    whitelist: str
    """What it may use itself: a playlist from the network can't open a file."""
    timeout: str
    """Its option for how long one send or receive may take, in microseconds."""
    options: dict[str, str] = dataclasses.field(default_factory=dict)


# RTSP takes `timeout` and no other; for RTMP the same word means to listen, and to wait so long for
# a client. `stimeout` is gone since FFmpeg 5.
_RTSP = {"allowed_media_types": "video"}
_HTTP = "http,https,httpproxy,tcp,tls,crypto,data"
_PROTOCOLS = {
    "rtsp": Protocol("rtp,udp,tcp", "timeout", _RTSP),
    "rtsps": Protocol("rtp,udp,tcp,tls", "timeout", _RTSP),
    "rtmp": Protocol("rtmp,tcp", "rw_timeout"),
    "rtmps": Protocol("rtmps,tcp,tls", "rw_timeout"),
    "http": Protocol(_HTTP, "rw_timeout"),
    "https": Protocol(_HTTP, "rw_timeout"),
    "tcp": Protocol("tcp", "rw_timeout"),
    # What doesn't fit into FFmpeg's buffer is lost, as on the network, and not an error.
    "udp": Protocol("udp", "timeout", {"overrun_nonfatal": "1"}),
}
if "--enable-libsrt" in av._core.library_meta["libavformat"]["configuration"]:
    _PROTOCOLS["srt"] = Protocol("srt", "timeout")

SCHEMES = tuple(_PROTOCOLS)
_NEED_A_PORT = frozenset({"udp", "tcp", "srt"})

# A camera's stream shows what it is in its first packets. FFmpeg's own limits, 5 s and 5 MB, make
# it wait for more: 1.2 s for H.264 over RTSP, and 5 s for a transport stream, instead of 0.2 s.
# `fflags nobuffer`, often advised, throws the packets away that were looked at: the first keyframe.
_QUICK = {"probesize": "65536", "analyzeduration": "500000"}
_THOROUGH: dict[str, str] = {}


def connect(uri: str, options: ReaderOptions) -> "tuple[InputContainer, VideoStream]":
    """The open container and its best video stream, which has a decoder. Or a leaf of
    `StreamLost`, or `BadSetting`.

    Comes back within `open_timeout_s`, but for the look-up of a name, which takes what the system's
    resolver takes. Each read of the container comes back within `read_timeout_s`.
    """
    _check_url(uri)
    deadline = _Deadline(options.open_timeout_s)
    try:
        with contextlib.suppress(av.error.InvalidDataError, UnsupportedCodec):
            return _open(uri, options, deadline, _QUICK)
        return _open(uri, options, deadline, _THOROUGH)
    except av.FFmpegError as error:
        lost = opening_error(error, uri, options.open_timeout_s, timed_out=not float(deadline))
        raise lost from scrubbed(error)


def _check_url(uri: str) -> None:
    """Raises `BadSetting` for a URL that can't be meant: no host, no port where one is needed."""
    shown, scheme = without_credentials(uri), scheme_of(uri)
    try:
        parts = urlsplit(uri)
        has_port = parts.port is not None
    except ValueError as error:
        raise BadSetting(f"{shown}: its host and port can't be read") from error
    if not parts.hostname and scheme != "udp":
        raise BadSetting(f"{shown}: expected a host, as in {scheme}://host/")
    if not has_port and scheme in _NEED_A_PORT:
        raise BadSetting(f"{shown}: expected a port, as in {scheme}://host:5000")


class _Deadline:
    """Seconds until a moment, anew at each look.

    PyAV looks before each of the two steps of opening, and would give each the whole time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._at_s = time.monotonic() + timeout_s

    def __float__(self) -> float:
        return max(self._at_s - time.monotonic(), 0.0)


def _open(
    uri: str, options: ReaderOptions, deadline: _Deadline, probing: dict[str, str]
) -> "tuple[InputContainer, VideoStream]":
    """`UnsupportedCodec` where no video shows that has a decoder; or what FFmpeg raises."""
    container = av.open(
        scheme_of(uri) + "://" + uri.partition("://")[2],
        options=_ffmpeg_options(uri, options) | probing | dict(options.ffmpeg_options),
        timeout=(cast("float", deadline), options.read_timeout_s),
        metadata_errors="replace",
    )
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        container.close()
        text = f"expected video that can be decoded here, but it holds {kinds} only"
        raise UnsupportedCodec(f"{without_credentials(uri)}: {text}")
    return container, cast("VideoStream", stream)


def _ffmpeg_options(uri: str, options: ReaderOptions) -> dict[str, str]:
    scheme = scheme_of(uri)
    protocol = _PROTOCOLS[scheme]
    # PyAV's timeouts are over first; but they don't hold while a connection is closed.
    timeout_us = int(max(options.open_timeout_s, options.read_timeout_s) * 1e6)
    chosen = {"protocol_whitelist": protocol.whitelist, protocol.timeout: str(timeout_us)}
    if scheme == "rtsp":
        chosen["rtsp_transport"] = options.transport
    if scheme in SECURE:
        chosen |= _trust()
    return chosen | protocol.options


def _trust() -> dict[str, str]:
    """FFmpeg verifies no certificate unless it is told to, and PyAV's looks for the authorities
    where another Linux distribution has them.
    """
    authorities = ssl.get_default_verify_paths().cafile
    return {"tls_verify": "1"} | ({"ca_file": authorities} if authorities else {})
