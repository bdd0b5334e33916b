"""The collections of a store: one small object at its root, changed by compare-and-swap.

It names the history of each collection: the folder in the store where its log lies, which no other collection ever
has, so one that is deleted and made again is another history. It names who claimed each last, so a server that another
one has taken over from changes nothing of it here. Aliases are here too, and the histories that were deleted last, by
which a folder that was away meanwhile is told from one that the store has never seen.
"""

from __future__ import annotations

import json
import logging
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final
from uuid import uuid4

from app.errors import (
    Damaged,
    FormatTooNew,
    ObjectChanged,
    ObjectMissing,
    StorageFull,
    StoreUnavailable,
    SystemFault,
)
from app.objects.protocol import Objects, Tag
from app.store.directory import Directory
from app.store.layout import NAME
from app.store.system import room

log = logging.getLogger(__name__)

LISTING: Final = "collections.json"
FORMAT: Final = 1
_GONE: Final = 1_000
"""Deleted histories that are remembered."""
_ATTEMPTS: Final = 20
_STORES: Final = ".stores.json"
"""Beside the copies: the identity of each store that they were of, by its address."""
_HISTORY: Final = re.compile(rf"{NAME.pattern}-[0-9a-f]{{16}}")
"""As ``new_history`` makes them: a prefix that is made of one is of that history alone."""


@dataclass(frozen=True, slots=True)
class Listing:
    """store: the identity of this store. histories: collection -> its history. aliases: alias -> collection. gone:
    histories that were deleted, the latest last, and when, in seconds since 1970; 0 where nothing is left of one.
    writers: history -> the server that claimed it last."""

    store: str
    histories: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    gone: Mapping[str, float] = field(default_factory=dict)
    writers: Mapping[str, str] = field(default_factory=dict)

    def named(self, name: str, history: str, writer: str) -> Listing:
        """With a collection's history, in the place of another that it had, and who claimed it."""
        former = self.histories.get(name)
        gone = {one: when for one, when in self._without(former).items() if one != history}
        return replace(
            self,
            histories={**self.histories, name: history},
            gone=gone,
            writers={**self._writers_but(former), history: writer},
        )

    def claimed(self, history: str, writer: str) -> Listing:
        """By another server than before."""
        return replace(self, writers={**self.writers, history: writer})

    def without(self, name: str) -> Listing:
        """Without a collection and its aliases."""
        return replace(
            self,
            histories={one: history for one, history in self.histories.items() if one != name},
            aliases={alias: one for alias, one in self.aliases.items() if one != name},
            gone=self._without(self.histories.get(name)),
            writers=self._writers_but(self.histories.get(name)),
        )

    def with_alias(self, alias: str, name: str | None) -> Listing:
        """That an alias is of a collection, or there is none; what others made of the rest stays."""
        others = {one: of for one, of in self.aliases.items() if one != alias}
        return replace(self, aliases=others if name is None else {**others, alias: name})

    def emptied(self, history: str) -> Listing:
        """That nothing is left of a deleted one."""
        return replace(self, gone={**self.gone, **({history: 0.0} if history in self.gone else {})})

    def _without(self, history: str | None) -> dict[str, float]:
        gone = {**self.gone, **({} if history is None else {history: time.time()})}
        return dict(list(gone.items())[-_GONE:])

    def _writers_but(self, history: str | None) -> dict[str, str]:
        return {one: writer for one, writer in self.writers.items() if one != history}


def new_history(name: str) -> str:
    """Of a collection that is to be put into a store."""
    return f"{name}-{uuid4().hex[:16]}"


def prefix_of(history: str) -> str:
    """Of the names of its objects."""
    return f"histories/{history}"


