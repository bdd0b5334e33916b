"""Searching a collection."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app import search as engine
from app.api.answers import encoded, held, search_answer
from app.api.edge.bodies import READ, Route, examples, pieces, require_type
from app.api.edge.openapi import gives, gives_arrays, takes_arrays
from app.api.edge.problems import Other
from app.api.edge.routing import Name
from app.api.observe.served import note_searches
from app.api.routes.documents import Filtered, parsed
from app.api.schemas.searches import (
    MAX_CANDIDATES,
    MAX_TIMEOUT_MS,
    Asked,
    BatchAnswer,
    Highlighting,
    SearchAnswer,
    SearchBatch,
    SearchRequest,
)
from app.api.service import Lane, Service, Serving, admitted, run
from app.batch.arrays import FORMS, Many, Table, read_queries, written
from app.batch.search import search_many
from app.batch.together import Waiting, have_a_pass, own, search_each
from app.collection.collection import Collection
from app.collection.passages import check_vectors
from app.collection.spec import CollectionSpec
from app.compute.deadline import deadline
from app.diversity.order import Diversity
from app.documents import turns_of
from app.errors import Invalid, SheafError
from app.fusion.hybrid import sides_of
from app.highlights.fragments import Marking
from app.query.asked import UNENCODED
from app.query.examples import Example, Like
from app.rerank.order import Rerank
from app.store.query_log import Found, Logged
from app.types import F32, MAX_K, Weights

router = APIRouter(tags=["search"], route_class=Route)

_LIGHT: Final = frozenset({"vector", "k", "offset", "candidates", "include", "vectors_format", "timeout_ms"})
"""What a search says at most that others may stand in one line with: it reads some hundred vectors."""

_TEXT = {"query": "read a zip archive"}
_FILTERED = {
    "query": "read a zip archive",
    "k": 5,
    "filter": {"and": [{"module": {"in": ["zipfile", "tarfile"]}}, {"deprecated": {"ne": True}}]},
    "include": ["text"],
}
_BROWSE = {"filter": {"module": {"eq": "zipfile"}}, "sort": [{"line": "asc"}], "k": 20}
_GROUPS = {"query": "read a zip archive", "group_by": {"field": "module", "size": 2}, "k": 5}
_LIKE = {
    "like": {
        "positive": ["zipfile.ZipFile", {"query": "read an archive"}],
        "negative": [{"query": "send an email"}],
        "include_examples": True,
    },
    "k": 5,
}
_EXACT = {"query": "send an email", "exact": True, "k": 3}


def to_query(body: SearchRequest, spec: CollectionSpec, at: str = "") -> engine.Query:
    """The engine's query. ``at`` points at this search in the request body.

    Raises Invalid for vectors that do not fit the collection.
    """
    turns, mode = turns_of(body.turns), body.mode or _mode(body, spec)
    # Where they are scored by, the engine holds them to the collection.
    unscored = mode in UNENCODED or body.scorer is not None
    vectors = fitting(body, spec, at) if unscored else _of_kind(body, spec, at)
    return engine.Query(
        text=heard(body, spec, at),
        turns=turns,
        vectors=vectors,
        sparse=body.sparse_vector,
        like=_like(body, spec, at),
        scorer=None if body.scorer is None else body.scorer.network(),
        mode=mode,
        syntax=body.syntax,
        field_weights=dict(sorted((body.field_weights or {}).items())),
        weights=_weights(body, spec, at),
        explain=body.explain,
        relevance=body.relevance,
        at=at,
        k=body.k,
        filter=body.filter,
        ids=body.ids,
        sort=body.sort or (),
        boosts=body.boosts or (),
        min_score=body.min_score,
        diversity=None if body.diversity is None else Diversity(body.diversity.weight, body.diversity.among),
        facets=body.facets or (),
        group_by=body.group_by,
        offset=body.offset,
        cursor=body.cursor,
        exact=body.exact,
        candidates=body.candidates,
        include=frozenset(body.include),
        partial=body.partial,
        passages=body.passages,
        highlights=_marking(body.highlights),
        rerank=None if body.rerank is None else Rerank(body.rerank.model, body.rerank.top, body.rerank.budget_ms),
    )


def _like(body: SearchRequest, spec: CollectionSpec, at: str) -> Like | None:
    """Raises Invalid for vectors that do not fit the collection."""
    if body.like is None:
        return None

    def example(one: str | Asked, here: str) -> Example:
        if isinstance(one, str):
            return Example(one, at=here)
        return Example(None, heard(one, spec, here), fitting(one, spec, here), turns_of(one.turns), at=here)

    positive, negative = (
        [example(one, f"{at}/like/{name}/{i}") for i, one in enumerate(getattr(body.like, name))]
        for name in ("positive", "negative")
    )
    return Like(positive, negative, body.like.weight, body.like.include_examples)


def _marking(asked: Highlighting | None) -> Marking | None:
    return None if asked is None else Marking((asked.marks[0], asked.marks[1]), asked.length)


def _mode(body: SearchRequest, spec: CollectionSpec) -> engine.Mode:
    """The mode of a search that does not say: all that it can."""
    by_vectors = body.vector is not None or body.vectors is not None
    if body.like is not None:
        spoken = any(isinstance(one, str) or one.query is not None for one in body.like.positive)
        return "hybrid" if spoken and (spec.lexical is not None or spec.sparse is not None) else "semantic"
    if body.scorer is not None:
        return "semantic"
    if body.sparse_vector is not None:
        return "hybrid" if by_vectors or (body.query is not None and spec.model is not None) else "sparse"
    if body.query is None:
        return "semantic" if by_vectors else "browse"
    if spec.lexical is None and spec.sparse_model is None and not by_vectors:
        return "semantic"
    if by_vectors or spec.model is not None:
        return "hybrid"
    return "lexical" if spec.lexical is not None else "sparse"


def _weights(
    body: SearchRequest, spec: CollectionSpec, at: str
) -> Weights | Literal["reciprocal_rank", "learned"] | None:
    if body.fusion == "reciprocal_rank":
        return "reciprocal_rank"
    if body.weights is None:
        return None if body.fusion is None else "learned"
    words, sparse = body.query is not None or body.like is not None, body.sparse_vector is not None
    sparse = sparse or (body.query is not None and spec.sparse_model is not None)
    sparse = sparse or (body.like is not None and spec.sparse is not None)
    given, sides = body.weights.given, sides_of(spec, words=words, sparse=sparse)
    if other := [side for side, weight in given.items() if weight and side not in sides]:
        raise Invalid.at(f"{at}/weights/{other[0]}", f"the search, of a {spec.kind} collection, has {', '.join(sides)}")
    return {side: given[side] for side in sides}


def heard(body: Asked, spec: CollectionSpec, at: str) -> str | None:
    """The text of a query; of a conversation that of the turns that count. Raises Invalid where the collection has
    none."""
    if body.turns is None:
        return body.query
    if spec.turns is None:
        raise Invalid.at(f"{at}/turns", f"collection {spec.name} has no turns: create one with `turns`, or give query")
    return spec.turns.heard(turns_of(body.turns))


def fitting(body: Asked, spec: CollectionSpec, at: str) -> F32 | None:
    """The query's own vectors, if it has any."""
    vectors = _of_kind(body, spec, at)
    if vectors is not None:
        check_vectors(vectors, spec, at, asked=True)
    return vectors


