"""The tools: their arguments, what they ask of Sheaf, and what they answer.

``search`` and ``fetch`` are what the connectors of ChatGPT and Claude look for: one text of JSON, without structured
content beside it, which some of them refuse. The others answer both, the same. Arguments are held to their schemas
here: the SDK's own reading of functions drops misspelt ones in silence and takes the query `null` for none.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

from pydantic import Field, ValidationError

from app.client import AsyncSheaf, Document, Hit
from app.client.documents import Json
from app.documents import MetadataField, Strict, invalid
from app.errors import Invalid, NotFound
from app.integrations.metadata import restored

MOST_COLLECTIONS: Final = 16
"""That one search may ask, as the API has it."""
EXCERPT: Final = 400
"""Characters of a result's text."""
ADDRESSES: Final = ("url", "link", "source")
"""Metadata fields that a document's own address may stand in."""


class SearchArguments(Strict):
    """A question or keywords."""

    query: Annotated[str, Field(min_length=1)]
    """A question, or words that the documents have."""
    collection: str | None = None
    """One collection to search; by default all. list_collections names them."""
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    """How many results."""


class FetchArguments(Strict):
    """A document that a search found."""

    id: Annotated[str, Field(min_length=1)]
    """The id of a result of search, as it was given."""


class NoArguments(Strict):
    """Nothing."""


class NewDocument(Strict):
    """A document to keep."""

    text: Annotated[str, Field(min_length=1)]
    title: str = ""
    id: str | None = None
    """By default a new one; a document with this id is replaced."""
    metadata: MetadataField = Field(default={})


class AddArguments(Strict):
    """Documents, and the collection that they go to."""

    collection: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[NewDocument], Field(min_length=1, max_length=1_000)]


@dataclass(frozen=True, slots=True)
class Shelf:
    """The collections that an assistant sees. names: these alone; empty: all that the key reaches. public: the URL that
    addresses of documents without their own begin with."""

    names: Sequence[str]
    public: str

    async def reached(self, sheaf: AsyncSheaf, asked: str | None) -> list[str]:
        """The collections to search. Raises NotFound for one that is not seen, Invalid for too many."""
        if asked is not None:
            self.require(asked)
            return [asked]
        found = [*self.names] or [one["name"] for one in await sheaf.collections()]
        if len(found) > MOST_COLLECTIONS:
            raise Invalid(
                f"there are {len(found)} collections, and a search asks {MOST_COLLECTIONS} at most: name a collection"
            )
        return found

    def require(self, name: str) -> None:
        if self.names and name not in self.names:
            raise NotFound(f"there is no collection {name!r}; there are {', '.join(self.names)}")


@dataclass(frozen=True, slots=True)
class Tool:
    """structured: the schema of what it answers; None: it answers one text of JSON."""

    name: str
    title: str
    description: str
    arguments: type[Strict]
    run: Callable[[AsyncSheaf, Shelf, Any], Awaitable[Json]]
    structured: Json | None = None
    writes: bool = False

    async def call(self, sheaf: AsyncSheaf, shelf: Shelf, arguments: Mapping[str, Any]) -> Json:
        """Raises Invalid for arguments that cannot be, and the server's errors."""
        try:
            given = self.arguments.model_validate_json(json.dumps(arguments))
        except ValidationError as error:
            raise invalid(error, self.arguments) from None
        return await self.run(sheaf, shelf, given)


async def _search(sheaf: AsyncSheaf, shelf: Shelf, asked: SearchArguments) -> Json:
    names = await shelf.reached(sheaf, asked.collection)
    if not names:
        return {"results": []}
    if len(names) == 1:
        found = await sheaf.collection(names[0]).search(asked.query, k=asked.limit, passages=1)
    else:
        found = await sheaf.search(names, asked.query, k=asked.limit, passages=1)
    return {"results": [_result(shelf, hit.raw.get("collection", names[0]), hit) for hit in found]}


def _result(shelf: Shelf, collection: str, hit: Hit) -> Json:
    return {
        "id": f"{collection}:{hit.id}",
        "title": hit.title or _begin(hit.text, 80) or hit.id,
        "url": _address(shelf, collection, hit.id, hit.metadata),
        "text": _begin(_nearest(hit), EXCERPT),
    }


def _nearest(hit: Hit) -> str:
    """The best passage of a text that is split."""
    best = next(iter(hit.passages), None)
    return hit.text if best is None else f"{'… ' if best.start else ''}{best.text}"


async def _fetch(sheaf: AsyncSheaf, shelf: Shelf, asked: FetchArguments) -> Json:
    collection, colon, id = asked.id.partition(":")
    if not colon:
        raise Invalid.at("/id", f"expected the id of a result, such as papers:a, got {asked.id[:100]!r}")
    shelf.require(collection)
    found = await sheaf.collection(collection).get(id)
    return {
        "id": asked.id,
        "title": found.title or _begin(found.text, 80) or found.id,
        "text": found.text,
        "url": _address(shelf, collection, found.id, found.metadata),
        "metadata": restored(found.metadata)[0],
    }


async def _list(sheaf: AsyncSheaf, shelf: Shelf, asked: NoArguments) -> Json:
    listed = await sheaf.collections()
    seen = [one for one in listed if not shelf.names or one["name"] in shelf.names]
    return {"collections": [{"name": one["name"], "documents": one["documents"]} for one in seen]}


async def _add(sheaf: AsyncSheaf, shelf: Shelf, asked: AddArguments) -> Json:
    shelf.require(asked.collection)
    documents = [Document(one.id or uuid4().hex, one.text, one.title, one.metadata) for one in asked.documents]
    written = await sheaf.collection(asked.collection).write(documents)
    return {
        "written": written.written,
        "ids": [f"{asked.collection}:{one.id}" for one in documents],
        "truncated": [f"{asked.collection}:{id}" for id in written.truncated],
    }


def _begin(text: str, most: int) -> str:
    """The beginning, on one line, cut at a word."""
    whole = " ".join(text.split())
    return whole if len(whole) <= most else whole[:most].rpartition(" ")[0] + " …"


def _address(shelf: Shelf, collection: str, id: str, metadata: Mapping[str, Any]) -> str:
    for field in ADDRESSES:
        value = metadata.get(field)
        if isinstance(value, str) and urlsplit(value).scheme in ("http", "https"):
            return value
    return f"{shelf.public}/v1/collections/{quote(collection)}/documents/{quote(id, safe='')}"


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [*properties]}


_TEXT: Final[Json] = {"type": "string"}
_TEXTS: Final[Json] = {"type": "array", "items": _TEXT}
_COUNT: Final[Json] = {"type": "integer"}

TOOLS: Final = (
    Tool(
        "search",
        "Search",
        "Finds documents by words and by meaning, the best first. Each result has an id for fetch, a title, a url and "
        "the beginning of the passage of its text that answers best.",
        SearchArguments,
        _search,
    ),
    Tool("fetch", "Fetch", "The whole text of a document that search found, by the id of the result, with its "
         "metadata.", FetchArguments, _fetch),
    Tool(
        "list_collections",
        "List collections",
        "The collections of documents that there are, and how many documents each has.",
        NoArguments,
        _list,
        _object(collections={"type": "array", "items": _object(name=_TEXT, documents=_COUNT)}),
    ),
    Tool(
        "add_documents",
        "Add documents",
        "Keeps documents in a collection: durable, and found by the next search.",
        AddArguments,
        _add,
        _object(written=_COUNT, ids=_TEXTS, truncated=_TEXTS),
        writes=True,
    ),
)  # fmt: skip
