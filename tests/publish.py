"""Publishes a clip to an RTMP server: `python -m tests.publish CLIP URL`.

In a process of its own, since PyAV holds the lock of Python's threads while it connects, and a
server in the same process would wait for it.
"""

import contextlib
import sys
import time

import av


def publish(clip: str, url: str) -> None:
    """The whole clip is sent. Raises ConnectionRefusedError where nobody listens."""
    with av.open(clip) as source, av.open(url, "w", format="flv") as sink:
        [video] = source.streams.video
        out = sink.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.size:
                packet.stream = out
                sink.mux(packet)


if __name__ == "__main__":
    for _ in range(200):
        with contextlib.suppress(av.error.ConnectionRefusedError):
            publish(*sys.argv[1:])
            break
        # Nothing tells when a server of FFmpeg listens, but that it does.
        time.sleep(0.05)
