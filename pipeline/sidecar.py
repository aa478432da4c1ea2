"""Class names in a file of their own, beside a model's file that holds none."""

from pathlib import Path

from contracts.errors import WeightsUnreadable


def sidecar_of(path: Path) -> Path:
    """Where the class names lie, when the file doesn't hold them."""
    return path.with_name(path.name + ".labels.txt")


def sidecar_names(path: Path) -> tuple[str, ...] | None:
    """The names in `FILE.labels.txt`, UTF-8, one a line; None where there is no such file.

    Raises WeightsUnreadable where it can't be read.
    """
    sidecar = sidecar_of(path)
    try:
        # Some editors begin a UTF-8 file with a byte-order mark, which is no part of a name.
        return tuple(sidecar.read_text(encoding="utf-8-sig").splitlines())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WeightsUnreadable(f"class names {sidecar}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WeightsUnreadable(f"class names {sidecar}: expected UTF-8: {error}") from error
