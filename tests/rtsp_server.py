"""The cameras that tests connect to: a real RTSP server whose pictures spell their numbers.

    /usr/bin/python3 -m tests.rtsp_server '{"port": 0, "login": null, "mounts": [{"path": "cam"}]}'

prints {"port": 40123} once clients can connect, and ends when its stdin does, so that it never
outlives the test. The system's Python runs it, because that is where GStreamer's bindings are.
With `--check` it exits 0 if this machine has all it needs.
"""

import contextlib
import dataclasses
import fractions
import itertools
import json
import sys
import threading
import time
from collections.abc import Generator
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

from tests.mount import Mount  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Codec:
    """GStreamer's elements for it."""

    encode: str
    caps: str
    pay: str


GOP = 25
X26X = f"tune=zerolatency speed-preset=ultrafast key-int-max={GOP}"
UNITS = "stream-format=byte-stream,alignment=au"
CODECS = {
    # With more threads a picture has several slices, and FFmpeg makes two pictures of a key frame.
    "h264": Codec(f"x264enc threads=1 {X26X}", f"video/x-h264,{UNITS}", "h264parse ! rtph264pay"),
    "h265": Codec(f"x265enc {X26X}", f"video/x-h265,{UNITS}", "h265parse ! rtph265pay"),
    "mjpeg": Codec("jpegenc", "image/jpeg", "jpegparse ! rtpjpegpay"),
}