def _of_kind(body: Asked, spec: CollectionSpec, at: str) -> F32 | None:
    """The same, of any width."""
    if spec.kind != "dense" and body.vector is not None:
        raise Invalid.at(f"{at}/vector", f"the collection is {spec.kind}: it takes vectors, not vector")
    if spec.kind == "dense" and body.vectors is not None:
        raise Invalid.at(f"{at}/vectors", "the collection is dense: it takes vector, not vectors")
    return body.vector if body.vectors is None else body.vectors


def encodes(body: SearchRequest) -> bool:
    """Whether an encoder may be needed."""
    if body.like is not None and body.mode != "lexical":
        examples = (*body.like.positive, *body.like.negative)
        return any(not isinstance(one, str) and one.query is not None for one in examples)
    # Beside vectors a text may go to a sparse encoder.
    return body.query is not None and body.mode != "lexical"


async def _lane(service: Service, name: str, searches: Sequence[SearchRequest]) -> Lane:
    """Of the encoder that is needed, else of a model that reranks."""
    needed = any(map(encodes, searches))
    models = service.catalogue.encoders.names()
    rerank = [one.rerank.model for one in searches if one.rerank is not None and one.rerank.model in models]
    if rerank and not needed:
        return service.lanes.needing(rerank[0], "search")
    return await service.lane(name, "search", encodes=needed)


def keep_queries(
    collection: Collection, queries: Sequence[engine.Query], results: Sequence[engine.SearchResult]
) -> None:
    """Where the operator wants queries to be kept: of text or vectors."""
    collection.queries.record(
        Logged(query.text, query.vectors, _found(query, result))
        for query, result in zip(queries, results, strict=True)
        if query.text is not None or query.vectors is not None
    )


