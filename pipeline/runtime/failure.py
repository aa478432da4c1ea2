"""What a library's error means: memory ran out, or something else went wrong while computing."""

import contextlib
import re
from collections.abc import Iterator

import cv2

from contracts.errors import InferenceError, OutOfMemory, UnsupportedModel

# Of these libraries only torch, for CUDA, and numpy have a class for it; the others say it in words
# (torch on the CPU, ONNX Runtime, OpenVINO, OpenCV, cuDNN and cuBLAS, C++ itself).
SAID = re.compile(
    r"out[ _]of[ _]memory|(failed to|unable to|can't|cannot) allocate|insufficient memory|"
    r"alloc_failed|bad_alloc",
    re.IGNORECASE,
)

# OpenVINO tells each place in its sources that the error came by, before it tells the error.
PLACES = re.compile(r"(Caught exception: )?Exception from \S+:\s*|Check '.*?' failed at \S+:\s*")

LIBRARIES = (RuntimeError, MemoryError, cv2.error)
"""What torch (`torch.OutOfMemoryError` is a RuntimeError), numpy and OpenCV raise."""


def is_out_of_memory(error: BaseException) -> bool:
    """True when the library says that there was not enough memory, of the device or the machine."""
    return isinstance(error, MemoryError) or bool(SAID.search(str(error)))


def failure(who: str, error: Exception) -> InferenceError:
    """The error to raise in place of a library's: OutOfMemory, or InferenceError."""
    kind = OutOfMemory if is_out_of_memory(error) else InferenceError
    return kind(f"{who}: {said_by(error)}")


def said_by(error: BaseException) -> str:
    """What a library says went wrong, without where in its sources."""
    return PLACES.sub("", str(error)).strip() or type(error).__name__


@contextlib.contextmanager
def failures_named(who: str) -> Iterator[None]:
    """What a library raises inside comes out as OutOfMemory or InferenceError."""
    try:
        yield
    except LIBRARIES as error:
        raise failure(who, error) from error


@contextlib.contextmanager
def made_ready(who: str) -> Iterator[None]:
    """Inside, a model is made ready. What goes wrong is UnsupportedModel or OutOfMemory.

    Either way the program could not start, and its exit status says so.
    """
    try:
        with failures_named(who):
            yield
    except OutOfMemory as error:
        error.exit_status = UnsupportedModel.exit_status
        raise
    except InferenceError as error:
        raise UnsupportedModel(str(error)) from error


def first_line(error: BaseException) -> str:
    """What a library says first, which is what happened; the pages after it are for its authors."""
    return said_by(error).splitlines()[0]
