"""Documents of a collection: write, read, change, delete, count."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from collections.abc import Collection as Collected
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal, TypeAlias, TypeVar

from fastapi import APIRouter, Query
from pydantic_core import from_json
from starlette.responses import Response

from app import ingest
from app.api.answers import Form, document_answer, encoded, held, reply, warned
from app.api.edge.bodies import READ, Route, examples
from app.api.edge.openapi import gives, takes_lines
from app.api.edge.routing import DocumentId, Name
from app.api.schemas.documents import (
    MAX_PAGE,
    CountAnswer,
    CountDocuments,
    DeleteAnswer,
    DeleteDocuments,
    DocumentAnswer,
    DocumentIds,
    DocumentsAnswer,
    ListingAnswer,
    VectorsFormat,
)
from app.api.schemas.writes import PatchAnswer, PatchDocument, PutDocument, WriteAnswer, WriteDocuments
from app.api.service import Serving, run
from app.api.writing import Keep, Matching, MatchingOrNew, Reply, Writing, etag
from app.collection.collection import Collection
from app.errors import Invalid, Problem
from app.filters import Filter, parse
from app.ingest import Condition
from app.schema.notices import Notice
from app.settings import Limits
from app.types import DEFAULT_INCLUDE, Document

router = APIRouter(tags=["documents"], route_class=Route)
T = TypeVar("T")
Include: TypeAlias = Annotated[
    tuple[Literal["text", "metadata", "vectors", "values"], ...],
    Query(description="The parts of each document beside its id and title; the parameter may be repeated."),
]
Filtered: TypeAlias = Annotated[
    str | None, Query(description="A filter as JSON.", examples=['{"year": {"gte": 2020}}'])
]
InFormat: TypeAlias = Annotated[VectorsFormat, Query(description="Vectors as lists of numbers, or as base64.")]

_CONTENT = {
    "title": "zipfile.ZipFile",
    "text": "Class with methods to open, read, write, close and list ZIP files.",
    "metadata": {"module": "zipfile", "kind": "class", "deprecated": False, "since": 1.6},
}
_LINES = '{"id": "zipfile.ZipFile", "text": "Class to open and read ZIP files."}\n{"id": 7, "text": "Sends email."}\n'
_FILTER = {"module": {"eq": "zipfile"}}


@router.post(
    "/v1/collections/{name}/documents",
    responses=gives(WriteAnswer, description="Durable and searchable."),
    openapi_extra=takes_lines(_LINES),
)
async def write_documents(
    write: Writing,
    body: Annotated[
        WriteDocuments,
        READ,
        examples(
            documents={"documents": [{"id": "zipfile.ZipFile", **_CONTENT}]},
            array=[{"id": "zipfile.ZipFile", **_CONTENT}, {"id": 7, "text": "An integer is an id, too."}],
            one={"id": "zipfile.ZipFile", **_CONTENT},
        ),
    ],
) -> Response:
    """Insert documents, or replace those whose id is there. All are written, or none.

    A document without an id gets one of its content: sent again it is the same document. The answer has all `ids`, in
    the order of the request. Faults of NDJSON say their `line`.
    """
    settings, given = write.service.settings, body.all
    try:
        if len(given) > settings.max_documents:
            limit = settings.max_documents
            raise Invalid.at("/documents", f"a request has at most {limit:,} documents; import streams any number")
        values = sum(one.numbers for one in given)
        if values > settings.max_values:
            limit = settings.max_values
            raise Invalid.at("/documents", f"the vectors of a request have at most {limit:,} numbers; got {values:,}")
    except Invalid as error:
        raise body.placed(error) from None

    def work(collection: Collection, keep: Keep | None) -> Reply:
        kind = collection.spec.kind
        try:
            documents = [one.document(one.id, kind, f"/documents/{i}") for i, one in enumerate(given)]
            return _written(ingest.write_documents(collection, documents, also=_kept(keep, _written)))
        except Invalid as error:
            raise body.placed(error) from None

    return await write.apply(work, encodes=True)


@router.get("/v1/collections/{name}/documents", responses=gives(ListingAnswer))
async def list_documents(
    service: Serving,
    name: Name,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    cursor: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
    filter: Filtered = None,
    include: Include = ("text", "metadata"),
    vectors_format: InFormat = "numbers",
) -> Response:
    """A page of documents, by the bytes of their ids; it may have fewer than `limit` where they are large."""
    condition = None if filter is None else parsed(filter, service.settings.limits)

    def work(collection: Collection) -> bytes:
        found, following = collection.listing(cursor, limit, condition, frozenset(include))
        form = collection.spec.kind, vectors_format
        documents = [document_answer(one, include, form) for one in found]
        answer = ListingAnswer(documents=documents, next=following)
        return encoded(warned(answer, collection.warnings(condition)))

    return held(service, await run(service.lanes.read, service.on, name, work))


@router.post(
    "/v1/collections/{name}/documents/get",
    responses=gives(DocumentsAnswer),
)
async def get_documents(
    service: Serving,
    name: Name,
    body: Annotated[DocumentIds, READ, examples(ids={"ids": ["zipfile.ZipFile", "tarfile.TarFile"]})],
) -> Response:
    """Documents by id; for ids with `..` in them too, which some clients cannot put into a path."""
    if len(body.ids) > service.settings.max_documents:
        raise Invalid.at("/ids", f"a request has at most {service.settings.max_documents:,} ids")

    def work(collection: Collection) -> bytes:
        include = frozenset(body.include)
        found = collection.get_many(list(dict.fromkeys(body.ids)), include)
        here = {document.id for document in found}
        missing = [id for id in dict.fromkeys(body.ids) if id not in here]
        form = collection.spec.kind, body.vectors_format
        documents = [document_answer(one, include, form) for one in found]
        return encoded(DocumentsAnswer(documents=documents, missing=missing))

    return held(service, await run(service.lanes.read, service.on, name, work))


@router.post(
    "/v1/collections/{name}/delete",
    responses=gives(DeleteAnswer),
)
async def delete_documents(
    write: Writing,
    body: Annotated[DeleteDocuments, READ, examples(ids={"ids": ["zipfile.ZipFile"]}, filter={"filter": _FILTER})],
) -> Response:
    """Delete documents by id or by a filter. Absent or repeated ids are no error."""

    def work(collection: Collection, keep: Keep | None) -> Reply:
        deleted = partial(_deleted, warnings=collection.warnings(body.filter))
        also = _kept(keep, deleted)
        if body.filter is not None:
            return deleted(ingest.delete_matching(collection, body.filter, also))
        return deleted(ingest.delete_ids(collection, body.ids or [], also))

    return await write.apply(work)


@router.post(
    "/v1/collections/{name}/count",
    responses=gives(CountAnswer),
)
async def count_documents(
    service: Serving, name: Name, body: Annotated[CountDocuments, READ, examples(filter={"filter": _FILTER}, all={})]
) -> Response:
    """How many documents match; without a filter, how many there are."""

    def work(collection: Collection) -> bytes:
        return encoded(warned(CountAnswer(count=collection.count(body.filter)), collection.warnings(body.filter)))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.get("/v1/collections/{name}/documents/{id:path}", responses=gives(DocumentAnswer))
async def get_document(
    service: Serving,
    name: Name,
    id: DocumentId,
    include: Include = ("text", "metadata"),
    vectors_format: InFormat = "numbers",
) -> Response:
    """One document, with its version, which is its entity tag too."""

    def work(collection: Collection) -> Reply:
        form = collection.spec.kind, vectors_format
        return _versioned(collection.get_version(id, frozenset(include)), include, form)

    found: Reply = await run(service.lanes.read, service.on, name, work)
    return found.response()


@router.put(
    "/v1/collections/{name}/documents/{id:path}",
    responses={
        **gives(WriteAnswer, description="Replaced; durable and searchable."),
        201: {"model": WriteAnswer, "description": "New; durable and searchable."},
    },
)
async def put_document(
    write: Writing,
    id: DocumentId,
    body: Annotated[PutDocument, READ, examples(document=_CONTENT)],
    condition: MatchingOrNew,
) -> Response:
    """Insert or replace one document; 412 where a version was asked for and another stands."""
    if body.id is not None and body.id != id:
        raise Invalid.at("/id", "expected the id of the path, or none")

    if body.version is not None:
        # As the document was read, so it may be sent back: then it is still what was read.
        versions = frozenset([body.version])
        given = Condition() if condition is None else condition
        condition = replace(given, versions=versions if given.versions is None else versions & given.versions)

    def work(collection: Collection, keep: Keep | None) -> Reply:
        try:
            document = body.document(id, collection.spec.kind)
            return _put(ingest.write_documents(collection, [document], _kept(keep, _put), condition))
        except Invalid as error:
            raise _of_one(error) from None

    return await write.apply(work, encodes=True)


@router.patch(
    "/v1/collections/{name}/documents/{id:path}",
    responses=gives(PatchAnswer, description="The document as it is now."),
)
async def patch_document(
    write: Writing,
    id: DocumentId,
    body: Annotated[
        PatchDocument,
        READ,
        examples(
            change={"metadata": {"deprecated": True, "since": None}},
            text={"text": "Reads, writes and lists ZIP files."},
        ),
    ],
    condition: Matching,
    metadata: Annotated[
        Literal["merge", "replace"],
        Query(
            # Generators name its type by it: that of the body's field has the other name.
            title="Merge or replace",
            description="`merge`: a JSON merge patch (RFC 7396), in which null removes a key and others stay. "
            "`replace`: all of the metadata, in which null, where it may stand, is a value.",
        ),
    ] = "merge",
) -> Response:
    """Change title, text, metadata or the caller's vectors; what is not named stays.

    What the change touches is encoded, of a text its changed passages; for metadata alone nothing is.
    """

    def work(collection: Collection, keep: Keep | None) -> Reply:
        patch = body.patch(collection.spec.kind, replaces=metadata == "replace")
        return _patched(ingest.patch_document(collection, id, patch, _kept(keep, _patched), condition))

    return await write.apply(work, encodes=body.text is not None or body.title is not None)


@router.delete("/v1/collections/{name}/documents/{id:path}", responses=gives(DeleteAnswer))
async def delete_document(write: Writing, id: DocumentId, condition: Matching) -> Response:
    """Delete one document; 404 where it is not there, 412 where another version stands than was asked for."""

    def work(collection: Collection, keep: Keep | None) -> Reply:
        ingest.delete_one(collection, id, _kept(keep, _deleted), condition)
        return _deleted(1)

    return await write.apply(work)


def _kept(keep: Keep | None, made: Callable[[T], Reply]) -> Callable[[sqlite3.Connection, T], None] | None:
    """Keeps the reply that ``made`` makes of what a write came to."""
    return None if keep is None else lambda txn, result: keep(txn, made(result))


def _written(result: ingest.WriteResult) -> Reply:
    return Reply(encoded(_write_answer(result)))


def _put(result: ingest.WriteResult) -> Reply:
    ((_, version),) = result.versions.items()
    answer = _write_answer(result)
    answer.version = version
    return Reply(encoded(answer), 201 if result.created else 200, etag(version))


def _write_answer(result: ingest.WriteResult) -> WriteAnswer:
    return WriteAnswer(
        written=result.written,
        ids=result.ids,
        duplicates=list(result.duplicates),
        truncated=list(result.truncated),
    )


def _deleted(count: int, warnings: list[Notice] | None = None) -> Reply:
    return Reply(encoded(warned(DeleteAnswer(deleted=count), warnings or [])))


def _versioned(
    found: tuple[Document, int], include: Collected[str] = DEFAULT_INCLUDE, form: Form = ("dense", "numbers")
) -> Reply:
    document, version = found
    answer = document_answer(document, include, form)
    answer.version = version
    return Reply(encoded(answer), 200, etag(version))


def _patched(found: ingest.Patched) -> Reply:
    document = document_answer(found.document, DEFAULT_INCLUDE, ("dense", "numbers"))
    answer = PatchAnswer(**{name: getattr(document, name) for name in document.model_fields_set}, version=found.version)
    if found.cut:
        answer.truncated = True
    return Reply(encoded(answer), 200, etag(found.version))


def _of_one(error: Invalid) -> Invalid:
    """A fault of the first of many documents, as a fault of the one that is the body."""
    prefix = "/documents/0"
    problems = [Problem(p.pointer.removeprefix(prefix), p.message) for p in error.problems]
    return Invalid(error.message.removeprefix(prefix), problems, code=error.code)


def parsed(filter: str, limits: Limits) -> Filter:
    """The filter of a query's parameter. Raises Invalid."""
    try:
        value = from_json(filter)
    except ValueError as error:
        raise Invalid.at("/filter", f"expected JSON: {error}") from None
    return parse(value, limits=limits)
