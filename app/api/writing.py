"""The options of every write: to be conditional, to be applied once, and what to wait for.

A document's version is its entity tag: a number that grows with each write to its collection. `Idempotency-Key` is the
IETF's draft of that name: what was answered is kept with what was written, and a retry gets the same answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Final, Literal, TypeAlias

import anyio
from fastapi import Depends, Header, Query, Request
from starlette.responses import Response

from app.api.answers import reply
from app.api.edge.bodies import body_digest
from app.api.edge.routing import Name
from app.api.service import Service, Serving, run
from app.collection.collection import Collection
from app.errors import Invalid
from app.ingest import Condition, index_now, not_indexed
from app.store.requests import Answer, note_first

Key: TypeAlias = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text of your own for this one request, such as a UUID: repeated, the request is applied once.",
    ),
]
Wait: TypeAlias = Annotated[
    Literal["durable", "indexed"],
    Query(
        description="`durable`: on disk and found by the next search. `indexed`: in a generation as well; where that "
        "takes longer than 30 s the answer is 504 `not_indexed`, and what was written stays written and found."
    ),
]
INDEXING_S: Final = 30.0
"""How long a write waits to be indexed, at most."""
_TAGS: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"(?:\s*,\s*(?:W/)?"[\x21\x23-\x7e]*")*', re.ASCII)
_IF_MATCH: Final = Header(
    alias="If-Match",
    max_length=10_000,
    description="Versions as entity tags, or `*`.",
    json_schema_extra={"pattern": rf"^ *(?:\*|{_TAGS.pattern}) *$"},
)
_IF_NONE_MATCH: Final = Header(alias="If-None-Match", pattern=r"^ *\* *$", description="`*`: only a new document.")
_VERSION: Final = re.compile(r'"(0|[1-9][0-9]{0,18})"', re.ASCII)


def etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


async def _matching(given: Annotated[str | None, _IF_MATCH] = None) -> Condition | None:
    return None if given is None else _if_match(given)


async def _matching_or_new(
    given: Annotated[str | None, _IF_MATCH] = None, new: Annotated[str | None, _IF_NONE_MATCH] = None
) -> Condition | None:
    if new is None:
        return await _matching(given)
    # Both together hold of no document.
    return Condition(versions=None if given is None else frozenset(), exists=False)


def _if_match(given: str) -> Condition:
    given = given.strip()
    if given == "*":
        return Condition(exists=True)
    if not _TAGS.fullmatch(given):
        raise Invalid.at("/If-Match", 'expected entity tags, such as "17", or *')
    # A weak tag matches nothing here (RFC 9110, 13.1.1), and neither does one that is no version.
    tags = [tag.strip() for tag in given.split(",")]
    return Condition(versions=frozenset(int(found[1]) for tag in tags if (found := _VERSION.fullmatch(tag))))


Matching: TypeAlias = Annotated[Condition | None, Depends(_matching)]
MatchingOrNew: TypeAlias = Annotated[Condition | None, Depends(_matching_or_new)]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that can be given again."""

    content: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        return reply(self.content, self.status, self.headers)


Keep: TypeAlias = Callable[[sqlite3.Connection, Reply], None]
"""Keeps a reply in the transaction of the write."""


@dataclass(frozen=True, slots=True)
class Once:
    """One request under a key. digest: of what makes it that request."""

    key: str
    digest: str

    def begin(self, collection: Collection) -> Reply | None:
        """The reply to the same request before; else ``end`` is to be called. Raises Conflict, Invalid."""
        found = collection.requests.begin(self.key, self.digest)
        return None if found is None else Reply(found.content.encode(), found.status, found.headers)

    def keep(self, collection: Collection) -> Keep:
        def keep(txn: sqlite3.Connection, made: Reply) -> None:
            answer = Answer(made.content.decode(), made.status, made.headers)
            collection.requests.note(txn, self.key, self.digest, answer)

        return keep

    def keep_first(self, txn: sqlite3.Connection) -> None:
        """Of the request that makes a collection: the answer is not known before it is there."""
        note_first(txn, self.key, self.digest, Answer("", 201, {}))

    def end(self, collection: Collection) -> None:
        collection.requests.end(self.key)


def once(request: Request, key: str | None, body: bytes | None = None) -> Once | None:
    """The request's identity, if it has a key. body: the digest of one that was not read as JSON."""
    if key is None:
        return None
    # Without the collection's name, which may be an alias, and without what only says what to wait for.
    query = sorted((name, value) for name, value in request.query_params.multi_items() if name != "wait")
    conditions = [request.headers.get(name, "") for name in ("if-match", "if-none-match")]
    path = (request.scope["route"].path_format, request.path_params.get("id", ""))
    said = hashlib.sha256(repr((request.method, path, query, conditions)).encode())
    said.update(body_digest(request) if body is None else body)
    return Once(key, said.hexdigest())


@dataclass(frozen=True, slots=True)
class Write:
    """A write as it was asked for: to which collection, under which key, and what to wait for."""

    request: Request
    service: Service
    name: str
    key: str | None
    wait: str

    async def apply(self, work: Callable[[Collection, Keep | None], Reply], *, encodes: bool = False) -> Response:
        """``work``, once, and waited for as asked. encodes: whether it may need the collection's encoder."""
        asked = once(self.request, self.key)

        def write(collection: Collection) -> Reply:
            if asked is None:
                return work(collection, None)
            earlier = asked.begin(collection)
            if earlier is not None:
                return earlier
            try:
                return work(collection, asked.keep(collection))
            finally:
                asked.end(collection)

        with self.service.lanes.waiting.share() as take:
            if self.wait == "indexed":
                take(1)  # before anything is written
            lane = await self.service.lane(self.name, "write", encodes=encodes)
            done: Reply = await run(lane, self.service.on, self.name, write)
            if self.wait == "indexed":
                await self._indexed()
        return done.response()

    async def _indexed(self) -> None:
        """Without a thread while other work makes the collection's indexes, which may take hours. Raises NotIndexed."""
        lanes, loop, freed = self.service.lanes, asyncio.get_running_loop(), asyncio.Event()
        until = time.monotonic() + INDEXING_S
        with anyio.move_on_after(INDEXING_S):
            collection = await run(lanes.index, self.service.catalogue.get, self.name)
            with collection.structure.watched(lambda: loop.call_soon_threadsafe(freed.set)):
                while True:
                    freed.clear()
                    if await run(lanes.index, self.service.on, collection.name, partial(index_now, until=until)):
                        return
                    await freed.wait()
        raise not_indexed()


async def _write(request: Request, service: Serving, name: Name, key: Key = None, wait: Wait = "durable") -> Write:
    return Write(request, service, name, key, wait)


Writing: TypeAlias = Annotated[Write, Depends(_write)]
