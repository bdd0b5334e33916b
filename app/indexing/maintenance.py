"""The background of one collection.

The tail is sealed when it is large, segments are merged when they are many, the first stage is learned when it is due.
A job that makes or replaces segments may make another due: so whenever it ends, here is looked at what is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from app.collection.collection import Collection
from app.compute import background
from app.compute.background import Background
from app.indexing.causal import learn_causal
from app.indexing.fitting import learn_if_due
from app.indexing.newcomers import seal_known, unknown
from app.indexing.sealing import merge, merge_due, seal, seal_due

LANES: Final = ("indexing", "merging", "learning")


class _Stopped(Exception):
    pass


class Maintenance:
    """Three jobs, so that a merge or a fit of minutes keeps no tail from being sealed: of other collections their lanes
    are apart, and of this one both seal it when it is due."""

    def __init__(self, collection: Collection, lanes: Background) -> None:
        self._collection = collection
        steps = (self._seal, self._merge, self._learn)
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
        sealing, merging, _ = self.jobs
        if seal_due(self._collection):
            sealing.wake()
        # A deletion too may leave a segment with rows that only a merge reclaims.
        if merge_due(self._collection):
            merging.wake()

    def _seal(self) -> float | None:
        return self._made(lambda: seal_due(self._collection), lambda: seal_known(self._collection, self._check))

    def _merge(self) -> float | None:
        return self._made(lambda: bool(merge_due(self._collection)), lambda: merge(self._collection, self._between))

    def _made(self, due: Callable[[], bool], make: Callable[[], bool]) -> float | None:
        if self._collection.salvaged:
            return None
        if not self._collection.take_over():
            return background.RETRY_S
        if not due():
            return None
        with self._collection.structure.attempt() as mine:
            # The present holder wakes this job at its end.
            if not mine:
                return None
            try:
                return 0.0 if make() else None
            except _Stopped:
                return None

    def _between(self) -> None:
        """Between two pieces of a merge: the tail does not wait for its end. What the learned stage does not know
        does, for a fit has to come first."""
        self._check()
        if seal_due(self._collection) and not unknown(self._collection):
            seal(self._collection, self._check)

    def _learn(self) -> float | None:
        if self._collection.salvaged or not self._collection.is_writer or self._collection.structure.taken:
            return None
        try:
            # Of a write that was killed before it could.
            return 0.0 if learn_causal(self._collection) or learn_if_due(self._collection, self._check) else None
        except _Stopped:
            return None

    def _check(self) -> None:
        if any(job.stopping for job in self.jobs):
            raise _Stopped
