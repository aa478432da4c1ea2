"""Where what takes long to make is kept from one start to the next."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """A folder of the user's cache, which may not be there yet."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "framewire" / kind