def _found(query: engine.Query, result: engine.SearchResult) -> Found | None:
    if query.offset or query.cursor is not None:
        return None
    best = result.hits[0].score if result.hits else None
    return Found(query.mode, len(result.hits), best, result.took_ms)


def require_few(service: Service, searches: Sequence[SearchRequest]) -> None:
    """Raises Invalid for a batch of more than the server takes."""
    if len(searches) > service.settings.max_batch:
        raise Invalid.at("/searches", f"a batch has at most {service.settings.max_batch:,} searches")


def until_of(service: Service, searches: Sequence[SearchRequest]) -> float:
    """When a request that came now is to be answered, of ``time.monotonic()``."""
    asked = [one.timeout_ms for one in searches if one.timeout_ms is not None]
    return time.monotonic() + min([service.settings.search_timeout_ms, *asked]) / 1_000


@router.post("/v1/collections/{name}/search", responses=gives(SearchAnswer))
async def search_documents(
    request: Request,
    service: Serving,
    name: Name,
    body: Annotated[
        SearchRequest,
        READ,
        examples(text=_TEXT, filtered=_FILTERED, exact=_EXACT, browse=_BROWSE, like=_LIKE, groups=_GROUPS),
    ],
) -> Response:
    """The best documents for a query, or without one those that match."""

    until = until_of(service, [body])

    def work(collection: Collection) -> bytes:
        query = to_query(body, collection.spec)
        with deadline(until):
            result = engine.search(collection, query)
        keep_queries(collection, [query], [result])
        note_searches(request, [result])
        return encoded(search_answer(result, body, collection.spec.kind))

    if body.vector is not None and body.model_fields_set <= _LIGHT and _have_a_pass(service, name):
        with admitted(service.lanes.search):
            # Those that have one pass stand in one line.
            key, asked = (name, body.offset + body.k, body.candidates), _Asked(request, body, until)
            content = await service.lanes.together.ask(key, asked, partial(_answers, service, name), until)
        return held(service, content)
    lane = await _lane(service, name, [body])
    return held(service, await run(lane, service.on, name, work))


def _have_a_pass(service: Service, name: str) -> bool:
    collection = service.catalogue.opened(name)
    return collection is not None and have_a_pass(collection)


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Request
    body: SearchRequest
    until: float


def _answers(service: Service, name: str, asked: Sequence[_Asked]) -> list[bytes | SheafError]:
    """To light searches that stood in line together. Raises what concerns all of them."""

    def work(collection: Collection) -> list[bytes | SheafError]:
        spec, found = collection.spec, dict[int, bytes | SheafError]()
        waiting: dict[int, Waiting] = {}
        for i, one in enumerate(asked):
            try:
                waiting[i] = Waiting(to_query(one.body, spec), one.until)
            except SheafError as error:
                found[i] = own(error)
        for i, result in zip(waiting, search_each(collection, list(waiting.values())), strict=True):
            try:
                # Of a store's error it is asked whether the collection is deleted.
                with service.catalogue.standing(collection.name):
                    found[i] = _answered(collection, asked[i], waiting[i].query, result)
            except SheafError as error:
                found[i] = own(error)
        return [found[i] for i in range(len(asked))]

    return service.on(name, work)


def _answered(
    collection: Collection, asked: _Asked, query: engine.Query, result: engine.SearchResult | SheafError
) -> bytes:
    """Raises the error that is the result."""
    if isinstance(result, SheafError):
        raise result
    keep_queries(collection, [query], [result])
    note_searches(asked.request, [result])
    return encoded(search_answer(result, asked.body, collection.spec.kind))


@router.post("/v1/collections/{name}/search/batch", responses=gives(BatchAnswer))
async def search_batch(
    request: Request,
    service: Serving,
    name: Name,
    body: Annotated[SearchBatch, READ, examples(two={"searches": [_TEXT, _EXACT]})],
) -> Response:
    """Several searches at once, encoded together."""
    require_few(service, body.searches)
    until = until_of(service, body.searches)

    def work(collection: Collection) -> bytes:
        spec = collection.spec
        queries = [to_query(one, spec, f"/searches/{i}") for i, one in enumerate(body.searches)]
        with deadline(until):
            results = engine.search_batch(collection, queries)
        keep_queries(collection, queries, results)
        note_searches(request, results)
        answers = [search_answer(result, one, spec.kind) for one, result in zip(body.searches, results, strict=True)]
        return encoded(BatchAnswer(results=answers))

    lane = await _lane(service, name, body.searches)
    return held(service, await run(lane, service.on, name, work))


