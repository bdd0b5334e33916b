"""A reader's side: the local copy of a collection follows the log, and nobody writes it but the log.

It holds the writer's lock of the copy, so everything above sees another process's writer, and follows as it always
does. Files are fetched whole before the commit that names them is applied.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Final, NamedTuple

from app.errors import Closed, ObjectMissing, ReaderBehind, SheafError, StoreUnavailable, SystemFault
from app.objects.protocol import Objects
from app.replicas.applying import Coming, advance, begin, install, nobody
from app.replicas.files import finished, stored, sweep
from app.replicas.position import position_of
from app.replicas.writing import hold_to
from app.replication.protocol import Commit, Reader, Stored
from app.store.database import Database
from app.store.directory import Directory
from app.store.layout import WRITER_LOCK

log = logging.getLogger(__name__)

Open = Callable[[Callable[[Stored | None], object]], Reader]
"""Opens the log; told what reads its base."""

NEVER: Final = -1.0


class Fetched(NamedTuple):
    """A whole copy was brought: the log's reader, which stands where the copy does, and when (``time.monotonic``)."""

    reader: Reader
    at: float


_GIVE_BACK_S: Final = 1.0
"""How long is waited at most until a lease is given back: it ends by itself."""


class Following:
    """Of one collection, whose copy is there; to ``close``. Safe from any thread."""

    def __init__(
        self,
        files: Directory,
        name: str,
        objects: Objects,
        history: str,
        open_log: Open,
        stopped: Callable[[], bool] = lambda: False,
        fetched: Fetched | None = None,
        coming: Coming = nobody,
    ) -> None:
        """stopped: whether the step that is under way is to give up. fetched: how the copy was brought, where that was
        just now; it is this one's from here on. coming: see ``advance``."""
        self._stopped, self._coming = stopped, coming
        self._files, self._name, self._objects, self._history = files, name, objects, history
        self._open_log = open_log
        self.lock = files.lock(WRITER_LOCK)
        self._reader: Reader | None = None if fetched is None else fetched.reader
        self._database: Database | None = None
        self._reached = NEVER if fetched is None else fetched.at
        self._away = False
        """Whether the store could not be reached the last time."""
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

    @property
    def reached(self) -> bool:
        """Whether the copy has had all that was in the store, since the start."""
        return self._reached != NEVER

    def step(self) -> int:
        """Applies what is new; how many commits that were. Raises BaseNeeded, Diverged, StoreUnavailable, Damaged,
        Closed where it was stopped."""
        with self._lock:
            if not self.lock.held:
                return 0
            if self._database is None:
                self._database = Database(self._files.path, self._name)
            try:
                applied = self._stepped(self._database)
            except StoreUnavailable:
                self._away = True
                raise
            self._away = False
            return applied

    def close(self) -> None:
        """After the step that is under way."""
        with self._lock:
            try:
                self._leave()
                if self._database is not None:
                    self._database.close()
                    self._database = None
            finally:
                self.lock.release()

    def _stepped(self, database: Database) -> int:
        started = time.monotonic()
        left = self._new(database)
        self.behind = len(left)
        reader = self._reader
        try:
            between = partial(_renew, reader, self._stopped)
            advance(self._files, database, self._objects, self._history, left, between, self._coming)
        except BaseException as error:
            # What was read is to be read again: the reader has passed it.
            self._away = isinstance(error, StoreUnavailable)
            self._leave()
            raise
        self.behind, self._reached = 0, started
        if left and reader is not None:
            # The next look at the log tells, if that is not known by now.
            with suppress(StoreUnavailable, ReaderBehind):
                reader.hold(left[-1].number)
        return len(left)

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
            _give_back(reader)
            raise
        reader.took()
        self._reader = reader
        return left

    def _leave(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not self._away:
            _give_back(reader)


def fetch_copy(
    files: Directory,
    name: str,
    objects: Objects,
    history: str,
    open_log: Open,
    stopped: Callable[[], bool] = lambda: False,
    coming: Coming = nobody,
) -> Fetched:
    """A whole copy in an empty folder, at the log's latest state, by three requests in a row: two of them open the log.
    stopped: whether it is to give up. coming: see ``advance``.

    Where the store goes away, or the log begins anew and what is needed is gone, it begins again with the files that
    are here, as long as each attempt brings some. Raises StoreUnavailable, StorageFull, Damaged, Closed where it was
    stopped.
    """
    had = -1
    while True:
        _renew(None, stopped)
        try:
            return _fetch_copy(files, name, objects, history, open_log, stopped, coming)
        except (StoreUnavailable, ObjectMissing, ReaderBehind) as error:
            have = finished(files)
            if have <= had or stopped():
                raise
            had = have
            log.warning("the copy of collection %s is begun again with %d files: %s", name, have, error.message)


def _fetch_copy(
    files: Directory,
    name: str,
    objects: Objects,
    history: str,
    open_log: Open,
    stopped: Callable[[], bool],
    coming: Coming,
) -> Fetched:
    at = time.monotonic()

    def fetch(base: Stored | None) -> None:
        assert base is not None, "a collection is listed once it has a base"
        begin(files, objects, base, partial(_renew, None, stopped))

    reader = open_log(fetch)
    try:
        opened, between = reader.opened, partial(_renew, reader, stopped)
        assert opened.base is not None
        install(files, name, history, opened.base, opened.number, opened.chain)
        with closing(Database(files.path, name)) as database:
            advance(files, database, objects, history, opened.commits, between, coming, whole=True)
            with database.read() as connection:
                sweep(files, stored(connection, name))
    except BaseException:
        _give_back(reader)
        raise
    reader.took()
    return Fetched(reader, at)


def let_go(fetched: Fetched) -> None:
    """Of one that nobody follows."""
    _give_back(fetched.reader)


def _renew(reader: Reader | None, stopped: Callable[[], bool]) -> None:
    """Between two pieces of what is fetched, which may take longer than a lease."""
    if stopped():
        raise Closed("what is fetched from the store is given up: the server ends")
    if reader is not None:
        reader.hold(0)


def _give_back(reader: Reader) -> None:
    """Without an error, and soon: a lease keeps garbage alone, and ends by itself."""

    def close() -> None:
        with suppress(SheafError):
            reader.close()

    thread = threading.Thread(target=close, name="lease", daemon=True)
    thread.start()
    thread.join(_GIVE_BACK_S)
