"""What the routes work with, and the threads they work in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, TypeAlias, TypedDict, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends, Request

from app.collection.catalogue import Catalogue
from app.collection.collection import Collection
from app.errors import Damaged, Unavailable
from app.settings import Settings
from app.types import Kind

T = TypeVar("T")


class Lanes:
    """Bounded groups of worker threads, apart from one another so that writes never keep a search waiting.

    search: as many as the operator allows to search and encode. read: documents, counts, descriptions. write: what
    changes a collection. upload: pieces of imports on their way to the disk. parse: large bodies. measure:
    one at a time, for it takes every core for a while.
    """

    def __init__(self, settings: Settings) -> None:
        self.search = CapacityLimiter(settings.threads or os.cpu_count() or 1)
        self.read = CapacityLimiter(4)
        self.write = CapacityLimiter(4)
        self.upload = CapacityLimiter(4)
        self.parse = CapacityLimiter(2)
        self.measure = CapacityLimiter(1)


@dataclass(frozen=True, slots=True)
class Service:
    """models: the encoders that collections may name, with the kinds of each. recalls: (k, recall) of each collection
    as it was last measured."""

    settings: Settings
    catalogue: Catalogue
    models: Mapping[str, tuple[Kind, ...]]
    lanes: Lanes
    recalls: dict[str, tuple[int, float]] = field(default_factory=dict)

    def on(self, name: str, work: Callable[[Collection], T]) -> T:
        """``work`` on a collection. Damage that it meets takes the collection out of service.

        Raises NotFound, Damaged, and whatever ``work`` does.
        """
        collection = self.catalogue.get(name)
        try:
            return work(collection)
        except Damaged as error:
            self.catalogue.quarantine(collection, error)
            raise


class State(TypedDict):
    """The lifespan's state, shared by all requests."""

    service: Service


async def run(lane: CapacityLimiter, work: Callable[..., T], *args: object, **named: object) -> T:
    """Blocking work in a thread of a lane."""
    return await anyio.to_thread.run_sync(partial(work, *args, **named), limiter=lane)


async def _service(request: Request) -> Service:
    service: Service | None = getattr(request.state, "service", None)
    if service is None:
        raise Unavailable("the server is starting or stopping")
    if not service.catalogue.ready:
        done, all = service.catalogue.progress
        raise Unavailable(f"the collections are being opened or closed; {done} of {all} are open")
    return service


Serving: TypeAlias = Annotated[Service, Depends(_service)]
