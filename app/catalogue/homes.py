"""Where collections have their home: this disk, or an object store of which the folder here is a copy.

``Local`` is the first, and does nothing; the other is ``app.catalogue.stored``, which is not even loaded without a
store.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from app.catalogue.aliases import Aliases
from app.collection.collection import Collection
from app.collection.opening import Holders
from app.compute.background import Background, Job
from app.errors import Conflict
from app.replicas.position import position_of
from app.settings import Settings
from app.store.directory import Directory
from app.store.folders import Exchange
from app.store.local_directory import LocalDirectory
from app.types import Standing


class Copy(Protocol):
    """What keeps the copy of one collection in line with the store, from before it is opened until ``close``."""

    on_applied: Callable[[], None]
    """Told when something came from the store."""
    jobs: list[Job]

    @property
    def standing(self) -> Standing: ...

    def attach(self, collection: Collection, /) -> None: ...

    def start(self, lanes: Background, /) -> None: ...

    def close(self) -> None: ...


class Homes(Protocol):
    """Of the collections of one server."""

    @property
    def writes(self) -> bool:
        """Whether this server is one that writes collections."""

    def standings(self) -> dict[str, Standing]:
        """How far the collections are that are open and are copies of a store's, by name."""

    def is_copy(self, name: str, /) -> bool:
        """Whether a collection is one of these."""

    def require_writes(self) -> None:
        """Raises Conflict (server_is_reader) otherwise."""

    def publish(self, alias: str, collection: str | None, /) -> Mapping[str, str] | None:
        """An alias is to be of a collection, or of none; all that stand by then, where they stand elsewhere. Raises
        Conflict, NotFound, StoreUnavailable."""

    def begin(self, aliases: Aliases, closed: Callable[[], bool], /) -> None:
        """Brings the folder in line, at the start. closed: whether to give up."""

    def start(self, lanes: Background, exchange: Exchange, aliases: Aliases, /) -> None:
        """Keeps it in line from now on."""

    def stop(self) -> None: ...

    def open(self, name: str, /) -> Copy | None:
        """Before the collection is opened. Raises Diverged, StoreUnavailable, Conflict, Damaged, StorageFull."""

    def housed(self, name: str, files: Directory | None, /) -> AbstractContextManager[object]:
        """The name is for the collection in this folder, or for none, before that is so here, inside the block; if that
        fails it is as it was. Raises Conflict, StoreUnavailable."""


class Local:
    """This disk. store: where a server has the home of collections, if elsewhere: those that are there are not written
    without it."""

    writes = True

    def __init__(self, store: str | None = None) -> None:
        self._store = store

    def standings(self) -> dict[str, Standing]:
        return {}

    def is_copy(self, name: str) -> bool:
        return False

    def require_writes(self) -> None: ...

    def publish(self, alias: str, collection: str | None) -> None: ...

    def begin(self, aliases: Aliases, closed: Callable[[], bool]) -> None: ...

    def start(self, lanes: Background, exchange: Exchange, aliases: Aliases) -> None: ...

    def stop(self) -> None: ...

    def open(self, name: str) -> Copy | None:
        return None if self._store is None else Unhomed(self._store)

    def housed(self, name: str, files: Directory | None) -> AbstractContextManager[object]:
        return nullcontext()


class Unhomed:
    """A copy in the hands of a script, which only reads it."""

    def __init__(self, store: str) -> None:
        self._store = store
        self.jobs: list[Job] = []
        self.on_applied: Callable[[], None] = lambda: None

    @property
    def standing(self) -> Standing:
        return Standing("reader", 0, None)

    def attach(self, collection: Collection) -> None:
        if position_of(collection.database)[0] is not None:
            collection.refusal = lambda: Conflict(
                f"collection {collection.name} lies in {self._store}: send what changes it through its server",
                code="collection_busy",
            )

    def start(self, lanes: Background) -> None: ...

    def close(self) -> None: ...


def folder_of(settings: Settings, path: Path, *, serves: bool) -> LocalDirectory:
    """The folder of the collections; of a reader with a bound one whose large files come by blocks."""
    if not serves or settings.store is None or settings.role != "reader" or settings.cache_bytes is None:
        return LocalDirectory(path)
    from app.replicas.cache import Cache

    return LocalDirectory(path, Cache(settings.cache_bytes))


def homes_of(settings: Settings, root: Directory, holders: Holders | None = None) -> Homes:
    """As the settings say. root: the folder of the collections. holders: of segments, to be told of new ones. Raises
    Invalid, StoreUnavailable."""
    if settings.store is None:
        return Local()
    from app.catalogue.stored import StoredHomes

    note = f"{socket.gethostname()}, port {settings.port}"
    found = StoredHomes(settings.store, settings.role, root, note)
    if holders is not None:
        found.coming = holders.expect
    return found
