"""One collection of a store, as this server has it: written here and put there first, or followed.

It begins as the server's role says. A writer that another server has taken over from becomes a follower, for good: the
operator started two, and the later one has it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Final

from app.collection.collection import Collection
from app.compute.background import Background, Job
from app.errors import Conflict, Fenced, StoreUnavailable, SystemFault
from app.objects.protocol import Objects
from app.replicas.applying import Coming, nobody
from app.replicas.cache import cache_of
from app.replicas.fetching import know
from app.replicas.files import stored
from app.replicas.following import Fetched, Following, let_go
from app.replicas.writing import BaseNeeded, Writing
from app.replication.protocol import Writer
from app.replication.reader import open_reader
from app.store.database import Database
from app.store.directory import Directory
from app.store.layout import WRITER_LOCK
from app.types import Standing

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""From one look at the log to the next."""
LOOK_S: Final = 5.0
"""From one look of a writer at whether it still is, to the next: one that writes nothing is told by nothing else."""
CLAIM_S: Final = 2.0
"""From one attempt at a store that cannot be reached to the next."""


class Replica:
    """From ``catch_up`` to ``close``."""

    def __init__(
        self,
        files: Directory,
        name: str,
        objects: Objects,
        history: str,
        claim: Callable[[], Writer],
        *,
        writes: bool,
        fenced: bool = False,
        fetched: Fetched | None = None,
        coming: Coming = nobody,
    ) -> None:
        """objects: of the history alone. claim: makes this server its writer. fenced: whether another server has become
        that since this one started. fetched: as ``Following`` has it. coming: see ``advance``; told once the collection
        is open."""
        self.name, self.history, self._files, self._objects = name, history, files, objects
        self._writing = Writing(files, name, objects, history, claim)
        self._writing.fenced = fenced
        if fetched is not None and writes and not fenced:
            let_go(fetched)
            fetched = None
        opening = partial(open_reader, objects)
        self._coming = coming
        self._following = Following(files, name, objects, history, opening, self._is_stopped, fetched, self._expect)
        self._writes = writes
        self._collection: Collection | None = None
        self.jobs: list[Job] = []
        self.closed = self._told = False
        self.on_applied: Callable[[], None] = lambda: None
        self.on_stale: Callable[[], None] = lambda: None
        """Told when the copy is to be fetched anew."""

    def catch_up(self) -> None:
        """Brings the copy up to the store's state, before the collection is opened. What cannot be reached is caught up
        with later: a reader serves what it has, a writer refuses writes until then.

        Raises Diverged, BaseNeeded, Conflict, Damaged, StorageFull.
        """
        for name in self._files.list():
            if name.startswith(".base-"):
                self._files.remove(name)
        if (cache := cache_of(self._files)) is not None:
            cache.forget(self._files.path)
            with closing(Database(self._files.path, self.name)) as database, database.read() as connection:
                know(self._files, stored(connection, self.name), self._objects)
        try:
            if not self._writes or self._writing.fenced:
                self._following.hold()
                # What was just fetched is followed in the background from here on.
                if not self._following.reached:
                    self._following.step()
                return
            lock = self._files.lock(WRITER_LOCK)
            if not lock.acquire():
                raise SystemFault(
                    f"another process writes the copy of collection {self.name}: it is opened after its end"
                )
            try:
                self._writing.claim()
            finally:
                lock.release()
        except StoreUnavailable as error:
            log.warning("collection %s is opened as it was last here: %s", self.name, error.message)
        except BaseException:
            self.close()
            raise

    def attach(self, collection: Collection) -> None:
        """To the collection that was opened over the copy."""
        self._collection = collection
        collection.refusal = self.refusal
        if self._writes and not self._writing.fenced:
            collection.database.home = self._writing
            if not self._writing.claimed:
                collection.suspect()

    def start(self, lanes: Background) -> None:
        self.jobs = [lanes.job("following", f"store of collection {self.name}", self._step)]
        self._writing.on_due = self.jobs[0].wake
        self.jobs[0].wake()

    def close(self) -> None:
        self.closed = True
        self._following.close()

    def refusal(self) -> Conflict | None:
        """Why nothing is written here; None where it is."""
        if not self._writes:
            return Conflict(
                f"this server is a reader of {self._objects.place}: send what changes collection {self.name} to the "
                "server that writes it (SHEAF_ROLE=writer)",
                code="server_is_reader",
            )
        return self._writing.refusal() if self._writing.fenced else None

    @property
    def standing(self) -> Standing:
        if self._writes and not self._writing.fenced:
            return Standing("writer", 0, 0.0)
        return Standing("reader", self._following.behind, self._following.age_s)

    def _expect(self, name: str, connection: sqlite3.Connection) -> None:
        # Before, whoever opens it would wait, and nobody searches what is older.
        if self._collection is not None:
            self._coming(name, connection)

    def _is_stopped(self) -> bool:
        return self.closed or any(job.stopping for job in self.jobs)

    def _still_writes(self) -> bool:
        """Makes a base where one is due; whether no other server has taken over."""
        with suppress(Fenced, Conflict):
            if self._writing.base_due:
                self._writing.rebase()
        with suppress(Conflict):
            self._writing.look()
        return not self._writing.fenced

    def _step(self) -> float | None:
        try:
            return self._moved()
        except StoreUnavailable as error:
            # Tried again at once when it is back: the background's own pauses grow.
            if not self._told:
                log.warning("collection %s: %s", self.name, error.message)
            self._told = True
            return CLAIM_S

    def _moved(self) -> float | None:
        """One step; when the next is due."""
        collection = self._collection
        assert collection is not None
        if self._writes and not self._writing.fenced:
            if not self._writing.claimed:
                try:
                    collection.follow()
                except StoreUnavailable:
                    if not self._writing.stale:
                        raise
                    self.on_stale()
                    return None
                if not self._writing.claimed:
                    return CLAIM_S
                self._told = False
            if self._still_writes():
                self._told = False
                return LOOK_S
        if not self._following.lock.held:
            collection.hand_over(self._following.lock)
        try:
            if self._following.step():
                collection.follow()
                self.on_applied()
            self._told = False
        except BaseNeeded:
            self.on_stale()
            return None
        return POLL_S