@router.post(
    "/v1/collections/{name}/search/vectors",
    response_class=Response,
    responses=gives_arrays(),
    openapi_extra=takes_arrays(),
)
async def search_vectors(
    request: Request,
    service: Serving,
    name: Name,
    k: Annotated[int, Query(ge=1, le=MAX_K, description="How many documents of each query.")] = 10,
    filter: Filtered = None,
    candidates: Annotated[
        int | None, Query(ge=1, le=MAX_CANDIDATES, description="As in a search: of each query.")
    ] = None,
    exact: Annotated[bool, Query(description="Score every document.")] = False,
    include: Annotated[
        tuple[Literal["values"], ...], Query(description="The parts of each hit beside id and score.")
    ] = (),
    timeout_ms: Annotated[int | None, Query(ge=1, le=MAX_TIMEOUT_MS, description="Of the whole request.")] = None,
) -> Response:
    """Many searches by vectors at once, without JSON: each finds what it would find alone, with the same scores.

    The body is an array of queries, as .npy (`application/x-npy`) or as an Arrow stream with a column `vector` (lists
    of numbers), without compression or dictionaries; `Accept` says which of both the answer is, by default the same.
    The answer as .npy is an array (queries, hits) of records: `id` (UTF-8, in zero bytes behind its end) and `score`;
    as Arrow a row a hit: `query`, `id`, `score`. Every query has as many hits: `k`, or all documents that match where
    they are fewer. The header `X-Sheaf-Search` has the rest of an answer, as JSON. `include=values`: with what the
    documents carry, `count` and `values` (as many as the most, zeros behind the count); as Arrow lists of vectors.
    """
    media = require_type(request, FORMS)
    accepted = _form(request, media)
    settings, limits = service.settings, service.settings.limits
    for field, value, most in (("k", k, limits.k), ("candidates", candidates or 0, limits.candidates)):
        if value > most:
            raise Invalid.at(f"/{field}", f"expected at most {most:,}, the limit of this server")
    condition = None if filter is None else parsed(filter, limits)
    until = time.monotonic() + min(settings.search_timeout_ms, timeout_ms or MAX_TIMEOUT_MS) / 1_000
    with service.lanes.memory.share() as take:
        content = bytearray()
        async for piece in pieces(request, settings.max_body_bytes, settings.body_timeout_s):
            take(len(piece))
            content += piece

        def work(collection: Collection) -> tuple[bytes, Table]:
            vectors = read_queries(content, media)
            if len(vectors) > settings.max_queries:
                raise Invalid.at(
                    "", f"a request has at most {settings.max_queries:,} queries here; got {len(vectors):,}"
                )
            if vectors.ndim == 3 and vectors.shape[1] > limits.query_vectors:
                raise Invalid.at("", f"a query has at most {limits.query_vectors:,} vectors here")
            with deadline(until):
                found = search_many(collection, Many(vectors, k, condition, candidates, exact, bool(include)))
            answer = written(found, accepted, settings.max_answer_bytes)
            keep_vectors(collection, vectors, found)
            return answer, found

        answer, found = await run(service.lanes.search, service.on, name, work)
    request.state.stages = dict(found.stages)
    said = {
        "generation": found.generation,
        "took_ms": round(found.took_ms, 3),
        "stages": {stage: round(ms, 3) for stage, ms in found.stages.items()},
        "warnings": [asdict(notice) for notice in found.warnings],
    }
    if found.reached is not None:
        said |= {"partial": found.reached.partial, "coverage": asdict(found.reached)}
    return held(service, answer, accepted, {"X-Sheaf-Search": json.dumps(said)})


def keep_vectors(collection: Collection, vectors: F32, found: Table) -> None:
    """``keep_queries`` of queries that came as an array."""
    collection.queries.record(
        Logged(None, own.reshape(-1, own.shape[-1]), Found("semantic", len(scores), scores[0], found.took_ms))
        for own, scores in zip(vectors, found.scores.tolist(), strict=True)
        if scores
    )


def _form(request: Request, sent: str) -> str:
    """The form of the answer: what is accepted first of those that there are. Raises Other (406)."""
    asked = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")]
    for media in asked:
        if media in FORMS:
            return media
        if media in ("*/*", "application/*"):
            return sent
    raise Other(
        406, "not_acceptable", f"the answer is {' or '.join(FORMS)}; {', '.join(asked)[:200]!r} accepts neither"
    )