class Collections:
    """The listing of one store; safe from any thread."""

    def __init__(
        self, objects: Objects, seen: str | None = None, on_seen: Callable[[str], None] = lambda store: None
    ) -> None:
        """seen: the identity of the store, where it was known before. on_seen: told of one that was not, again at the
        next look where it raises what the disk says."""
        self.objects, self._on_seen = objects, on_seen
        self._kept, self._told = seen, False
        self._seen = seen
        """The identity of the store. One that loses its listing, or has another, is no empty store: it is not mounted,
        or not the one that it was."""

    def read(self) -> Listing:
        """As it stands; of an empty store without a collection. Raises StoreUnavailable, also where it is not the store
        that it was, Damaged, FormatTooNew."""
        return self._read()[0]

    def change(self, work: Callable[[Listing], Listing]) -> Listing:
        """``work`` makes the next listing of the present one, and is called again where another server was faster, or
        an answer was lost; what it raises is raised. Raises StoreUnavailable, Unsure, Damaged, FormatTooNew."""
        for _ in range(_ATTEMPTS):
            now, tag = self._read()
            changed = work(now)
            if changed == now and tag is not None:
                return now
            try:
                self.objects.replace(LISTING, _to_bytes(changed), tag)
            except ObjectChanged:
                continue
            self._saw(changed.store)
            return changed
        raise StoreUnavailable(f"{LISTING} of {self.objects.place} changes faster than it can be changed: try again")

    def _read(self) -> tuple[Listing, Tag | None]:
        try:
            content, tag = self.objects.get(LISTING)
        except ObjectMissing as error:
            if self._seen is not None:
                raise StoreUnavailable(
                    f"{self.objects.place} has no {LISTING} any more: look whether the store is mounted, and whole; if "
                    "it is to be a new one, start with an empty SHEAF_INDEXES"
                ) from error
            return Listing(uuid4().hex), None
        listing = _from_bytes(content, f"{LISTING} of {self.objects.place}")
        if self._seen not in (None, listing.store):
            raise StoreUnavailable(
                f"{self.objects.place} is another store than it was ({listing.store}, not {self._seen}): mount the one "
                "that it was, or start again with an empty SHEAF_INDEXES"
            )
        self._saw(listing.store)
        return listing, tag

    def _saw(self, store: str) -> None:
        self._seen = store
        if store == self._kept:
            return
        try:
            self._on_seen(store)
            self._kept = store
        except (OSError, StorageFull, SystemFault) as error:
            # The store has answered, and may have changed: that stands, whatever becomes of the note about it.
            if not self._told:
                log.warning("which store %s is could not be noted, and is tried again: %s", self.objects.place, error)
            self._told = True


def collections_of(objects: Objects, root: Directory, url: str) -> Collections:
    """Of the store at an address, for a server of a folder."""
    return Collections(objects, _remembered(root, url), partial(_remember, root, url))


def _remembered(root: Directory, url: str) -> str | None:
    """The identity of the store at an address, where a server of this folder had it before. What cannot be read says
    nothing."""
    try:
        found = json.loads(root.read(_STORES))[url]
    except (OSError, SystemFault, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _remember(root: Directory, url: str, store: str) -> None:
    """So that a store that is not mounted at the next start is not taken for a new one. Raises StorageFull."""
    try:
        found = json.loads(root.read(_STORES))
        known = {str(at): str(one) for at, one in found.items()}
    except (OSError, SystemFault, ValueError, AttributeError):
        known = {}
    content = json.dumps({**known, url: store}, indent=1).encode()
    with room():
        coming = f"{_STORES}.coming"
        root.remove(coming)
        new = root.create(coming)
        try:
            new.write(content)
            new.finish()
        finally:
            new.close()
        root.publish(coming, _STORES)
        root.sync()


def _to_bytes(listing: Listing) -> bytes:
    value = {
        "format": FORMAT,
        "store": listing.store,
        "collections": dict(sorted(listing.histories.items())),
        "aliases": dict(sorted(listing.aliases.items())),
        "gone": listing.gone,
        "writers": dict(sorted(listing.writers.items())),
        # Contents never repeat.
        "nonce": uuid4().hex,
    }
    return json.dumps({**value, "crc32": _checksum(value)}, indent=1).encode()


def _from_bytes(content: bytes, where: str) -> Listing:
    try:
        value = json.loads(content)
        found = value["format"]
        if found == FORMAT:
            checksum = value.pop("crc32")
            listing = Listing(value["store"], value["collections"], value["aliases"], value["gone"], value["writers"])
            if checksum != _checksum(value):
                raise ValueError("its checksum is another")
            if not all(map(NAME.fullmatch, (*listing.histories, *listing.aliases, *listing.aliases.values()))):
                raise ValueError("a name that no collection has")
            if not all(map(_HISTORY.fullmatch, (*listing.histories.values(), *listing.gone, *listing.writers))):
                raise ValueError("a history that no collection has")
            return listing
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(
            f"{where} is damaged ({error}): put back a version that the bucket kept; until then nothing changes"
        ) from error
    raise FormatTooNew(f"{where} has format {found!r}, expected {FORMAT}: use the version of Sheaf that wrote it")


def _checksum(value: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())
