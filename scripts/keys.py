"""`framewire keys`: a pair of keys for an encrypted ZeroMQ connection."""

import os
from pathlib import Path

import zmq

from contracts.errors import BadSetting

TEXT = """#   {what} of framewire, for CURVE on ZeroMQ. {advice}

metadata
curve
    public-key = "{public}"
"""


def new_keys(path: Path) -> tuple[Path, Path]:
    """PATH.key, to be given to others, and PATH.key_secret, which only its owner can read.

    BadSetting where one of them is there already: a key that is in use is not replaced.
    """
    public, secret = (key.decode() for key in zmq.curve_keypair())
    files = path.with_name(f"{path.name}.key"), path.with_name(f"{path.name}.key_secret")
    texts = (
        TEXT.format(what="Public key", advice="Give it to others.", public=public),
        TEXT.format(what="Secret key", advice="Keep it to yourself.", public=public)
        + f'    secret-key = "{secret}"\n',
    )
    for file, text, mode in zip(files, texts, (0o644, 0o600), strict=True):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise BadSetting(f"{file}: can't be made: {error.strerror}") from error
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
    return files
