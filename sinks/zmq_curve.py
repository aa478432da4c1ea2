"""CURVE on ZeroMQ: what is sent is encrypted, and only keys in a folder are let in."""

from pathlib import Path
from typing import Any

import zmq
from zmq.auth import load_certificate
from zmq.auth.thread import ThreadAuthenticator

from contracts.errors import BadSetting


class Curve:
    """The publisher's key, and who may subscribe: whose public key lies in the folder.

    The folder is read at each connection: a key that is put there or taken away counts from the
    next one on, without a restart. Who is connected already stays so.
    """

    def __init__(self, key: Path, allowed: Path) -> None:
        """BadSetting where the key can't be read, or there is no such folder."""
        self._public, self._secret = read_key(key, secret=True)
        if not allowed.is_dir():
            raise BadSetting(
                f"zmq_allowed: {allowed} is no folder; put subscribers' .key files there"
            )
        self._allowed = allowed
        self._authenticator: ThreadAuthenticator | None = None

    def start(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """The context's secured sockets let in only whom they should. Before any is bound."""
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", self)

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """The socket speaks only CURVE."""
        socket.curve_publickey = self._public
        socket.curve_secretkey = self._secret
        socket.curve_server = True

    def callback(self, _domain: str, key: bytes) -> bool:
        """Called by the authenticator for each connection: True lets it in."""
        return any(key == public for public in _keys_in(self._allowed))

    def stop(self) -> None:
        """Safe to call twice, and without a start."""
        if self._authenticator:
            self._authenticator.stop()
            self._authenticator = None


def secure_client(socket: zmq.Socket[Any], key: Path, publisher_key: Path) -> None:
    """The socket shows its key, and talks to that publisher only. BadSetting."""
    socket.curve_publickey, socket.curve_secretkey = read_key(key, secret=True)
    socket.curve_serverkey, _ = read_key(publisher_key, secret=False)


def read_key(path: Path, secret: bool) -> tuple[bytes, bytes]:
    """(public, secret) of a key file, the secret empty in a `.key`. BadSetting."""
    try:
        public, private = load_certificate(path)
    except (OSError, ValueError) as error:
        raise BadSetting(
            f"{path}: no key can be read: {error}; make one: framewire keys"
        ) from error
    if secret and not private:
        raise BadSetting(f"{path}: is a public key; the .key_secret beside it is expected")
    return public, private or b""


def _keys_in(folder: Path) -> list[bytes]:
    """Of the files that can be read: one that is just being written is not let in yet."""
    keys = []
    for path in folder.glob("*.key"):
        try:
            keys.append(read_key(path, secret=False)[0])
        except BadSetting:
            continue
    return keys
