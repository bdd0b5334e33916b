"""An open collection, with what runs for it in the background."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from app.catalogue.homes import Copy
from app.collection.collection import Collection
from app.compute.background import Background, Job
from app.errors import SystemFault
from app.indexing.maintenance import Maintenance
from app.tasks.tasks import Tasks

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Opened:
    """For as long as the collection is in the catalogue."""

    collection: Collection
    tasks: Tasks
    maintenance: Maintenance | None = None
    """None where nothing runs in the background."""
    copy: Copy | None = None
    """None where its home is this disk."""

    def begin(self, lanes: Background) -> None:
        """The background work of the collection."""
        if self.maintenance is not None:
            self.collection.on_taken_over = self._taken_over
            self.tasks.start(lanes)
            self.maintenance.start()
        if self.copy is not None:
            self.copy.on_applied = self.tasks.refresh
            self.copy.start(lanes)

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
        self.end()

    def end(self) -> None:
        """Frees the collection, once nothing further is begun."""
        try:
            self.collection.close()
        finally:
            if self.copy is not None:
                self.copy.close()

    @property
    def _jobs(self) -> list[Job]:
        indexing = [] if self.maintenance is None else self.maintenance.jobs
        return [*self.tasks.jobs, *indexing, *([] if self.copy is None else self.copy.jobs)]

    def _taken_over(self) -> None:
        self.tasks.taken_over()
        if self.maintenance is not None:
            self.maintenance.wake()


def close_all(those: Sequence[Opened], at_end: ExitStack) -> None:
    """Adds what stops all of them, and then ends each."""
    for opened in those:
        at_end.callback(opened.end)
        at_end.callback(opened.join)
    for opened in those:
        at_end.callback(opened.stop)


def forget_queries(collection: Collection) -> None:
    """Removes the queries that were kept, where none are to be."""
    try:
        collection.queries.clear()
    except (OSError, SystemFault) as error:
        # Neither this collection nor the others that are being opened need them.
        log.warning("former queries of collection %s are not removed: %s", collection.name, error)
