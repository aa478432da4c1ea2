"""What the HTTP service needs of the process that it serves."""

from typing import Protocol

from contracts.messages import Models, Status
from contracts.serve import ServeSettings
from contracts.settings import SourceSettings
from contracts.upload import Upload


class Service(Protocol):
    """Everything may be called by any thread, and none of it waits."""

    @property
    def settings(self) -> ServeSettings:
        """How it is to be served."""
        ...

    @property
    def max_pixels(self) -> int:
        """Of one picture."""
        ...

    @property
    def max_detections(self) -> int:
        """Of one picture, where a request doesn't ask for fewer."""
        ...

    @property
    def masks(self) -> bool:
        """Whether the detector makes them."""
        ...

    def models(self) -> Models:
        """Which weights speak."""
        ...

    def status(self) -> Status:
        """The whole process at this moment."""
        ...

    def announce(self) -> None:
        """A picture is on its way: then `offer` it, or `withdraw`."""
        ...

    def withdraw(self) -> None:
        """One that was announced will not come."""
        ...

    def offer(self, upload: Upload) -> None:
        """One that was announced waits for the models. Raises Overloaded."""
        ...

    def add(self, source: SourceSettings) -> None:
        """Its frames are read from now on. Raises BadSetting, SourceNotFound."""
        ...

    def pause(self, source_id: str) -> None:
        """Nothing of it is looked at. Raises BadSetting where there is none of this name."""
        ...

    def resume(self, source_id: str) -> None:
        """It is looked at again. Raises BadSetting where there is none of this name."""
        ...

    def remove(self, source_id: str) -> None:
        """It ends, and is forgotten. Raises BadSetting where there is none of this name."""
        ...
