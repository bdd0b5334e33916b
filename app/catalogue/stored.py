"""The collections of an object store and this server's copies of them: brought in line at its start, and followed.

The store says which collections there are (``app.replicas.listing``). A writer tells it of each that is made, deleted
or replaced before anybody sees that here; a reader looks, and does the same to its copies. A folder that the store has
never seen is put there at a writer's start, and none that has something of its own is removed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final, Literal
from uuid import uuid4

from app.catalogue.aliases import Aliases
from app.compute.background import Background, Job
from app.errors import Conflict, SheafError, StoreUnavailable
from app.objects.opening import open_objects
from app.objects.protocol import Objects
from app.replicas.files import forget_records
from app.replicas.following import fetch_copy
from app.replicas.listing import Collections, Listing, new_history, prefix_of
from app.replicas.position import Position, position_of
from app.replicas.replica import Replica
from app.replicas.writing import BaseNeeded, Writing
from app.replication.protocol import Writer
from app.replication.reader import open_reader
from app.replication.writer import claim
from app.store import folders
from app.store.database import Database
from app.store.directory import Directory
from app.store.faults import reach
from app.types import Standing

log = logging.getLogger(__name__)

Exchange = Callable[[str, str | None], None]
"""Gives the name of a copy to another folder, or to none."""

LOOK_S: Final = 1.0
"""From one look of a reader at the listing to the next."""
KEPT_S: Final = 900.0
"""How long the objects of a deleted collection stay: a reader may be just fetching it."""


class StoredHomes:
    """Of one server; safe from any thread."""

    def __init__(self, url: str, role: Literal["writer", "reader"], root: Directory, note: str) -> None:
        """root: the folder of the copies. note: who this server is, for whoever is told of it. Raises Invalid for an
        address that cannot be, or lacks its library."""
        self.url, self.role, self._root, self._note = url.rstrip("/"), role, root, note
        self.collections = Collections(open_objects(self.url))
        self._job: Job | None = None
        self._told = False
        self._listing: Listing | None = None
        self._histories: dict[str, str] = {}
        """Of the copies that are here, by name."""
        self._copies: dict[str, Replica] = {}

    @property
    def writes(self) -> bool:
        return self.role == "writer"

    def standings(self) -> dict[str, Standing]:
        return {name: copy.standing for name, copy in list(self._copies.items()) if not copy.closed}

    def require_writes(self) -> None:
        """Raises Conflict on a reader."""
        if not self.writes:
            raise Conflict(
                f"this server is a reader of {self.url}: send what changes collections to the server that writes them "
                "(SHEAF_ROLE=writer)",
                code="server_is_reader",
            )

    def open(self, name: str) -> Replica:
        history = self._history_of(name)
        if self._replaced(name, history):
            self._refetch(name, history)
        replica = self._replica(name, history)
        try:
            replica.catch_up()
        except BaseNeeded:
            # Older than what the log still has, and with nothing of its own.
            self._refetch(name, history)
            replica = self._replica(name, history)
            replica.catch_up()
        self._histories[name], self._copies[name] = history, replica
        # A history that no collection has: at the next look another copy is fetched.
        replica.on_stale = partial(self._stale, name)
        return replica

    def _stale(self, name: str) -> None:
        self._histories[name] = ""
        if self._job is not None:
            self._job.wake()

    def _replaced(self, name: str, history: str) -> bool:
        """Whether the copy is of a history that had the name before, and has nothing of its own."""
        position, commits = self._position(name)
        if position is None or position.history == history or position.commits != commits or self._listing is None:
            return False
        return not self.writes or position.history in self._listing.gone

    def _refetch(self, name: str, history: str) -> None:
        old = folders.put_in_place(self._root, self._fetched(name, history), name)
        if old is not None:
            folders.discard(self._root, old)

    def _replica(self, name: str, history: str) -> Replica:
        files = self._root.folder(name)
        return Replica(files, name, self._objects(history), history, writes=self.writes, note=self._note)

    def _history_of(self, name: str) -> str:
        listing = self._listing
        if listing is None:
            position, _ = self._position(name)
            if position is None:
                raise StoreUnavailable(f"whether {self.url} has a collection {name} is not known yet: try again")
            return position.history
        if (history := listing.histories.get(name)) is not None:
            return history
        raise StoreUnavailable(f"collection {name} is not in {self.url} yet: it is put there at the next start")

    def _position(self, name: str) -> tuple[Position | None, int]:
        with closing(Database(self._root.folder(name).path, name)) as database:
            return position_of(database)

    def _objects(self, history: str) -> Objects:
        return open_objects(f"{self.url}/{prefix_of(history)}")

    # A writer's changes

    def _adopt(self, name: str, files: Directory, former: str | None) -> None:
        """Puts a whole collection, which nobody has open, into the store under a name. former: the history that has it.

        Raises Conflict where another server has given the name away, StoreUnavailable.
        """
        history = new_history(name)
        with closing(Database(files.path, name)) as database, database.write() as txn:
            forget_records(txn)
        Writing(files, name, self._objects(history), history, partial(self._claim, history)).adopt()
        reach("history.put")

        def named(now: Listing) -> Listing:
            if name in now.aliases or now.histories.get(name) != former:
                raise folders.taken(name)
            return now.named(name, history)

        self._listing = self.collections.change(named)

    def _claim(self, history: str) -> Writer:
        return claim(self._objects(history), lambda base: None, note=self._note)

    @contextmanager
    def housed(self, name: str, files: Directory | None) -> Iterator[None]:
        self.require_writes()
        former = (self._listing or self.collections.read()).histories.get(name)
        if former is not None and self._histories.get(name) != former:
            raise Conflict(
                f"the folder {name} here is not the collection of that name in {self.url}: move it out of "
                "SHEAF_INDEXES, start again, and repeat it",
                code="copy_diverged",
            )
        if files is None:
            self._listing = self.collections.change(lambda now: now.without(name))
        else:
            self._adopt(name, files, former)
        reach("history.named")
        try:
            yield
        except BaseException:
            with suppress(SheafError):
                self._listing = self.collections.change(
                    lambda now: now.without(name) if former is None else now.named(name, former)
                )
            raise

    def publish(self, aliases: Mapping[str, str]) -> None:
        """Raises Conflict on a reader, StoreUnavailable."""
        self.require_writes()
        self._listing = self.collections.change(
            lambda now: replace(now, aliases={a: name for a, name in aliases.items() if name in now.histories})
        )

    # The start

    def begin(self, aliases: Aliases, closed: Callable[[], bool]) -> None:
        while not closed():
            try:
                self._begin(aliases)
                return
            except StoreUnavailable as error:
                if self.writes or folders.names(self._root):
                    log.error("collections are opened as they were last here: %s", error.message)
                    return
                # It has nothing to serve, so it is not ready.
                log.error("a reader without copies waits for the store: %s", error.message)
                time.sleep(LOOK_S)

    def _begin(self, aliases: Aliases) -> None:
        listing = self._listing = self.collections.read()
        own = {alias: name for alias, name in aliases.all().items() if name not in listing.histories}
        for name in folders.names(self._root):
            if name not in listing.histories:
                self._settle(name, listing)
        for name, history in self._listing.histories.items():
            if not folders.holds(self._root, name):
                self._root.publish(self._fetched(name, history), name)
                self._root.sync()
        if own and self.writes:
            self.publish({**own, **self._listing.aliases})
        aliases.adopt(self._listing.aliases)

    def _settle(self, name: str, listing: Listing) -> None:
        """A folder whose name the store does not have."""
        try:
            position, commits = self._position(name)
            if position is not None and position.history in listing.gone and position.commits == commits:
                log.warning("collection %s was deleted in the store, and is removed here", name)
                self._root.remove(folders.take_away(self._root, name))
            elif self.writes:
                log.info("collection %s is put into the store for the first time", name)
                self._adopt(name, self._root.folder(name), None)
            else:
                log.warning("collection %s is not in the store: a reader does not serve it", name)
        except StoreUnavailable:
            raise
        except SheafError as error:
            log.error("collection %s is not put into the store: %s", name, error.message)

    def _fetched(self, name: str, history: str) -> str:
        """A whole copy beside the others, without its name."""
        staged = self._root.folder(f".restoring-{name}-{uuid4().hex}")
        try:
            fetch_copy(staged, name, self._objects(history), history, partial(open_reader, self._objects(history)))
        except BaseException:
            self._root.remove(staged.name)
            raise
        reach("copy.fetched")
        return staged.name

    # In the background

    def start(self, lanes: Background, exchange: Exchange, aliases: Aliases) -> None:
        step = partial(self._tend, exchange, aliases) if self.writes else partial(self._look, exchange, aliases)
        self._job = lanes.job("following", f"collections of {self.url}", partial(self._patiently, step))
        self._job.wake()

    def stop(self) -> None:
        if self._job is not None:
            self._job.stop()
            self._job.join()

    def _patiently(self, step: Callable[[], float]) -> float:
        try:
            after = step()
        except StoreUnavailable as error:
            # Tried again at once when it is back: the background's own pauses grow.
            if not self._told:
                log.warning("%s", error.message)
            self._told = True
            return 2 * LOOK_S
        self._told = False
        return after

    def _look(self, exchange: Exchange, aliases: Aliases) -> float:
        """A reader brings its copies in line once more."""
        now = self._listing = self.collections.read()
        here = folders.names(self._root)
        for name, history in now.histories.items():
            if name not in here or self._histories.get(name, history) != history:
                exchange(name, self._fetched(name, history))
        for name in here:
            if name not in now.histories and self._histories.pop(name, None) is not None:
                exchange(name, None)
        aliases.adopt(now.aliases)
        return LOOK_S

    def _tend(self, exchange: Exchange, aliases: Aliases) -> float:
        """A writer comes to know the store, where it was not reached at the start, and removes what is left of deleted
        collections."""
        if self._listing is None:
            self._begin(aliases)
        for name, history in (self._listing.histories if self._listing else {}).items():
            if self._histories.get(name) == "":
                exchange(name, self._fetched(name, history))
        late = time.time() - KEPT_S
        for history, when in self.collections.read().gone.items():
            if 0 < when < late:
                objects = self._objects(history)
                objects.remove([one.name for one in objects.list("")])
                self._listing = self.collections.change(partial(_emptied, history))
        return KEPT_S


def _emptied(history: str, now: Listing) -> Listing:
    return replace(now, gone={**now.gone, **({history: 0.0} if history in now.gone else {})})
