"""The collections of a store: one small object at its root, changed by compare-and-swap.

It names the history of each collection: the folder in the store where its log lies, which no other collection ever
has, so one that is deleted and made again is another history. Aliases are here too, and the histories that were deleted
last, by which a folder that was away meanwhile is told from one that the store has never seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import uuid4

from app.errors import FormatTooNew, ObjectChanged, ObjectMissing, Unavailable
from app.objects.protocol import Objects, Tag
from app.store.layout import NAME

LISTING: Final = "collections.json"
FORMAT: Final = 1
_GONE: Final = 1_000
"""Deleted histories that are remembered."""
_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class Listing:
    """store: the identity of this store. histories: collection -> its history. aliases: alias -> collection. gone:
    histories that were deleted, the latest last, and when, in seconds since 1970; 0 where nothing is left of one."""

    store: str
    histories: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    gone: Mapping[str, float] = field(default_factory=dict)

    def named(self, name: str, history: str) -> Listing:
        """With a collection's history, in the place of another that it had."""
        former = self.histories.get(name)
        gone = {one: when for one, when in self._without(former).items() if one != history}
        return replace(self, histories={**self.histories, name: history}, gone=gone)

    def without(self, name: str) -> Listing:
        """Without a collection and its aliases."""
        return replace(
            self,
            histories={one: history for one, history in self.histories.items() if one != name},
            aliases={alias: one for alias, one in self.aliases.items() if one != name},
            gone=self._without(self.histories.get(name)),
        )

    def _without(self, history: str | None) -> dict[str, float]:
        gone = {**self.gone, **({} if history is None else {history: time.time()})}
        return dict(list(gone.items())[-_GONE:])


def new_history(name: str) -> str:
    """Of a collection that is to be put into a store."""
    return f"{name}-{uuid4().hex[:16]}"


def prefix_of(history: str) -> str:
    """Of the names of its objects."""
    return f"histories/{history}"


class Collections:
    """The listing of one store; safe from any thread."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def read(self) -> Listing:
        """As it stands; of an empty store without a collection. Raises StoreUnavailable, FormatTooNew."""
        return self._read()[0]

    def change(self, work: Callable[[Listing], Listing]) -> Listing:
        """``work`` makes the next listing of the present one, and is called again where another server was faster; what
        it raises is raised. Raises StoreUnavailable, Unsure."""
        for _ in range(_ATTEMPTS):
            now, tag = self._read()
            changed = work(now)
            if changed == now and tag is not None:
                return now
            try:
                self.objects.replace(LISTING, _to_bytes(changed), tag)
            except ObjectChanged:
                continue
            return changed
        raise Unavailable(f"{LISTING} of {self.objects.place} changes faster than it can be changed: try again")

    def _read(self) -> tuple[Listing, Tag | None]:
        try:
            content, tag = self.objects.get(LISTING)
        except ObjectMissing:
            return Listing(uuid4().hex), None
        try:
            value = json.loads(content)
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}")
            listing = Listing(value["store"], value["collections"], value["aliases"], value["gone"])
            if not all(NAME.fullmatch(name) for name in (*listing.histories, *listing.aliases)):
                raise ValueError("a name that no collection has")
        except (ValueError, KeyError, TypeError) as error:
            raise FormatTooNew(
                f"{LISTING} of {self.objects.place} is not understood ({error}): use the version that wrote it"
            ) from error
        return listing, tag


def _to_bytes(listing: Listing) -> bytes:
    value = {
        "format": FORMAT,
        "store": listing.store,
        "collections": dict(sorted(listing.histories.items())),
        "aliases": dict(sorted(listing.aliases.items())),
        "gone": listing.gone,
        # Contents never repeat.
        "nonce": uuid4().hex,
    }
    return json.dumps(value, indent=1).encode()
