"""Exports: all documents of a collection at one moment, streamed as the lines that an import takes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.api.answers import document_answer, encoded
from app.api.edge.bodies import NDJSON, PARQUET, Route
from app.api.edge.openapi import gives_lines
from app.api.edge.routing import Name
from app.api.routes.documents import Filtered, Include, InFormat, parsed
from app.api.service import Serving, run
from app.api.streaming import Streamed
from app.backup.exported import export_documents
from app.backup.parquet import parquet
from app.collection.collection import Collection
from app.errors import Invalid

router = APIRouter(tags=["documents"], route_class=Route)


@router.get("/v1/collections/{name}/export", response_class=Response, responses=gives_lines())
async def export_collection(
    service: Serving,
    name: Name,
    filter: Filtered = None,
    include: Include = ("text", "metadata"),
    vectors_format: InFormat = "numbers",
    format: Annotated[
        Literal["ndjson", "parquet"],
        Query(description="`parquet`: a table for other programs, which `scripts/build_index.py` reads back."),
    ] = "ndjson",
) -> Response:
    """All documents of one moment, one a line as an import takes it, in the order of their last writes; or as Parquet,
    with vectors as lists of float32, metadata as JSON.

    Writes and deletions meanwhile change nothing of it. With `vectors` in `include` a line has those that callers
    bring, never an encoder's: as they came where the collection keeps them, else as they are stored. A fault midway
    ends the connection before the body's end, so that a part is never taken for the whole.
    """
    condition = None if filter is None else parsed(filter, service.settings.limits)
    lanes, form = service.lanes, vectors_format
    if format == "parquet" and form != "numbers":
        raise Invalid.at("/vectors_format", "Parquet has vectors as lists of float32: leave it out")

    def lines(collection: Collection) -> Generator[bytes]:
        written = collection.spec.kind, form
        for documents in export_documents(collection, frozenset(include), condition):
            yield b"".join(encoded(document_answer(one, include, written)) + b"\n" for one in documents)

    def begin() -> tuple[Collection, Generator[bytes]]:
        collection = service.catalogue.get(name)
        if format == "ndjson":
            return collection, lines(collection)
        documents = export_documents(collection, frozenset(include), condition)
        try:
            return collection, parquet(documents, collection.spec, frozenset(include))
        except Invalid as error:
            raise Invalid.at("/format", error.message) from error

    with ExitStack() as stack:
        stack.enter_context(lanes.exports.share())(1)
        collection, pieces = await run(lanes.read, begin)

        # Also where the client is gone before there is an answer.
        stack.callback(pieces.close)

        def take(_: Collection) -> bytes:
            return next(pieces, b"")

        async def following() -> bytes:
            return await run(lanes.download, service.within, collection, take)

        first = await following()
        held = stack.pop_all()

    async def close() -> None:
        with held:
            await run(lanes.download, pieces.close)

    headers = {"Content-Disposition": f'attachment; filename="{name}.{format}"'}
    return Streamed(first, following, close, NDJSON[0] if format == "ndjson" else PARQUET, headers)
