"""Collections: create, list, describe, delete, rebuild."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api.answers import accepted, encoded, reply
from app.api.edge.access import Caller, require
from app.api.edge.bodies import READ, Route, examples
from app.api.edge.openapi import gives, gives_nothing
from app.api.edge.routing import Name
from app.api.schemas.collections import (
    ChangeCollection,
    CollectionsAnswer,
    CreateCollection,
    FieldAnswer,
    FieldsAnswer,
    HistoryAnswer,
)
from app.api.schemas.searches import SideWeights
from app.api.schemas.tasks import TaskAnswer
from app.api.service import Serving, run
from app.api.writing import Key, Reply, once
from app.catalogue.info import CollectionInfo
from app.collection.collection import Collection
from app.collection.history import history_of
from app.collection.spec import PassageSpec, SparseSpec, ValueSpec
from app.errors import Conflict, Invalid
from app.scoring.similarities.measures import NONE, Options
from app.types import Weights

router = APIRouter(tags=["collections"], route_class=Route)

_EXAMPLES = {
    "built-in encoder": {"name": "papers", "encoder": {"model": "builtin", "kind": "multi_vector"}},
    "own vectors": {
        "name": "images",
        "encoder": {"model": None, "kind": "dense", "dim": 4},
        "similarity": "inner_product",
    },
    "a bilinear form": {
        "name": "pairs",
        "encoder": {"model": None, "kind": "dense", "dim": 3},
        "similarity": "bilinear",
        "similarity_options": {"matrix": [[1, 0, 0], [0, 0.5, 0.5]]},
    },
    "conversations": {"name": "talks", "turns": {"last": 3}},
    "segments of audio": {
        "name": "music",
        "encoder": {"model": None, "kind": "sequence", "dim": 3},
        "segments_per_second": 2,
    },
    "pinned weights": {"name": "notes", "fusion": {"words": 0.4, "tokens": 0.3, "pooled": 0.3}},
}


def _fusion(body: CreateCollection) -> Weights | Literal["reciprocal_rank"] | None:
    if not isinstance(body.fusion, SideWeights):
        return body.fusion
    return {side: weight for side, weight in body.fusion.given.items() if weight}


@router.post(
    "/v1/collections",
    status_code=201,
    responses=gives(CollectionInfo, 201, "Created."),
)
async def create_collection(
    request: Request,
    service: Serving,
    caller: Caller,
    body: Annotated[CreateCollection, READ, examples(**_EXAMPLES)],
    key: Key = None,
) -> Response:
    """Create a collection. 409 where the name is taken. 503 while its encoder is being loaded: ask again."""
    require(caller, body.name)
    asked = once(request, key)

    def options() -> Options:
        chosen, matrices = body.similarity_options, service.catalogue.resources.settings.matrices
        return NONE if chosen is None else chosen.options(matrices)

    def create() -> Collection:
        model = body.encoder.model
        if None not in (model, body.encoder.dim) and not service.catalogue.encoders.has_dims(str(model)):
            raise Invalid.at("/encoder/dim", "the model decides it; leave it out")
        return service.catalogue.create(
            body.name,
            model=body.encoder.model,
            kind=body.encoder.kind,
            dim=body.encoder.dim,
            similarity=body.similarity,
            options=options(),
            keep_vectors=body.keep_vectors,
            precision=body.precision,
            token_pooling=body.token_pooling,
            passages=None if body.passages is None else PassageSpec(**body.passages.model_dump()),
            lexical=None if body.lexical is None else body.lexical.spec,
            sparse=None if body.sparse is None else SparseSpec(model=body.sparse.model),
            values=None if body.values is None else ValueSpec(dim=body.values.dim),
            fusion=_fusion(body),
            segments_per_second=body.segments_per_second,
            declared=body.declared,
            turns=None if body.turns is None else body.turns.spec,
            also=None if asked is None else asked.keep_first,
        )

    def work() -> Reply:
        try:
            collection = create()
        except Conflict as taken:
            if asked is None or taken.code != "collection_exists":
                raise
            collection = service.catalogue.get(body.name)
            earlier = asked.begin(collection)
            if earlier is None:
                asked.end(collection)
                raise
            if earlier.content:
                return earlier
        content = encoded(service.catalogue.describe(body.name))
        made = Reply(content, 201, {"Location": f"/v1/collections/{body.name}"})
        if asked is not None:
            keep = asked.keep(collection)
            collection.record(lambda txn: keep(txn, made))
        return made

    lane, model = service.lanes.write, body.encoder.model or (body.sparse and body.sparse.model)
    if model is not None and model in service.catalogue.encoders.names():
        lane = service.lanes.needing(model, "write")
    return (await run(lane, work)).response()


@router.get("/v1/collections", responses=gives(CollectionsAnswer))
async def list_collections(service: Serving, caller: Caller) -> Response:
    """Every collection that the key reaches, by name, quarantined ones too: under its alias where the key reaches that
    alone."""

    def work() -> bytes:
        aliases = service.catalogue.aliases.known
        found = []
        for info in service.catalogue.describe_all():
            others = [alias for alias, name in aliases.items() if name == info.name and caller.reaches(alias)]
            names = [info.name] if caller.reaches(info.name) else sorted(others)
            found += [replace(info, name=name) for name in names]
        return encoded(CollectionsAnswer(collections=found))

    return reply(await run(service.lanes.read, work))


@router.get("/v1/collections/{name}", responses=gives(CollectionInfo))
async def describe_collection(
    service: Serving,
    name: Name,
    include: Annotated[
        list[Literal["matrix"]],
        Query(max_length=4, description="`matrix`: that of the similarity whole, as a creation takes it."),
    ] = [],  # noqa: B006
) -> Response:
    """One collection."""
    found = await run(service.lanes.read, service.catalogue.describe, name, matrix="matrix" in include)
    return reply(encoded(found))


@router.get("/v1/collections/{name}/fields", responses=gives(FieldsAnswer))
async def list_fields(service: Serving, name: Name) -> Response:
    """The metadata fields that documents have: what can be filtered, sorted, grouped and counted by."""

    def work(collection: Collection) -> bytes:
        with collection.snapshot() as snapshot:
            found = [
                FieldAnswer(name=field, shapes=sorted(snapshot.shapes(field)), type=snapshot.declared.get(field))
                for field in sorted(snapshot.fields)
            ]
        return encoded(FieldsAnswer(fields=found))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.get("/v1/collections/{name}/history", responses=gives(HistoryAnswer))
async def list_generations(service: Serving, name: Name) -> Response:
    """What the collection's generations were: when and why each began, with how many documents, and the first stage
    that found them."""

    def work(collection: Collection) -> bytes:
        with collection.database.read() as connection:
            return encoded(HistoryAnswer(generations=history_of(connection, name)))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.patch("/v1/collections/{name}", responses=gives(CollectionInfo, description="The collection as it is now."))
async def change_collection(
    service: Serving,
    name: Name,
    body: Annotated[ChangeCollection, READ, examples(dates={"schema": {"published": "date", "place": "geo"}})],
) -> Response:
    """Declare types of metadata fields, or take declarations back. No document changes; `unfit` of the answer counts
    those that do not fit, whose values there are as if they were not."""

    def work() -> bytes:
        service.on(name, lambda collection: collection.declare(body.declared))
        return encoded(service.catalogue.describe(name))

    return reply(await run(service.lanes.write, work))


@router.delete("/v1/collections/{name}", status_code=204, responses=gives_nothing())
async def delete_collection(service: Serving, name: Name) -> Response:
    """Delete a collection with all its documents."""
    await run(service.lanes.write, service.catalogue.delete, name)
    return Response(status_code=204)


@router.post(
    "/v1/collections/{name}/rebuild", status_code=202, responses=gives(TaskAnswer, 202, "Accepted; follow it.")
)
async def rebuild_collection(service: Serving, name: Name) -> Response:
    """Make every index anew from the document store. Searches go on meanwhile."""
    return accepted(await run(service.lanes.write, service.catalogue.begin_rebuild, name))
