"""A reader's side: the local copy of a collection follows the log, and nobody writes it but the log.

It holds the writer's lock of the copy, so everything above sees another process's writer, and follows as it always
does. Files are fetched whole before the commit that names them is applied.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from app.errors import ReaderBehind, SystemFault
from app.objects.protocol import Objects
from app.replicas.applying import advance, install
from app.replicas.files import stored, sweep
from app.replicas.position import position_of
from app.replicas.writing import hold_to
from app.replication.protocol import Commit, Reader, Stored
from app.store.database import Database
from app.store.directory import Directory
from app.store.layout import WRITER_LOCK

Open = Callable[[Callable[[Stored | None], object]], Reader]
"""Opens the log; told what reads its base."""

NEVER: Final = -1.0


class Following:
    """Of one collection, whose copy is there; to ``close``. Safe from any thread."""

    def __init__(self, files: Directory, name: str, objects: Objects, history: str, open_log: Open) -> None:
        self._files, self._name, self._objects, self._history = files, name, objects, history
        self._open_log = open_log
        self.lock = files.lock(WRITER_LOCK)
        self._reader: Reader | None = None
        self._database: Database | None = None
        self._reached = NEVER
        self._lock = threading.Lock()
        """Held for a step."""
        self.behind = 0
        """Commits that were seen in the store and are not here yet."""

    @property
    def age_s(self) -> float | None:
        """How long ago the copy had all that was in the store; None: not since the start."""
        return None if self._reached == NEVER else time.monotonic() - self._reached

    def hold(self) -> None:
        """Takes the copy's lock. Raises SystemFault where another process has it."""
        if not self.lock.acquire():
            raise SystemFault(f"another process writes the copy of collection {self._name}: wait for its end")

    def step(self) -> int:
        """Applies what is new; how many commits that were. Raises BaseNeeded, Diverged, StoreUnavailable, Damaged."""
        with self._lock:
            if not self.lock.held:
                return 0
            if self._database is None:
                self._database = Database(self._files.path, self._name)
            started = time.monotonic()
            left = self._new(self._database)
            self.behind = len(left)
            try:
                advance(self._files, self._database, self._objects, self._history, left)
            except BaseException:
                # What was read is to be read again.
                self._leave()
                raise
            self.behind, self._reached = 0, started
            if left and self._reader is not None:
                self._reader.hold(left[-1].number)
            return len(left)

    def close(self) -> None:
        """After the step that is under way."""
        with self._lock:
            self._leave()
            if self._database is not None:
                self._database.close()
                self._database = None
            self.lock.release()

    def _new(self, database: Database) -> list[Commit]:
        """Commits that the copy lacks."""
        if self._reader is not None:
            try:
                return self._reader.poll()
            except ReaderBehind:
                self._leave()
        return self._opened(database)

    def _opened(self, database: Database) -> list[Commit]:
        reader = self._open_log(lambda base: None)
        try:
            position, commits = position_of(database)
            left = hold_to(self._name, position, reader.opened, self._history, commits)
            with database.read() as connection:
                sweep(self._files, stored(connection, self._name))
        except BaseException:
            reader.close()
            raise
        reader.took()
        self._reader = reader
        return left

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def fetch_copy(files: Directory, name: str, objects: Objects, history: str, open_log: Open) -> None:
    """A whole copy in an empty folder, at the log's latest state. Raises StoreUnavailable, StorageFull, Damaged."""
    reader = open_log(lambda base: None)
    try:
        opened = reader.opened
        assert opened.base is not None, "a collection is listed once it has a base"
        install(files, name, objects, history, opened.base, opened.number, opened.chain)
        with closing(Database(files.path, name)) as database:
            advance(files, database, objects, history, opened.commits)
    finally:
        reader.close()
