"""An open collection, with what runs for it in the background."""

from __future__ import annotations

from dataclasses import dataclass

from app.collection.collection import Collection
from app.indexing.maintenance import Maintenance
from app.tasks.tasks import Tasks


@dataclass(slots=True)
class Opened:
    """For as long as the collection is in the catalogue."""

    collection: Collection
    tasks: Tasks
    maintenance: Maintenance | None = None
    """None where nothing runs in the background."""

    def begin(self) -> None:
        """What runs in the background."""
        if self.maintenance is not None:
            self.tasks.start()
            self.maintenance.start()

    def stop(self) -> None:
        self.tasks.stop()
        if self.maintenance is not None:
            self.maintenance.stop()

    def close(self) -> None:
        self.stop()
        self.collection.close()
