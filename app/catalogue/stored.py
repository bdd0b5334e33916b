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
from functools import partial
from typing import Final, Literal
from uuid import uuid4

from app.catalogue.aliases import Aliases
from app.catalogue.listed import Listed, taken_over, undone
from app.compute.background import Background, Job
from app.errors import Conflict, NotFound, RequestError, SheafError, StoreUnavailable
from app.objects.opening import open_objects
from app.objects.protocol import Objects
from app.replicas.applying import Coming, nobody
from app.replicas.cache import cache_of
from app.replicas.files import forget_records
from app.replicas.following import Fetched, fetch_copy, let_go
from app.replicas.listing import Listing, collections_of, new_history, prefix_of
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
from app.store.folders import Exchange, Staged
from app.store.layout import PARTLY
from app.types import Standing

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""From one look of a reader at the listing to the next."""
TEND_S: Final = 10.0
"""The same of a writer, which finds there what another server that became the writer has changed."""
RETRY_S: Final = 30.0
"""From one attempt at a copy that cannot be had, for it is damaged or there is no room, to the next."""
_COPIES: Final = 4
"""Copies that are fetched at a time."""
KEPT_S: Final = 900.0
"""How long the objects of a deleted collection stay: a reader may be just fetching it."""


class StoredHomes:
    """Of one server; safe from any thread."""

    def __init__(self, url: str, role: Literal["writer", "reader"], root: Directory, note: str) -> None:
        """root: the folder of the copies. note: who this server is, for whoever is told of it. Raises Invalid for an
        address that cannot be, or lacks its library."""
        self.coming: Coming = nobody
        """Told of new segments before searches see them."""
        self.url, self.role, self._root, self._note = url.rstrip("/"), role, root, note
        self.listed = Listed(collections_of(open_objects(self.url), root, self.url))
        self._job: Job | None = None
        self._stopping = False
        """Whether what is being fetched is to be given up."""
        self._told = self._begun = False
        self._histories: dict[str, str] = {}
        """Of the copies that are here, by name."""
        self._copies: dict[str, Replica] = {}
        self._fetched_by: dict[str, Fetched] = {}
        """How copies were brought that nobody has opened yet, by history."""
        self._failed: dict[str, float] = {}
        """When a copy could not be had, by name."""

    @property
    def writes(self) -> bool:
        return self.role == "writer"

    def standings(self) -> dict[str, Standing]:
        return {name: copy.standing for name, copy in list(self._copies.items()) if not copy.closed}

    def is_copy(self, name: str) -> bool:
        copy = self._copies.get(name)
        return copy is not None and not copy.closed

    def require_writes(self) -> None:
        """Raises Conflict on a reader."""
        if not self.writes:
            raise Conflict(
                f"this server is a reader of {self.url}: send what changes collections to the server that writes them "
                "(SHEAF_ROLE=writer)",
                code="server_is_reader",
            )

    # Copies

    def open(self, name: str) -> Replica:
        if self.listed.now is None and self._begun:
            with suppress(StoreUnavailable):
                self.listed.read()
        history = self._history_of(name)
        files = self._root.folder(name)
        if self._replaced(name, history) or (files.has(PARTLY) and cache_of(files) is None):
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
        replica.on_stale = partial(self._stale, name)
        return replica

    def _stale(self, name: str) -> None:
        # A history that no collection has: at the next look another copy is fetched.
        self._histories[name] = ""
        self._wake()

    def _replaced(self, name: str, history: str) -> bool:
        """Whether the copy is of a history that had the name before, and has nothing of its own."""
        position, commits = self._position(name)
        if position is None or position.history == history or position.commits != commits:
            return False
        listing = self.listed.now
        return listing is not None and (not self.writes or position.history in listing.gone)

    def _refetch(self, name: str, history: str) -> None:
        old = folders.put_in_place(self._root, self._fetched(name, history), name)
        if old is not None:
            folders.discard(self._root, old)

    def _replica(self, name: str, history: str) -> Replica:
        files = self._root.folder(name)
        claiming = partial(self._claim, name, history)
        listing = self.listed.now
        fenced = self.writes and listing is not None and self.listed.is_anothers(history, listing)
        fetched = self._fetched_by.pop(history, None)
        return Replica(
            files,
            name,
            self._objects(history),
            history,
            claiming,
            writes=self.writes,
            fenced=fenced,
            fetched=fetched,
            coming=self.coming,
        )

    def _history_of(self, name: str) -> str:
        listing = self.listed.now
        if listing is None:
            position, _ = self._position(name)
            if position is None:
                raise StoreUnavailable(f"whether {self.url} has a collection {name} is not known yet: try again")
            return position.history
        if (history := listing.histories.get(name)) is not None:
            return history
        position, _ = self._position(name)
        if position is not None and position.history in listing.gone:
            raise StoreUnavailable(f"collection {name} was deleted in {self.url}, and goes here in a moment")
        raise StoreUnavailable(f"collection {name} is not in {self.url} yet: it is put there at the next start")

    def _position(self, name: str) -> tuple[Position | None, int]:
        with closing(Database(self._root.folder(name).path, name)) as database:
            return position_of(database)

    def _objects(self, history: str) -> Objects:
        return open_objects(f"{self.url}/{prefix_of(history)}")

    # A writer's changes

    def _adopt(self, name: str, files: Directory, former: str | None) -> str:
        """Puts a whole collection, which nobody has open, into the store under a name; its history. former: the history
        that has it.

        Raises Conflict where another server has given the name away, or has become its writer, StoreUnavailable.
        """
        history = new_history(name)
        with closing(Database(files.path, name)) as database, database.write() as txn:
            forget_records(txn)
        Writing(files, name, self._objects(history), history, partial(self._claim_log, history)).adopt()
        reach("history.put")

        def named(now: Listing) -> Listing:
            present = now.histories.get(name)
            if present == history:
                # Done before, and its answer was lost.
                return now
            if name in now.aliases or present != former:
                raise folders.taken(name)
            self.listed.require_own(name, former, now)
            return now.named(name, history, self.listed.server)

        self.listed.change(named)
        self.listed.claimed.add(history)
        return history

    def _claim(self, name: str, history: str) -> Writer:
        """Becomes the writer of a listed history. Raises StoreUnavailable where it is not listed any more, Conflict
        where another server has claimed it since this one started."""
        try:
            return self.listed.claim(name, history, partial(self._claim_log, history))
        except StoreUnavailable:
            self._wake()
            raise

    def _claim_log(self, history: str) -> Writer:
        return claim(self._objects(history), lambda base: None, note=self._note)

    def _wake(self) -> None:
        if self._job is not None:
            self._job.wake()

    @contextmanager
    def housed(self, name: str, files: Directory | None) -> Iterator[None]:
        self.require_writes()
        before = self.listed.read()
        former = before.histories.get(name)
        self._require_copy(name, former)
        self.listed.require_own(name, former, before)

        def gone(now: Listing) -> Listing:
            present = now.histories.get(name)
            if present is None:
                # Done before, and its answer was lost; or somebody else did it.
                return now
            if present != former:
                raise taken_over(name, self.url)
            self.listed.require_own(name, former, now)
            return now.without(name)

        put = None
        try:
            if files is None:
                self.listed.change(gone)
            else:
                put = self._adopt(name, files, former)
        except StoreUnavailable:
            # It may be done: then the copy is brought in line.
            self._wake()
            raise
        reach("history.named")
        try:
            yield
        except BaseException:
            with suppress(SheafError):
                self.listed.change(partial(undone, name, before, put))
            raise

    def _require_copy(self, name: str, history: str | None) -> None:
        """Raises Conflict where what the store has under a name is not what is here."""
        here = self._histories.get(name)
        if history is None or history == here:
            return
        if not folders.holds(self._root, name):
            raise folders.taken(name)
        if here is not None:
            raise taken_over(name, self.url)
        raise Conflict(
            f"the folder {name} here is not the collection of that name in {self.url}: move it out of "
            "SHEAF_INDEXES, start again, and repeat it",
            code="copy_diverged",
        )

    def publish(self, alias: str, collection: str | None) -> Mapping[str, str]:
        """Raises Conflict on a reader, and where a collection has the name; NotFound, StoreUnavailable."""
        self.require_writes()

        def changed(now: Listing) -> Listing:
            if collection is not None and alias in now.histories:
                raise folders.taken(alias)
            if collection is not None and collection not in now.histories:
                raise NotFound(f"there is no collection {collection!r} in {self.url}", code="collection_not_found")
            return now.with_alias(alias, collection)

        return self.listed.change(changed).aliases

    # The start

    def begin(self, aliases: Aliases, closed: Callable[[], bool]) -> None:
        while not closed():
            try:
                self._begin(aliases, self._place)
                return
            except SheafError as error:
                if self.writes or folders.names(self._root):
                    log.error("collections are opened as they were last here: %s", error.message)
                    return
                # It has nothing to serve, so it is not ready.
                log.error("a reader without copies waits for the store: %s", error.message)
                time.sleep(LOOK_S)

    def _begin(self, aliases: Aliases, exchange: Exchange) -> None:
        """Brings the folder in line. Raises StoreUnavailable, after all that could be had is here."""
        listing = self.listed.read()
        self.listed.take_over(listing)
        own = {alias: name for alias, name in aliases.all().items() if name not in listing.histories}
        for name in folders.names(self._root):
            if name not in listing.histories:
                self._settle(name, listing, exchange)
        for alias, name in own.items() if self.writes else ():
            with suppress(RequestError):
                if alias not in self.listed.known.aliases:
                    self.publish(alias, name)
        aliases.adopt(self.listed.known.aliases)
        self._align(exchange)
        self._begun = True

    def _place(self, name: str, staged: Staged, wanted: Callable[[], bool]) -> bool:
        """``Exchange``, while nothing is open."""
        if not wanted():
            return False
        old = folders.exchange(self._root, staged(), name)
        if old is not None:
            folders.discard(self._root, old)
        return True

    def _settle(self, name: str, listing: Listing, exchange: Exchange) -> None:
        """A folder whose name the store does not have."""

        def still() -> bool:
            return folders.holds(self._root, name) and name not in self.listed.known.histories

        def put() -> str:
            self._adopt(name, self._root.folder(name), None)
            return name

        try:
            position, commits = self._position(name)
            if position is not None and position.history in listing.gone and position.commits == commits:
                log.warning("collection %s was deleted in the store, and is removed here", name)
                exchange(name, lambda: None, still)
            elif self.writes:
                log.info("collection %s is put into the store for the first time", name)
                exchange(name, put, still)
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
            fetched = fetch_copy(
                staged,
                name,
                self._objects(history),
                history,
                partial(open_reader, self._objects(history)),
                lambda: self._stopping,
                self.coming if self._begun else nobody,
            )
        except BaseException:
            self._root.remove(staged.name)
            raise
        if (before := self._fetched_by.pop(history, None)) is not None:
            let_go(before)
        self._fetched_by[history] = fetched
        reach("copy.fetched")
        return staged.name

    # In the background

    def start(self, lanes: Background, exchange: Exchange, aliases: Aliases) -> None:
        step = partial(self._tend, exchange, aliases) if self.writes else partial(self._look, exchange, aliases)
        self._job = lanes.job("following", f"collections of {self.url}", partial(self._patiently, step))
        self._job.wake()

    def stop(self) -> None:
        self._stopping = True
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
        aliases.adopt(self.listed.read().aliases)
        self._align(exchange)
        return LOOK_S

    def _tend(self, exchange: Exchange, aliases: Aliases) -> float:
        """A writer comes to know the store, where it was not reached at the start; brings in line copies of what
        another server has changed; and removes what is left of deleted collections."""
        if self._begun:
            self.listed.read()
            self._align(exchange)
        else:
            self._begin(aliases, exchange)
        late = time.time() - KEPT_S
        listing = self.listed.known
        for history, when in listing.gone.items():
            if 0 < when < late and history not in listing.histories.values():
                objects = self._objects(history)
                objects.remove([one.name for one in objects.list("")])
                self.listed.change(lambda now, history=history: now.emptied(history))  # type: ignore[misc]
        if any(copy.standing.role == "reader" for copy in self._copies.values() if not copy.closed):
            # Another server is the writer of these.
            aliases.adopt(listing.aliases)
            return LOOK_S
        return TEND_S

    def _align(self, exchange: Exchange) -> None:
        """Fetches and removes copies as the listing has it, but for what has something of its own. One that cannot be
        had keeps no other waiting; raises StoreUnavailable after all of them."""
        away: StoreUnavailable | None = None
        wanted = dict(self.listed.known.histories)
        names = [
            name
            for name in sorted({*wanted, *folders.names(self._root)})
            if time.monotonic() - self._failed.get(name, -RETRY_S) >= RETRY_S
        ]
        lacking = [name for name in names if name in wanted and self._lacks(name, wanted[name])]
        staged = dict(zip(lacking, self._fetched_together({name: wanted[name] for name in lacking}), strict=True))
        for name in names:
            try:
                if name not in wanted:
                    exchange(name, partial(self._let_go, name, None), partial(self._is_gone, name))
                elif name in staged:
                    self._renew(name, wanted[name], staged[name], exchange)
                self._failed.pop(name, None)
            except StoreUnavailable as error:
                away = error
            except SheafError as error:
                log.error("the copy of collection %s is not brought in line: %s", name, error.message)
                self._failed[name] = time.monotonic()
        if away is not None:
            raise away

    def _fetched_together(self, histories: Mapping[str, str]) -> list[str | SheafError]:
        """Of each a copy, or why there is none; a few at a time, for each has many files that come at a time."""

        def one(name: str, history: str) -> str | SheafError:
            try:
                return self._fetched(name, history)
            except SheafError as error:
                return error

        calls = [partial(one, name, history) for name, history in histories.items()]
        together = self.listed.collections.objects.together
        return [each for at in range(0, len(calls), _COPIES) for each in together(calls[at : at + _COPIES])]

    def _renew(self, name: str, history: str, staged: str | SheafError, exchange: Exchange) -> None:
        if isinstance(staged, SheafError):
            raise staged
        used = False
        try:
            used = exchange(name, partial(self._let_go, name, staged), partial(self._lacks, name, history))
        finally:
            if not used and self._root.has(staged):
                folders.discard(self._root, staged)

    def _let_go(self, name: str, staged: str | None) -> str | None:
        self._histories.pop(name, None)
        if (cache := cache_of(self._root)) is not None:
            cache.forget(self._root.folder(name).path)
        return staged

    def _lacks(self, name: str, history: str) -> bool:
        """Whether the copy of a name is not of the history that has it now, or there is none."""
        if self.listed.now is None or self.listed.now.histories.get(name) != history:
            return False
        if not folders.holds(self._root, name):
            return True
        here = self._histories.get(name, history)
        return here != history and (not self.writes or self._has_nothing_own(name))

    def _is_gone(self, name: str) -> bool:
        """Whether a copy that was served is of a collection that the store has no more."""
        if self.listed.now is None or name in self.listed.now.histories or name not in self._histories:
            return False
        return folders.holds(self._root, name) and (not self.writes or self._has_nothing_own(name, deleted=True))

    def _has_nothing_own(self, name: str, *, deleted: bool = False) -> bool:
        position, commits = self._position(name)
        if position is None or position.commits != commits or self.listed.now is None:
            return False
        return not deleted or position.history in self.listed.now.gone
