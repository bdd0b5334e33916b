"""What a server knows of the listing of its store, and what it may change there: collections that it claimed last.

The listing says who claimed a history before its log does. So a server that is not the writer any more removes nothing:
it finds another's claim in the listing as it changes that, or it was there first, and then whoever claims finds the
history gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import uuid4

from app.errors import Conflict, RequestError, StoreUnavailable
from app.replicas.listing import Collections, Listing
from app.replication.protocol import Writer


class Listed:
    """Of one server; safe from any thread."""

    def __init__(self, collections: Collections) -> None:
        self.collections = collections
        self.server = uuid4().hex
        """By which the listing tells that this server claimed a history last."""
        self.now: Listing | None = None
        """As it was last; None: not known, as after a change whose answer was lost."""
        self.claimed: set[str] = set()
        """Histories whose log this server has claimed; another one may have since."""
        self._former: Mapping[str, str] | None = None
        self._lock = threading.Lock()
        """Held while the listing is read or changed, so that what is known of it never goes back."""

    @property
    def known(self) -> Listing:
        """As it was last; read where that is not known. Raises StoreUnavailable, Damaged, FormatTooNew."""
        return self.now or self.read()

    def read(self) -> Listing:
        """Raises StoreUnavailable, Damaged, FormatTooNew."""
        with self._lock:
            self.now = self.collections.read()
            return self.now

    def change(self, work: Callable[[Listing], Listing]) -> Listing:
        """As ``Collections.change``. Where it raises, what the store has is not known."""
        with self._lock:
            self.now, known = None, self.now
            try:
                self.now = self.collections.change(work)
            except RequestError:
                # Refused here; nothing was changed.
                self.now = known
                raise
            return self.now

    def take_over(self, listing: Listing) -> None:
        """What others have claimed until now, at the start, is this server's to claim."""
        if self._former is None:
            self._former = listing.writers

    def is_anothers(self, history: str, listing: Listing) -> bool:
        """Whether another server has claimed a history since this one started: it is not claimed back."""
        writer = listing.writers.get(history)
        return self._former is not None and writer not in (None, self.server, self._former.get(history))

    def claim(self, name: str, history: str, claim: Callable[[], Writer]) -> Writer:
        """Becomes the writer of a collection. claim: the same in its log.

        Raises StoreUnavailable where it is not listed any more, Conflict where it is another server's.
        """

        def claimed(now: Listing) -> Listing:
            place = self.collections.objects.place
            if now.histories.get(name) != history:
                raise StoreUnavailable(
                    f"collection {name} was deleted or replaced in {place}: the copy here follows in a moment"
                )
            if self.is_anothers(history, now):
                raise taken_over(name, place)
            return now.claimed(history, self.server)

        self.change(claimed)
        writer = claim()
        self.claimed.add(history)
        return writer

    def require_own(self, name: str, history: str | None, now: Listing) -> None:
        """Raises Conflict where another server has claimed a history that is to go, StoreUnavailable where this one has
        not claimed it yet."""
        place = self.collections.objects.place
        if history is None:
            return
        if history not in self.claimed:
            raise StoreUnavailable(f"this server is not the writer of collection {name} in {place} yet: try again")
        if now.writers.get(history) != self.server:
            raise taken_over(name, place)


def taken_over(name: str, place: str) -> Conflict:
    return Conflict(
        f"another server has become the writer of collection {name} in {place}: send what changes it there; this "
        "server follows it, until it is started again",
        code="collection_busy",
    )


def undone(name: str, before: Listing, put: str | None, now: Listing) -> Listing:
    """As it was for a name before it was given a history, or none; not where somebody else has it by now."""
    former = before.histories.get(name)
    if now.histories.get(name) != put or former == put:
        return now
    if former is None:
        return now.without(name)
    if now.gone.get(former, 0.0) == 0.0 or name in now.aliases:
        return now
    back = now.named(name, former, before.writers[former])
    aliases = {alias: of for alias, of in before.aliases.items() if of == name and alias not in back.histories}
    return replace(back, aliases={**aliases, **back.aliases})