def painted(number: int, width: int, height: int) -> bytes:
    """I420 whose upper half spells the number's low byte, and whose lower half its high byte.

    Each half has the bars of `tests.clips.painted`.
    """
    halves = b""
    for byte in number.to_bytes(2, "little"):
        bars = (b"\xeb" if byte >> bit & 1 else b"\x10" for bit in range(8))
        halves += b"".join(bar * (width // 8) for bar in bars) * (height // 2)
    return halves + b"\x80" * (width * height // 2)


class Encoder:
    """Codes each picture at once, without a look at the next; the first is a key frame."""

    def __init__(self, mount: Mount, shrink: int) -> None:
        self._mount = mount
        self._size = mount.width // shrink, mount.height // shrink
        rate = fractions.Fraction(mount.declared_fps or mount.fps).limit_denominator(1000)
        raw = "video/x-raw,format=I420,width={},height={}".format(*self._size)
        codec = CODECS[mount.codec]
        self._pipeline = Gst.parse_launch(
            f"appsrc name=raw format=time caps={raw},framerate={rate.numerator}/{rate.denominator}"
            f" ! {codec.encode} ! {codec.caps} ! appsink name=coded sync=false"
        )
        self._pipeline.set_state(Gst.State.PLAYING)

    def code(self, number: int) -> tuple[bytes, bool]:
        """The coded picture, and whether it is a key frame, which brings its parameter sets."""
        raw = Gst.Buffer.new_wrapped(painted(number, *self._size))
        raw.pts = pts_ns(self._mount, number)
        self._pipeline.get_by_name("raw").emit("push-buffer", raw)
        coded = self._pipeline.get_by_name("coded").emit("pull-sample").get_buffer()
        is_key = not coded.has_flags(Gst.BufferFlags.DELTA_UNIT)
        return coded.extract_dup(0, coded.get_size()), is_key

    def close(self) -> None:
        """Its threads have ended."""
        self._pipeline.set_state(Gst.State.NULL)


def pts_ns(mount: Mount, number: int) -> int:
    return int(number * Gst.SECOND / mount.fps)


def coded_frames(mount: Mount) -> Generator[tuple[int, bytes]]:
    """The frames' numbers and bytes, with the damage that the mount asks for."""
    encoder, shrink = Encoder(mount, 1), 1
    try:
        for number in itertools.islice(itertools.count(), mount.ends_after):
            wanted = 1 + number // (mount.resize_every or sys.maxsize) % 2
            if wanted != shrink:
                encoder.close()
                encoder, shrink = Encoder(mount, wanted), wanted
            data, is_key = encoder.code(number)
            if mount.corrupt_every and number % mount.corrupt_every == 0 and not is_key:
                half = len(data) // 2
                data = data[:half] + bytes(byte ^ 0x5A for byte in data[half:])
            yield number, data
    finally:
        encoder.close()


def stamp_ns(mount: Mount, number: int) -> int:
    """The timestamp that the frame is sent with. A jump back needs a start that is late enough."""
    jump_s = mount.jump_s if mount.jump_at is not None and number >= mount.jump_at else 0
    offset_ns = int((max(0, -mount.jump_s) + jump_s) * Gst.SECOND)
    return offset_ns + (int(mount.clock * pts_ns(mount, number)) if mount.stamped else 0)


def feed(source: Any, mount: Mount, stop: threading.Event) -> None:
    """Sends the camera's frames, each when its time has come, until nobody watches any more."""
    start_s = time.monotonic()
    with contextlib.closing(coded_frames(mount)) as frames:
        for number, data in frames:
            buffer = Gst.Buffer.new_wrapped(data)
            buffer.pts = stamp_ns(mount, number)
            if stop.wait(max(0, start_s + number / mount.fps - time.monotonic())):
                return
            source.emit("push-buffer", buffer)
    source.emit("end-of-stream")


def start_camera(_factory: Any, media: Any, mount: Mount) -> None:
    stop = threading.Event()
    media.connect("unprepared", lambda _media: stop.set())
    pipeline = media.get_element().get_parent()
    pipeline.connect("deep-element-added", lambda _pipeline, _bin, element: never_sync(element))
    source = media.get_element().get_by_name("source")
    threading.Thread(target=feed, args=(source, mount, stop), daemon=True).start()


def never_sync(element: Any) -> None:
    """`feed` keeps the time: a sink that did would hold a frame back whose timestamp jumped."""

    def switch_off(*_arguments: object) -> None:
        if element.get_property("sync"):
            element.set_property("sync", False)

    if element.find_property("sync"):
        # The server switches it on again when a client plays.
        element.connect("notify::sync", switch_off)
        switch_off()


def factory_of(mount: Mount) -> Any:
    """Makes the mount's stream for each client, or one for all."""
    codec = CODECS[mount.codec]
    headers = "" if mount.codec == "mjpeg" else "config-interval=-1"
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(
        f"( appsrc name=source format=time leaky-type=downstream caps={codec.caps}"
        f" ! {codec.pay} name=pay0 {headers} )"
    )
    factory.set_shared(mount.shared)
    factory.connect("media-configure", start_camera, mount)
    return factory


def authentication(user: str, password: str, method: str) -> Any:
    """Who does not log in is refused with 401; who does has the user's name for his role."""
    auth, token = GstRtspServer.RTSPAuth.new(), GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", user)
    if method == "basic":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(auth.make_basic(user, password), token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    return auth


def permit(factory: Any, user: str) -> None:
    permissions = GstRtspServer.RTSPPermissions.new()
    permissions.add_permission_for_role(user, "media.factory.access", True)
    permissions.add_permission_for_role(user, "media.factory.construct", True)
    factory.set_permissions(permissions)


def serve(port: int, login: dict[str, str] | None, mounts: list[dict[str, Any]]) -> int:
    """The port at which clients can connect from now on."""
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    if login:
        server.set_auth(authentication(**login))
    for mount in mounts:
        factory = factory_of(Mount(**mount))
        if login:
            permit(factory, login["user"])
        server.get_mount_points().add_factory(f"/{mount['path']}", factory)
    if not server.attach(None):
        sys.exit(f"can't listen at port {port}")
    return int(server.get_bound_port())


def main() -> None:
    Gst.init(None)
    if sys.argv[1] == "--check":
        for codec in CODECS.values():  # Raises if an element is not there.
            Gst.parse_launch(f"appsrc ! {codec.encode} ! {codec.pay} ! fakesink")
        return
    print(json.dumps({"port": serve(**json.loads(sys.argv[1]))}), flush=True)  # noqa: T201
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin, GLib.IOCondition.HUP, lambda *_: loop.quit())
    loop.run()


if __name__ == "__main__":
    main()
