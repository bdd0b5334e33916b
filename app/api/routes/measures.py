"""Measuring a collection against exact search, tuning it by that, and teaching it how relevant its hits are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from app import search as engine
from app.api.answers import accepted, encoded, held, map_answer, reply
from app.api.edge.bodies import READ, Route, examples
from app.api.edge.openapi import gives
from app.api.edge.routing import Name
from app.api.routes.searches import fitting, heard, to_query
from app.api.schemas.documents import DeleteAnswer
from app.api.schemas.measures import MapAnswer, Measured, NeighboursRequest, QueriesAnswer, RecallRequest, TuneRequest
from app.api.schemas.relevance import LearnRequest, RelevanceAnswer
from app.api.schemas.searches import Asked, SearchRequest
from app.api.schemas.tasks import TaskAnswer
from app.api.service import Serving, run
from app.collection.collection import Collection
from app.collection.reading import Measured as Recalled
from app.documents import turns_of
from app.errors import Conflict
from app.evaluation.judged import Judged, read_set
from app.evaluation.measures import parsed_one
from app.evaluation.relevance import learn
from app.evaluation.searched import Report, report
from app.measure import recall as measuring
from app.measure.plane import plane
from app.relevance.features import LEARNABLE
from app.relevance.kept import Learned, forget, kept
from app.tasks.linking import require_dense
from app.tasks.records import Task
from app.tuning.judged import ByJudgements, usable
from app.tuning.tune import Goal, to_params

router = APIRouter(tags=["measuring"], route_class=Route)

_GIVEN = {"query": "read a zip archive"}


@router.post("/v1/collections/{name}/recall", responses=gives(measuring.Recall))
async def measure_recall(
    service: Serving,
    name: Name,
    body: Annotated[
        RecallRequest,
        READ,
        examples(drawn={"k": 10, "queries": 5}, given={"k": 5, "queries": [_GIVEN], "lengths": [2]}),
    ],
) -> Response:
    """The share of the exact top k that the approximate path finds, measured now, by the length of queries too."""

    def work(collection: Collection) -> bytes:
        asked = _to_measure(body.queries, collection)
        lengths = body.lengths
        if lengths is None:
            lengths = [*measuring.LENGTHS] if isinstance(asked, int) and collection.spec.model is not None else []
        measured = measuring.measure_recall(
            collection, asked, body.k, body.candidates, float32=body.float32, lengths=lengths
        )
        collection.recall = Recalled(measured.k, measured.recall)
        return encoded(measured)

    return reply(await run(service.lanes.measure, service.on, name, work))


@router.post(
    "/v1/collections/{name}/tune",
    status_code=202,
    responses=gives(TaskAnswer, 202, "Accepted; follow it."),
)
async def tune_collection(
    service: Serving,
    name: Name,
    body: Annotated[
        TuneRequest,
        READ,
        examples(
            recall={"target_recall": 0.98},
            small={"target_recall": 0.95, "max_bytes_per_document": 20_000},
            judged={"judgements": "people", "measure": "nDCG@10", "apply": True},
        ),
    ],
) -> Response:
    """Choose the fastest first stage that reaches a recall, by measurement against exact search; or, by judged queries,
    how searches fuse and how wide they look, and what other passages would gain."""

    def work(collection: Collection) -> Task:
        if body.target_recall is None:
            assert body.judgements is not None, "a request has one goal"
            collection.require_writer()
            parsed_one(body.measure, "/measure")
            usable(collection, body.judgements)
            wanted = ByJudgements(body.judgements, body.measure, tuple(body.parts), body.documents, body.apply)
            return service.catalogue.tasks(name).submit("tune", asdict(wanted))
        goal = Goal(body.target_recall, body.k, body.max_bytes_per_document, body.max_memory_per_document)
        collection.require_writer()
        params = to_params(goal, _to_measure(body.queries, collection))
        return service.catalogue.tasks(name).submit("tune", params)

    return accepted(await run(service.lanes.write, service.on, name, work))


@router.post(
    "/v1/collections/{name}/neighbours",
    status_code=202,
    responses=gives(TaskAnswer, 202, "Accepted; follow it."),
)
async def link_neighbours(
    service: Serving,
    name: Name,
    body: Annotated[NeighboursRequest, READ, examples(default={"links": 32}, none={"links": 0})],
) -> Response:
    """Link each passage of a dense collection to its nearest ones, so that searches by a `scorer` score few documents:
    from some that are spread over all along the links, to where these lead to nothing better. What is in the index now
    is linked, and whatever the index is made of from then on; what is not in it yet, and pieces of 4,096 passages or
    fewer, are scored one and all. How much it finds: `recall` with scorers among its queries.
    """

    def work(collection: Collection) -> Task:
        collection.require_writer()
        require_dense(collection)
        return service.catalogue.tasks(name).submit("neighbours", {"links": body.links})

    return accepted(await run(service.lanes.write, service.on, name, work))


@router.get("/v1/collections/{name}/map", responses=gives(MapAnswer))
async def map_collection(
    service: Serving,
    name: Name,
    points: Annotated[int, Query(ge=2, le=20_000, description="Documents, at most.")] = 10_000,
) -> Response:
    """The documents as points of a plane, for people who would rather look than read: the two principal axes of their
    pooled vectors. The same documents have the same places."""

    def work(collection: Collection) -> bytes:
        return encoded(map_answer(plane(collection, points)))

    return held(service, await run(service.lanes.measure, service.on, name, work))


@router.get("/v1/collections/{name}/queries", responses=gives(QueriesAnswer))
async def describe_queries(service: Serving, name: Name) -> Response:
    """How many searched queries the collection keeps, to be measured and tuned with."""

    def work(collection: Collection) -> bytes:
        return encoded(QueriesAnswer(kept=len(collection.queries.all()), bytes=collection.queries.nbytes))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.get("/v1/collections/{name}/queries/report", responses=gives(Report))
async def report_queries(
    service: Serving,
    name: Name,
    below: Annotated[
        float | None,
        Query(allow_inf_nan=False, description="The score that a hit has to have; by default any hit is one."),
    ] = None,
    most: Annotated[int, Query(ge=1, le=1_000, description="Texts of each list.")] = 20,
) -> Response:
    """What users searched, where the server keeps it: texts without a hit, the most frequent, the slowest, with counts.

    Of the same text, whatever its case, the last search tells what is found. Scores are of the mode of that search.
    """

    def work(collection: Collection) -> bytes:
        return encoded(report(collection.queries.all(), most, below))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.delete("/v1/collections/{name}/queries", responses=gives(DeleteAnswer))
async def delete_queries(service: Serving, name: Name) -> Response:
    """Forget the searched queries that the collection keeps."""

    def work(collection: Collection) -> bytes:
        return encoded(DeleteAnswer(deleted=collection.queries.clear()))

    return reply(await run(service.lanes.write, service.on, name, work))


def _to_measure(queries: int | Sequence[Asked], collection: Collection) -> int | list[engine.Query]:
    if isinstance(queries, int):
        return queries
    return [
        engine.Query(
            text=heard(one, collection.spec, f"/queries/{i}"),
            turns=turns_of(one.turns),
            vectors=fitting(one, collection.spec, f"/queries/{i}"),
            scorer=one.scorer.network() if isinstance(one, Measured) and one.scorer is not None else None,
            at=f"/queries/{i}",
        )
        for i, one in enumerate(queries)
    ]


@router.put("/v1/collections/{name}/relevance", responses=gives(Learned))
async def learn_relevance(
    service: Serving,
    name: Name,
    body: Annotated[LearnRequest, READ, examples(people={"judgements": "people"})],
) -> Response:
    """Learn from a set of judgements how relevant hits are: its queries are searched, and a logistic curve over what is
    known of a hit (its score by each side, its place) makes a chance of it. A search with `"relevance": true` shows
    that chance, which means the same for every query of this collection.

    The figures of the answer are of queries that a curve was not learned from. Where it tells no more than the share of
    relevant hits does, it is not kept (409). It is part of snapshots; another encoder ends it.
    """

    def work(collection: Collection) -> bytes:
        asked = [(one, _query(one, body, collection)) for one in read_set(collection, body.judgements)]
        # Vectors alone ask no words.
        modes = [query.mode for _, query in asked if query.mode in LEARNABLE and body.mode in (None, query.mode)]
        asked = [(one, query) for one, query in asked if modes and query.mode == modes[0]]
        if not asked:
            raise Conflict(
                f"the set {body.judgements} has no query for a {body.mode or 'semantic'} search of {collection.name}",
                code="too_few_judgements",
            )
        most = min(body.queries, len(asked))
        asked = [asked[number * len(asked) // most] for number in range(most)]
        return encoded(learn(collection, body.judgements, asked))

    return reply(await run(service.lanes.measure, service.on, name, work))


def _query(judged: Judged, body: LearnRequest, collection: Collection) -> engine.Query:
    """As searches will ask; by its vectors alone where it has no text."""
    spec, mode = collection.spec, body.mode
    if judged.text is None and mode not in ("semantic", "dense"):
        mode = None
    vectors: dict[str, Any] = {"vector" if spec.kind == "dense" else "vectors": judged.vectors}
    given = vectors if mode is None else {**vectors, "mode": mode}
    asked = SearchRequest.model_construct(query=judged.text, k=body.depth, include=[], relevance=True, **given)
    return to_query(asked, spec)


@router.get("/v1/collections/{name}/relevance", responses=gives(RelevanceAnswer))
async def get_relevance(service: Serving, name: Name) -> Response:
    """What a collection learned of how relevant its hits are, by mode."""

    def work(collection: Collection) -> bytes:
        return encoded(RelevanceAnswer(learned=kept(collection)))

    return reply(await run(service.lanes.read, service.on, name, work))


@router.delete("/v1/collections/{name}/relevance", responses=gives(DeleteAnswer))
async def forget_relevance(service: Serving, name: Name) -> Response:
    """Forget it, of all modes."""
    return reply(
        await run(
            service.lanes.write, service.on, name, lambda collection: encoded(DeleteAnswer(deleted=forget(collection)))
        )
    )
