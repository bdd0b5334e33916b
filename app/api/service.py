"""The parts that routes work with, and the threads they work in."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, Literal, TypeAlias, TypedDict, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends, Request

from app.api.dynamic_batching import DynamicBatching
from app.catalogue.catalogue import Catalogue
from app.collection.collection import Collection
from app.compute.quota import cores
from app.errors import Damaged, NotReady, Overloaded
from app.settings import Settings
from app.types import Room

T = TypeVar("T")

Need: TypeAlias = Literal["search", "write"]

SEARCHING: Final = 32
"""Searches that have a thread. As many compute as there are cores; the others wait, so one more costs its stack."""

EXPORTS: Final = 4
"""Exports at a time. Each holds a read transaction, behind which the database's log grows with every write."""


@dataclass(slots=True)
class Lane:
    """threads: how many work at a time. queue: how many may wait for one; None is no limit. Used on the event loop."""

    threads: CapacityLimiter
    queue: int | None
    inside: int = 0
    """Requests that work or wait. The limiter counts one only some turns of the loop after it was let in."""


class Budget:
    """So much of something at a time. Used on the event loop alone."""

    def __init__(self, most: int, what: str) -> None:
        self.most, self._left, self._what = most, most, what

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes more; all that it took is given back at the end. It raises Overloaded."""
        taken = 0

        def take(amount: int) -> None:
            nonlocal taken
            if amount > self._left:
                raise Overloaded(f"too many {self._what} already; try again")
            self._left -= amount
            taken += amount

        try:
            yield take
        finally:
            self._left += taken


class Lanes:
    """Bounded groups of worker threads, apart from one another so that writes never keep a search waiting.

    search: those that run and those that wait for a core (``Workers.turn``). together: light ones, in threads of that
    lane, all that wait in one call; a core is left to the event loop, which has as much to do for them. read:
    documents, counts, descriptions. write: what changes a collection. upload: pieces of imports and archives on their
    way to the disk. restore: archives that are verified and given their indexes, which may take minutes. download:
    pieces of exports. parse: large bodies. index: what was written and is indexed at once. measure: one at a time, for
    it takes every core for a while.

    Work that needs an encoder has lanes of that encoder (``needing``): queries that wait for it are encoded together,
    and one that hangs holds up nobody else.
    """

    def __init__(self, settings: Settings) -> None:
        queue = self._queue = settings.max_queue
        self._searches = (settings.threads or cores()) + queue
        self.of_encoders: dict[tuple[Need, str], Lane] = {}
        """Made when they are first asked for."""
        self.search = self._lane("search")
        self.together = DynamicBatching(self.search.threads, max(1, (settings.threads or cores()) - 1))
        self.read = Lane(CapacityLimiter(4), queue)
        self.write = self._lane("write")
        # A request that was let in brings many pieces, one after another: the requests are counted instead.
        self.upload = Lane(CapacityLimiter(4), None)
        self.restore = Lane(CapacityLimiter(2), queue)
        self.parse = Lane(CapacityLimiter(2), queue)
        self.index = Lane(CapacityLimiter(4), None)
        self.download = Lane(CapacityLimiter(2), None)
        self.measure = Lane(CapacityLimiter(1), queue)
        self.waiting = Budget(max(queue, 1), "writes wait to be indexed")
        self.uploads = Budget(max(queue, 1), "imports are being uploaded")
        self.exports = Budget(EXPORTS, "exports are being read")
        self.memory = Budget(settings.max_buffered_bytes, "bytes of bodies and answers are in memory")

    def needing(self, encoder: str, work: Need) -> Lane:
        """Of searches and writes that need an encoder."""
        if (work, encoder) not in self.of_encoders:
            self.of_encoders[work, encoder] = self._lane(work)
        return self.of_encoders[work, encoder]

    def _lane(self, work: Need) -> Lane:
        if work == "write":
            return Lane(CapacityLimiter(4), self._queue)
        return Lane(CapacityLimiter(min(self._searches, SEARCHING)), max(0, self._searches - SEARCHING))


@dataclass(frozen=True, slots=True)
class Service:
    """warming: loads the encoders that the server is ready with."""

    settings: Settings
    catalogue: Catalogue
    lanes: Lanes
    warming: Future[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether searches are answered, and none of those that were expected has to load its encoder first."""
        return self.catalogue.ready and (self.warming is None or self.warming.done())

    def room(self) -> Room:
        """Of an answer from several collections."""
        return Room(self.settings.max_answer_bytes)

    def on(self, name: str, work: Callable[[Collection], T]) -> T:
        """``work`` on a collection. Damage that it meets takes the collection out of service.

        Raises NotFound, Damaged, and whatever ``work`` does.
        """
        return self.within(self.catalogue.get(name), work)

    def within(self, collection: Collection, work: Callable[[Collection], T]) -> T:
        """The same on one that is at hand."""
        try:
            with self.catalogue.standing(collection.name):
                return work(collection)
        except Damaged as error:
            self.catalogue.quarantine(collection, error)
            raise

    async def lane(self, name: str, work: Need, *, encodes: bool) -> Lane:
        """The lane of work on a collection. encodes: whether its encoder is needed. Raises NotFound, Damaged."""
        if encodes:
            collection = self.catalogue.opened(name)
            if collection is None:
                collection = await run(self.lanes.read, self.catalogue.get, name)
            if model := collection.spec.model or collection.spec.sparse_model:
                return self.lanes.needing(model, work)
        return self.lanes.search if work == "search" else self.lanes.write


class State(TypedDict):
    """The lifespan's state, shared by all requests."""

    service: Service


@contextmanager
def admitted(lane: Lane) -> Iterator[None]:
    """One more that works or waits in the lane. Raises Overloaded where too many wait."""
    if lane.queue is not None and lane.inside >= lane.threads.total_tokens + lane.queue:
        raise Overloaded(f"{lane.queue:,} requests wait already; try again")
    lane.inside += 1
    try:
        yield
    finally:
        lane.inside -= 1


async def run(lane: Lane, work: Callable[..., T], *args: object, **named: object) -> T:
    """Blocking work in a thread of a lane. Raises Overloaded where too many wait for one."""
    with admitted(lane):
        return await anyio.to_thread.run_sync(partial(work, *args, **named), limiter=lane.threads)


async def serving(request: Request) -> Service:
    """Raises Unavailable until the collections are open."""
    service: Service | None = getattr(request.state, "service", None)
    if service is None:
        raise NotReady("the server is starting or stopping")
    if not service.catalogue.ready:
        done, all = service.catalogue.progress
        raise NotReady(f"the collections are being opened or closed; {done} of {all} are open")
    return service


Serving: TypeAlias = Annotated[Service, Depends(serving)]
