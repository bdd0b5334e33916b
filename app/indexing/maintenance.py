"""The background of one collection.

The tail is sealed when it is large, segments are merged when they are many, the first stage is learned when it is due.
"""

from __future__ import annotations

import logging
import sqlite3
import threading

from app.collection.collection import Collection
from app.errors import Damaged, SheafError, StorageFull, StoreError, SystemFault
from app.indexing.fitting import learn_if_due
from app.indexing.newcomers import seal_known
from app.indexing.sealing import merge, merge_due, seal_due

log = logging.getLogger(__name__)

RETRY_S = 30.0
"""How long to wait after the disk was full, or did not give what was written."""


class _Stopped(Exception):
    pass


class Maintenance:
    """One thread. ``error`` is what stopped its last attempt, for the collection's description."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"index-{collection.name}", daemon=True)
        self.error: SheafError | None = None

    def start(self) -> None:
        self._collection.on_write = self._written
        self._wake.set()
        self._thread.start()

    def stop(self) -> None:
        """Gives up what it makes, which nothing names yet, and waits for the thread."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _written(self) -> None:
        # A deletion too: it may leave a segment with rows that only a merge reclaims.
        if seal_due(self._collection) or merge_due(self._collection):
            self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                while not self._stopping.is_set() and self._step():
                    pass
                self.error = None
            except _Stopped:
                return
            except (StorageFull, SystemFault, Damaged) as error:
                # A full disk may have room again, and a rebuild heals a damaged segment.
                log.warning("collection %s: %s", self._collection.name, error)
                self.error = error
                self._stopping.wait(RETRY_S)
                self._wake.set()
            except (OSError, sqlite3.Error) as error:
                log.warning("collection %s: %s", self._collection.name, error)
                self.error = StoreError(f"the disk refuses what is made in the background: {error}")
                self._stopping.wait(RETRY_S)
                self._wake.set()
            except SheafError as error:
                log.warning("collection %s: %s", self._collection.name, error)
                self.error = error

    def _step(self) -> bool:
        if self._collection.salvaged:
            return False
        if seal_due(self._collection):
            return seal_known(self._collection, self._check)
        if merge(self._collection, self._check):
            return True
        return self._collection.is_writer and learn_if_due(self._collection, self._check)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _Stopped
