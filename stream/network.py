"""A stream from the network: RTSP, RTMP, HTTP with HLS, MPEG-TS over UDP or TCP; read with PyAV."""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import av
from av.format import Flags as FormatFlags

from contracts.errors import DecodeError, Ended, Stalled, StreamLost
from contracts.uris import without_credentials
from stream.connect import connect
from stream.damage import Damage
from stream.decode import Decoder
from stream.gate import Gate
from stream.hardware import check_hardware, decodes_in_hardware, hardware_decoder
from stream.lag import Lag
from stream.lost import reading_error, scheme_of, scrubbed
from stream.pace import Pace
from stream.reader import Latent, ReaderOptions, Reading, Skip, Skipped, Unreadable

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext

MOST_DECODER_THREADS = 4
NO_TAG = "\0\0\0\0"
RTP = ("rtsp", "rtsps")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger("framewire.stream")


class NetworkReader:
    """One connection to a stream, owned by the thread that opened it. It never connects anew.

    Pictures are latent. `pts_s` is the stream's own time. `sent_at` is the camera's wall clock by
    its RTCP sender reports, which RTSP cameras send every few seconds: None before the first one,
    and for the other protocols. The capture times that a frame gets are this machine's in any case.

    A frame that shows a loss is `corrupt_frame` where FFmpeg tells of it. It does for transport
    streams and for H.265; H.264 over RTSP's `udp` may lose packets without a mark.
    """

    live = True
    frame_count_hint: int | None = None

    def __init__(self, uri: str, options: ReaderOptions) -> None:
        """Connects: a leaf of `StreamLost` within `open_timeout_s`, or the stream is open."""
        check_hardware(options.hwaccel)
        self.skip: Skip = "none"
        """What may stay undecoded from the next read on."""
        self.hardware_failed = False
        """True when decoding in hardware was asked for, or begun, and the software does it."""
        self._uri = uri
        self._shown = without_credentials(uri)
        self._read_timeout_s = options.read_timeout_s
        self._container, stream = connect(uri, options)
        self._stream_index = stream.index
        self._pace = _pace_of(self._container, options)
        self._may_fall_back = False
        context = self._decoder_context(stream.codec_context, options.hwaccel)
        # Threads that share a picture give it at once; those that take a picture each hold back as
        # many as they are: three of four, 120 ms at 25 frames/s, and more where there are more
        # cores. FFmpeg's `low_delay` takes no further frame off, and breaks the order of MPEG-2's
        # B-frames. Cameras part a picture into a few slices at most.
        context.thread_type = "SLICE"
        context.thread_count = min(os.cpu_count() or 1, MOST_DECODER_THREADS)
        # Where a format has no times, such as JPEG by JPEG over HTTP, FFmpeg makes some up.
        untimed = self._container.format.flags & cast("int", FormatFlags.no_timestamps.value)
        time_base = None if untimed else stream.time_base
        self._decoder = Decoder(context, time_base, self._shown, options.max_frame_pixels)
        self._gate = Gate(self._decoder)
        # FFmpeg's RTP counts the packets that are missing, and tells nobody but its log.
        self._damage = Damage(lossy=options.transport == "udp" and scheme_of(uri) in RTP)
        self._lag = Lag()

    def pictures(self) -> Iterator[Reading]:
        """Latent pictures and what else became of frames, in order; at the end a `StreamLost`.

        A frame of the stream gives one reading, also where it is not decoded (`skip`, or before the
        first keyframe) or can't be (`DecodeError`, `FrameTooLarge`).
        """
        with contextlib.closing(self):
            try:
                yield from self._readings()
            except StreamLost as lost:
                for reading in self._gate.finish():
                    yield self._complete(reading, damaged=self._damage.stands)
                # Whoever keeps the error does not keep, by its frames, a packet and its decoder.
                raise lost.with_traceback(None) from lost.__cause__

    def close(self) -> None:
        """The connection is closed. Pictures that are still latent can be developed."""
        self._container.close()
        self._decoder.close()

    def _readings(self) -> Iterator[Reading]:
        for packet in self._packets():
            clock_s = self._decoder.seconds(_stream_clock(packet))
            lag_s = self._lag.of(clock_s, time.monotonic())
            damaged = self._damage.shows(packet, self._decoder.seconds(packet.dts))
            for reading in self._gate.decode(packet, self.skip):
                if _is_damaged(reading):
                    self._damage.found()
                yield self._complete(reading, lag_s, damaged)

    def _packets(self) -> "Iterator[Packet[Any]]":
        """The video's packets, until a `StreamLost` is raised.

        Sound that still comes does not make up for pictures that don't.
        """
        came_s = time.monotonic()
        try:
            for packet in self._container.demux():
                too_late = time.monotonic() - came_s > self._read_timeout_s
                if packet.stream.index == self._stream_index and packet.size:
                    yield packet
                    came_s = time.monotonic()
                if too_late:
                    # A picture that comes then is the last one: FFmpeg's parser had it until the
                    # time was over, and to say so FFmpeg would take the same time once more.
                    raise Stalled(f"{self._shown}: no picture for {self._read_timeout_s:g} s")
        except av.FFmpegError as error:
            raise reading_error(error, self._uri) from scrubbed(error)
        raise Ended(f"{self._shown}: the server ended the stream")

    def _complete(
        self, reading: Latent | Unreadable | Skipped, lag_s: float = 0.0, damaged: bool = False
    ) -> Latent | Unreadable | Skipped:
        if not isinstance(reading, Latent):
            return dataclasses.replace(reading, lag_s=lag_s)
        self._check_hardware()
        if self._pace and reading.pts_s is not None:
            lag_s = self._pace.wait_for(reading.pts_s)
        return dataclasses.replace(
            reading,
            lag_s=lag_s,
            sent_at=self._sent_at(reading.pts_s),
            degraded=("corrupt_frame",) if damaged else reading.degraded,
        )

    def _sent_at(self, pts_s: float | None) -> datetime | None:
        """A transport stream inside of RTSP, known by its tag, has times of its own."""
        is_rtp = self._container.format.name == "rtsp" and self._decoder.context.codec_tag == NO_TAG
        if pts_s is None or not is_rtp:
            return None
        start_us = self._container.start_time_realtime
        return None if start_us is None else EPOCH + timedelta(microseconds=start_us, seconds=pts_s)

    def _decoder_context(self, software: "VideoCodecContext", hwaccel: str) -> "VideoCodecContext":
        if hwaccel == "none":
            return software
        hardware = hardware_decoder(software, hwaccel)
        self._may_fall_back = hardware is not None
        if hardware is None and hwaccel != "auto":
            self._fall_back(f"no {hwaccel} device here decodes {software.name}")
        return hardware or software

    def _check_hardware(self) -> None:
        """Once, when the first picture has come: only then FFmpeg has tried."""
        context = self._decoder.context
        if self._may_fall_back and not decodes_in_hardware(context):
            self._fall_back(f"the device does not take this {context.name} stream")
        self._may_fall_back = False

    def _fall_back(self, reason: str) -> None:
        self.hardware_failed = True
        log.warning("%s: decoded in software: %s", self._shown, reason)


def _is_damaged(reading: Latent | Unreadable | Skipped) -> bool:
    """Where the decoder says so itself."""
    if isinstance(reading, Latent):
        return bool(reading.degraded)
    return isinstance(reading, Unreadable) and isinstance(reading.error, DecodeError)


def _stream_clock(packet: "Packet[Any]") -> int | None:
    """In the order of the stream, where presentation times jump to and fro around B-frames."""
    return packet.pts if packet.dts is None else packet.dts


def _pace_of(container: "InputContainer", options: ReaderOptions) -> Pace | None:
    """HLS comes in pieces of seconds, and a file over HTTP as fast as it can: no camera does."""
    recorded = container.format.name == "hls" or container.duration is not None
    if recorded and scheme_of(container.name) in ("http", "https"):
        return Pace(options.stop, longest_wait_s=options.read_timeout_s)
    return None
