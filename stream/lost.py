"""What became of a live stream, by name: from FFmpeg's errors to the leaves of `StreamLost`."""

import errno
import socket
from urllib.parse import urlsplit

import av

from contracts.errors import (
    AuthFailed,
    Ended,
    NotFound,
    Refused,
    SourceLost,
    Stalled,
    StreamLost,
    Timeout,
    TlsError,
    UnsupportedCodec,
)
from contracts.uris import without_credentials

SECURE = frozenset({"rtsps", "rtmps", "https"})

_Rule = tuple[tuple[type[Exception], ...], type[StreamLost], str]

_SAID_BY_SERVER: tuple[_Rule, ...] = (
    (
        (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError),
        AuthFailed,
        "user and password are missing, wrong, or not enough",
    ),
    ((av.error.HTTPNotFoundError,), NotFound, "the server has no such stream"),
)
_HUNG_UP = (
    av.error.ConnectionResetError,
    av.error.ConnectionAbortedError,
    av.error.BrokenPipeError,
)
_OPENING: tuple[_Rule, ...] = (
    *_SAID_BY_SERVER,
    ((av.error.ConnectionRefusedError,), Refused, "nothing listens there"),
    (_HUNG_UP, Refused, "the server hung up at once"),
    ((av.error.EOFError,), Ended, "the server closed the connection"),
    (
        (av.error.DemuxerNotFoundError, av.error.DecoderNotFoundError, av.error.PatchWelcomeError),
        UnsupportedCodec,
        "the stream is of a kind that can't be decoded here",
    ),
    # RTSP also has it for a server that hangs up in the middle.
    ((av.error.InvalidDataError,), SourceLost, "expected video, but what came is none"),
)
_READING: tuple[_Rule, ...] = (
    *_SAID_BY_SERVER,
    ((av.error.ExitError, av.error.TimeoutError), Stalled, "nothing came for too long"),
    (_HUNG_UP, SourceLost, "the connection broke"),
)
_CLOSED_IS_EIO = frozenset({"http", "https", "rtmp", "rtmps"})
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}


def opening_error(error: av.FFmpegError, uri: str, timeout_s: float, timed_out: bool) -> StreamLost:
    """Why the stream can't be had. A server that accepts and then resets has refused.

    RTSP and TLS don't tell a timeout from an answer that makes no sense; `timed_out` does.
    """
    shown = without_credentials(uri)
    if timed_out or isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return Timeout(f"{shown}: no picture within {timeout_s:g} s")
    if error.errno in _UNREACHABLE:
        return Refused(f"{shown}: {error.strerror}")
    if error.errno == errno.EIO and not _resolves(uri):
        return Refused(f"{shown}: there is no host of that name")
    if error.errno == errno.EIO and scheme_of(uri) in SECURE:
        hint = "put ca_file, or tls_verify: 0, into ffmpeg_options for a certificate of its own"
        return TlsError(f"{shown}: no secure connection can be made ({hint})")
    return _by_rule(_OPENING, error, shown)


def reading_error(error: av.FFmpegError, uri: str) -> StreamLost:
    """Why it goes on no more. A connection that is reset in the middle is `SourceLost`."""
    shown = without_credentials(uri)
    if error.errno == errno.EIO and scheme_of(uri) in _CLOSED_IS_EIO:
        return Ended(f"{shown}: the server closed the connection")
    return _by_rule(_READING, error, shown)


def scrubbed(error: av.FFmpegError) -> av.FFmpegError:
    """The error as the cause of one of ours: without the URL, and the line of FFmpeg's log, that
    PyAV put into its text, and without the frames that keep what was open.
    """
    error.args = error.args[:2]
    return error.with_traceback(None)


def scheme_of(uri: str) -> str:
    """`rtsp` of `RTSP://host/door`."""
    return uri.partition("://")[0].lower()


def _by_rule(rules: tuple[_Rule, ...], error: av.FFmpegError, shown: str) -> StreamLost:
    for kinds, lost, text in rules:
        if isinstance(error, kinds):
            return lost(f"{shown}: {text}: {error.strerror}")
    return SourceLost(f"{shown}: {error.strerror}")


def _resolves(uri: str) -> bool:
    """FFmpeg has one and the same error for a name that is unknown and for much else."""
    try:
        socket.getaddrinfo(urlsplit(uri).hostname, None)
    except (OSError, ValueError):
        return False
    return True
