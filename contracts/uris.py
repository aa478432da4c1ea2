"""How a source's URI may be shown: without what opens the door."""

import re


def without_credentials(uri: str) -> str:
    """The URI as it may be shown: `rtsp://user:secret@host/door` is `rtsp://host/door`.

    Cuts at the last @ before the path, so that an @ in a password takes nothing of it along.
    """
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*@", r"\1", uri)
