"""The background of one collection.

The tail is sealed when it is large, segments are merged when they are many, the first stage is learned when it is due.
A job that makes or replaces segments may make another due: so whenever it ends, here is looked at what is.
"""

from __future__ import annotations

from typing import Final

from app.collection.collection import Collection
from app.compute import background
from app.compute.background import Background
from app.indexing.fitting import learn_if_due
from app.indexing.newcomers import seal_known
from app.indexing.sealing import merge, merge_due, seal_due

LANES: Final = ("indexing", "learning")


class _Stopped(Exception):
    pass


class Maintenance:
    """Two jobs, so that a fit of minutes keeps no tail from being sealed."""

    def __init__(self, collection: Collection, lanes: Background) -> None:
        self._collection = collection
        steps = (self._index, self._learn)
        self.jobs = [
            lanes.job(lane, f"{lane} of collection {collection.name}", step)
            for lane, step in zip(LANES, steps, strict=True)
        ]

    def start(self) -> None:
        self._collection.on_write = self._written
        self._collection.structure.freed = self.wake
        self.wake()

    def wake(self) -> None:
        """Something may be due."""
        for job in self.jobs:
            job.wake()

    def _written(self) -> None:
        # A deletion too: it may leave a segment with rows that only a merge reclaims.
        if self._due():
            self.jobs[0].wake()

    def _due(self) -> bool:
        return seal_due(self._collection) or bool(merge_due(self._collection))

    def _index(self) -> float | None:
        if self._collection.salvaged:
            return None
        if not self._collection.take_over():
            return background.RETRY_S
        if not self._due():
            return None
        with self._collection.structure.attempt() as mine:
            # The present holder wakes this job at its end.
            if not mine:
                return None
            try:
                done = seal_known(self._collection, self._check) if seal_due(self._collection) else False
                done = done or merge(self._collection, self._check)
            except _Stopped:
                return None
        return 0.0 if done else None

    def _learn(self) -> float | None:
        if self._collection.salvaged or not self._collection.is_writer or self._collection.structure.taken:
            return None
        try:
            return 0.0 if learn_if_due(self._collection, self._check) else None
        except _Stopped:
            return None

    def _check(self) -> None:
        if any(job.stopping for job in self.jobs):
            raise _Stopped
