"""Documents of a collection: write, read, change, delete, count."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import APIRouter, Depends, Query
from pydantic_core import from_json
from starlette.responses import Response

from app import ingest
from app.api.answers import document_answer, encoded, reply
from app.api.bodies import json_body
from app.api.openapi import gives, takes
from app.api.routing import DocumentId, Name
from app.api.schemas import (
    MAX_PAGE,
    CountAnswer,
    CountDocuments,
    DeleteAnswer,
    DeleteDocuments,
    DocumentAnswer,
    DocumentIds,
    DocumentsAnswer,
    ListingAnswer,
    PatchDocument,
    PutDocument,
    WriteAnswer,
    WriteDocuments,
)
from app.api.service import Serving, run
from app.collection.collection import Collection
from app.errors import Invalid, NotFound, Problem
from app.filters import Filter, parse
from app.limits import Limits

router = APIRouter(tags=["documents"])
Writing: TypeAlias = Annotated[WriteDocuments, Depends(json_body(WriteDocuments))]
Ids: TypeAlias = Annotated[DocumentIds, Depends(json_body(DocumentIds))]
Putting: TypeAlias = Annotated[PutDocument, Depends(json_body(PutDocument))]
Patching: TypeAlias = Annotated[PatchDocument, Depends(json_body(PatchDocument))]
Deleting: TypeAlias = Annotated[DeleteDocuments, Depends(json_body(DeleteDocuments))]
Counting: TypeAlias = Annotated[CountDocuments, Depends(json_body(CountDocuments))]

_CONTENT = {
    "title": "zipfile.ZipFile",
    "text": "Class with methods to open, read, write, close and list ZIP files.",
    "metadata": {"module": "zipfile", "kind": "class", "deprecated": False, "since": 1.6},
}
_FILTER = {"module": {"eq": "zipfile"}}


@router.post(
    "/v1/collections/{name}/documents",
    responses=gives(WriteAnswer, description="Durable and searchable."),
    openapi_extra=takes(WriteDocuments, documents={"documents": [{"id": "zipfile.ZipFile", **_CONTENT}]}),
)
async def write_documents(service: Serving, name: Name, body: Writing) -> Response:
    """Insert documents, or replace those whose id is there. All are written, or none."""
    if len(body.documents) > service.settings.max_documents:
        limit = service.settings.max_documents
        raise Invalid.at("/documents", f"a request has at most {limit:,} documents; import streams any number")
    values = sum(one.values for one in body.documents)
    if values > service.settings.max_values:
        limit = service.settings.max_values
        raise Invalid.at("/documents", f"the vectors of a request have at most {limit:,} numbers; got {values:,}")

    def work(collection: Collection) -> bytes:
        kind = collection.spec.kind
        documents = [one.document(one.id, kind, f"/documents/{i}") for i, one in enumerate(body.documents)]
        return _written(ingest.write_documents(collection, documents))

    return reply(await run(service.lanes.write, service.on, name, work))


@router.get("/v1/collections/{name}/documents", responses=gives(ListingAnswer))
async def list_documents(
    service: Serving,
    name: Name,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    cursor: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
    filter: Annotated[str | None, Query(description="A filter as JSON.", examples=['{"year": {"gte": 2020}}'])] = None,
) -> Response:
    """A page of documents, by the bytes of their ids."""
    condition = None if filter is None else _parsed(filter, service.settings.limits)

    def work(collection: Collection) -> bytes:
        found, following = collection.listing(cursor, limit, condition)
        return encoded(ListingAnswer(documents=[document_answer(one) for one in found], next=following))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.post(
    "/v1/collections/{name}/documents/get",
    responses=gives(DocumentsAnswer),
    openapi_extra=takes(DocumentIds, ids={"ids": ["zipfile.ZipFile", "tarfile.TarFile"]}),
)
async def get_documents(service: Serving, name: Name, body: Ids) -> Response:
    """Documents by id; for ids with `..` in them too, which some clients cannot put into a path."""
    if len(body.ids) > service.settings.max_documents:
        raise Invalid.at("/ids", f"a request has at most {service.settings.max_documents:,} ids")

    def work(collection: Collection) -> bytes:
        found = collection.get_many(list(dict.fromkeys(body.ids)))
        here = {document.id for document in found}
        missing = [id for id in dict.fromkeys(body.ids) if id not in here]
        return encoded(DocumentsAnswer(documents=[document_answer(one) for one in found], missing=missing))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.post(
    "/v1/collections/{name}/delete",
    responses=gives(DeleteAnswer),
    openapi_extra=takes(DeleteDocuments, ids={"ids": ["zipfile.ZipFile"]}, filter={"filter": _FILTER}),
)
async def delete_documents(service: Serving, name: Name, body: Deleting) -> Response:
    """Delete documents by id or by a filter. Absent or repeated ids are no error."""

    def work(collection: Collection) -> bytes:
        if body.filter is not None:
            return encoded(DeleteAnswer(deleted=ingest.delete_matching(collection, body.filter)))
        return encoded(DeleteAnswer(deleted=ingest.delete_ids(collection, body.ids or [])))

    return reply(await run(service.lanes.write, service.on, name, work))


@router.post(
    "/v1/collections/{name}/count",
    responses=gives(CountAnswer),
    openapi_extra=takes(CountDocuments, filter={"filter": _FILTER}, all={}),
)
async def count_documents(service: Serving, name: Name, body: Counting) -> Response:
    """How many documents match; without a filter, how many there are."""

    def work(collection: Collection) -> bytes:
        return encoded(CountAnswer(count=collection.count(body.filter)))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.get("/v1/collections/{name}/documents/{id:path}", responses=gives(DocumentAnswer))
async def get_document(service: Serving, name: Name, id: DocumentId) -> Response:
    """One document."""

    def work(collection: Collection) -> bytes:
        return encoded(document_answer(collection.get(id)))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.put(
    "/v1/collections/{name}/documents/{id:path}",
    responses={
        **gives(WriteAnswer, description="Replaced; durable and searchable."),
        201: {"model": WriteAnswer, "description": "New; durable and searchable."},
    },
    openapi_extra=takes(PutDocument, document=_CONTENT),
)
async def put_document(service: Serving, name: Name, id: DocumentId, body: Putting) -> Response:
    """Insert or replace one document."""
    if body.id is not None and body.id != id:
        raise Invalid.at("/id", "expected the id of the path, or none")

    def work(collection: Collection) -> ingest.WriteResult:
        try:
            return ingest.write_documents(collection, [body.document(id, collection.spec.kind)])
        except Invalid as error:
            raise _of_one(error) from None

    result = await run(service.lanes.write, service.on, name, work)
    return reply(_written(result), 201 if result.created else 200)


@router.patch(
    "/v1/collections/{name}/documents/{id:path}",
    responses=gives(DocumentAnswer, description="The document as it is now."),
    openapi_extra=takes(PatchDocument, change={"metadata": {"deprecated": True, "since": None}}),
)
async def patch_document(service: Serving, name: Name, id: DocumentId, body: Patching) -> Response:
    """Change metadata as a JSON merge patch (RFC 7396): null removes a key, what is not named stays."""

    def work(collection: Collection) -> bytes:
        changed = ingest.patch_metadata(collection, id, body.metadata)
        return encoded(document_answer(changed))

    return reply(await run(service.lanes.write, service.on, name, work))


@router.delete("/v1/collections/{name}/documents/{id:path}", responses=gives(DeleteAnswer))
async def delete_document(service: Serving, name: Name, id: DocumentId) -> Response:
    """Delete one document; 404 where it is not there."""

    def work(collection: Collection) -> bytes:
        deleted = ingest.delete_ids(collection, [id])
        if not deleted:
            raise NotFound(f"collection {name} has no document {id!r}", code="document_not_found")
        return encoded(DeleteAnswer(deleted=deleted))

    return reply(await run(service.lanes.write, service.on, name, work))


def _written(result: ingest.WriteResult) -> bytes:
    answer = WriteAnswer(written=result.written, duplicates=list(result.duplicates), truncated=list(result.truncated))
    return encoded(answer)


def _of_one(error: Invalid) -> Invalid:
    """A fault of the first of many documents, as a fault of the one that is the body."""
    prefix = "/documents/0"
    problems = [Problem(p.pointer.removeprefix(prefix), p.message) for p in error.problems]
    return Invalid(error.message.removeprefix(prefix), problems)


def _parsed(filter: str, limits: Limits) -> Filter:
    try:
        value = from_json(filter)
    except ValueError as error:
        raise Invalid.at("/filter", f"expected JSON: {error}") from None
    return parse(value, limits=limits)
