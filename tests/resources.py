"""What this process holds: threads and file descriptors, for tests that hunt leaks (Linux)."""

import time
from pathlib import Path


def held() -> tuple[int, int]:
    """(open file descriptors, threads of Python and of libraries)."""
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))


def released(before: tuple[int, int], timeout_s: float = 10) -> bool:
    """True as soon as no more is held than before: a joined thread ends a moment after its join."""
    deadline_s = time.monotonic() + timeout_s
    while any(now > then for now, then in zip(held(), before, strict=True)):
        if time.monotonic() > deadline_s:
            return False
    return True


def resident_bytes() -> int:
    """Memory that the process occupies."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096
