"""What the sinks that write files share: a file of one's own, and names for what goes wrong."""

import errno
import fcntl
import os
import stat
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import DiskFull, OutputUnwritable, SinkError

if TYPE_CHECKING:
    from av.error import FFmpegError


def claim(path: Path) -> FileIO:
    """The file is open, empty, and this run's alone until it is closed; what is no file is open.

    BlockingIOError: another run holds it, and nothing of it is touched. Other OSErrors as they are.
    """
    file = FileIO(path, "a")  # "w" would empty it before we know whose it is.
    try:
        # Pipes and devices (/dev/stdout, /dev/null) may be shared, and can't be emptied.
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            _lock(file, path)
            file.truncate(0)
    except OSError:
        file.close()
        raise
    return file


def named(error: "OSError | FFmpegError", what: str, path: Path) -> SinkError:
    """The system's or PyAV's error as ours, with the sink `what`, the path and the reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{what}: no space left for {path}")
    if isinstance(error, BlockingIOError):
        return OutputUnwritable(f"{what}: another run writes {path}; take another path")
    return OutputUnwritable(f"{what}: can't write {path}: {error.strerror or error}")


def _lock(file: FileIO, path: Path) -> None:
    """The system ends the lock when the file is closed, also where the process is killed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # A file system without locks is still one to write to.
    # Its holder may have given it its final name between our opening and our locking it.
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
