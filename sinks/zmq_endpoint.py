"""What a ZeroMQ endpoint must be, told before libzmq takes it for something else."""

import errno
import socket as sockets
from pathlib import Path

import zmq

from contracts.errors import EndpointUnavailable


def bound(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """The endpoint that the socket is bound to, with the port that was chosen for `:*`.

    EndpointUnavailable.
    """
    check_endpoint(endpoint)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise EndpointUnavailable(f"zmq: {endpoint} {bind_fault(error)}") from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def check_endpoint(endpoint: str) -> None:
    """EndpointUnavailable where libzmq would bind something else than what was meant."""
    transport, _, address = endpoint.partition("://")
    port = address.rpartition(":")[2]
    # libzmq takes port 99999 modulo 65536.
    too_large = port.isascii() and port.isdigit() and (len(port) > 5 or int(port) > 65535)
    known = transport in ("tcp", "ipc") and endpoint.isprintable()
    if not known or (transport == "tcp" and too_large):
        raise EndpointUnavailable(f"zmq: {endpoint!r} {_NOT_AN_ENDPOINT}")
    if transport == "ipc":
        _check_ipc_path(endpoint, Path(address))


def _check_ipc_path(endpoint: str, path: Path) -> None:
    """The path is free. libzmq unlinks whatever is there, be it a file or another run's socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise EndpointUnavailable(f"zmq: {endpoint} is a file that is no socket; take another path")
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return  # Left behind by a run that is over.
    raise EndpointUnavailable(f"zmq: {endpoint} {_IN_USE}")


_IN_USE = "is in use; stop the run that publishes there, or take another port"
_NOT_AN_ENDPOINT = "is not an endpoint; write tcp://127.0.0.1:5555 or ipc:///tmp/framewire"


def bind_fault(error: zmq.ZMQError) -> str:
    """What is wrong with the endpoint and what to do, to follow its name."""
    match error.errno:
        case errno.EADDRINUSE:
            return _IN_USE
        case errno.EADDRNOTAVAIL | errno.ENODEV:
            return "is not an address of this machine; take 127.0.0.1 or one that it has"
        case errno.EACCES:
            return "is not allowed to this user; take a port above 1023"
        case errno.EINVAL | zmq.EPROTONOSUPPORT:
            return _NOT_AN_ENDPOINT
    return f"can't be bound: {error.strerror}"
