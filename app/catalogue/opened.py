"""An open collection, with what runs for it in the background."""

from __future__ import annotations

from dataclasses import dataclass

from app.collection.collection import Collection
from app.compute.background import Background, Job
from app.indexing.maintenance import Maintenance
from app.tasks.tasks import Tasks


@dataclass(slots=True)
class Opened:
    """For as long as the collection is in the catalogue."""

    collection: Collection
    tasks: Tasks
    maintenance: Maintenance | None = None
    """None where nothing runs in the background."""

    def begin(self, lanes: Background) -> None:
        """The background work of the collection."""
        if self.maintenance is not None:
            self.collection.on_taken_over = self._taken_over
            self.tasks.start(lanes)
            self.maintenance.start()

    @property
    def error(self) -> str | None:
        """Why the last attempt of some background work failed."""
        return next((job.error for job in self._jobs if job.error is not None), None)

    def stop(self) -> None:
        """Nothing further is begun, and what runs gives up at its next batch."""
        for job in self._jobs:
            job.stop()

    def join(self) -> None:
        """Waits, after ``stop``, for what still runs."""
        for job in self._jobs:
            job.join()

    def close(self) -> None:
        """Waits for no more than a write: what still runs can change nothing any more, and gives up."""
        self.stop()
        self.collection.close()

    @property
    def _jobs(self) -> list[Job]:
        return [*self.tasks.jobs, *(() if self.maintenance is None else self.maintenance.jobs)]

    def _taken_over(self) -> None:
        self.tasks.taken_over()
        if self.maintenance is not None:
            self.maintenance.wake()
