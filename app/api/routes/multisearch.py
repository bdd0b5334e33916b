"""Searching several collections at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from app import search as engine
from app.api.answers import encoded, held, hit_answer, warned
from app.api.edge.access import Caller, require
from app.api.edge.bodies import READ, Route, examples
from app.api.edge.openapi import gives
from app.api.edge.routing import require_name
from app.api.observe.served import note_searches
from app.api.routes.searches import encodes, keep_queries, require_few, to_query, until_of
from app.api.schemas.multisearch import (
    MultiBatchAnswer,
    MultiHitAnswer,
    MultiSearchAnswer,
    MultiSearchBatch,
    MultiSearchRequest,
    SearchedAnswer,
    given,
)
from app.api.schemas.results import facet_answers
from app.api.service import Lane, Service, Serving, run
from app.collection.collection import Collection
from app.compute.deadline import deadline
from app.encoders.once import encoded_once
from app.errors import Invalid, TooSlow
from app.keys import ApiKey
from app.results import merging
from app.results.merging import Merge, Placed
from app.search import Coverage, SearchResult
from app.types import Room

router = APIRouter(tags=["search"], route_class=Route)

_TWO = {"collections": ["papers", "notes"], "query": "read a zip archive", "k": 5}
_RANKED = {"collections": ["papers", "notes"], "query": "send an email", "merge": "reciprocal_rank", "include": []}


@dataclass(frozen=True)
class _Asked:
    """One search: each collection under the name that it was asked by, with the query that it is asked."""

    body: MultiSearchRequest
    collections: Mapping[str, Collection]
    queries: Mapping[str, engine.Query]

    @classmethod
    def of(cls, service: Service, body: MultiSearchRequest, at: str) -> _Asked:
        """Raises NotFound, Damaged, Invalid."""
        found: dict[str, Collection] = {}
        for i, name in enumerate(body.collections):
            collection = service.catalogue.get(name)
            for other, one in found.items():
                if one.name == collection.name:
                    raise Invalid.at(f"{at}/collections/{i}", f"{name} is the collection that {other} is, too")
            found[name] = collection
        queries = {}
        for name, collection in found.items():
            query = to_query(body, collection.spec, at)
            include = query.include | {"metadata"} if query.sort else query.include
            facets = merging.widened(query.facets)
            queries[name] = replace(query, k=query.offset + query.k, offset=0, include=include, facets=facets)
        return cls(body, found, queries)

    def merge(self, at: str) -> Merge | None:
        """How their hits become one list. Raises Invalid."""
        modes = [query.mode for query in self.queries.values()]
        if self.body.sort or "browse" in modes:
            if self.body.merge is not None:
                raise Invalid.at(f"{at}/merge", "without a query documents have no scores, and no ranks by them")
            return None
        alike = merging.comparable((one.spec for one in self.collections.values()), modes)
        if self.body.merge == "score" and not alike:
            raise Invalid.at(
                f"{at}/merge",
                "scores are comparable in the mode semantic or dense, of collections of one encoder, kind, dim and "
                "similarity; merge by reciprocal_rank",
            )
        return self.body.merge or ("score" if alike else "reciprocal_rank")


def _search(
    service: Service, body: MultiSearchRequest, at: str, room: Room
) -> tuple[MultiSearchAnswer, list[SearchResult]]:
    """One after the other, each of one moment of its own. Raises NotFound, Damaged, Invalid, TooSlow,
    AnswerTooLarge."""
    started = time.perf_counter()
    asked = _Asked.of(service, body, at)
    by = asked.merge(at)
    results: dict[str, SearchResult] = {}
    for name, collection in asked.collections.items():
        query = asked.queries[name]
        try:
            results[name] = service.within(collection, lambda one, query=query: engine.search(one, query, room))  # type: ignore[misc]
        except TooSlow:
            if not (query.partial and any(result.hits for result in results.values())):
                raise
            generation = collection.published.generation.number
            results[name] = SearchResult([], 0.0, {}, False, generation, Coverage(0, None), mode=query.mode)
        keep_queries(collection, [query], [results[name]])
    answer = _answer(asked, by, results)
    answer.took_ms = (time.perf_counter() - started) * 1e3
    return answer, list(results.values())


def _answer(asked: _Asked, by: Merge | None, results: Mapping[str, SearchResult]) -> MultiSearchAnswer:
    body, every = asked.body, list(results.values())
    keys = next(iter(asked.queries.values())).sort
    placed = merging.merged({name: result.hits for name, result in results.items()}, by, keys)
    hits = [_hit(asked, one) for one in placed[body.offset : body.offset + body.k]]
    facets = None
    if body.facets and all(result.facets for result in every):
        facets = facet_answers(merging.facets_of(every, body.facets))
    return MultiSearchAnswer(
        hits=hits,
        took_ms=0.0,
        exact=all(result.exact for result in every),
        collections=[_searched(name, result) for name, result in results.items()],
        **given(merge=by, total=merging.total_of(every), facets=facets),
    )


def _hit(asked: _Asked, one: Placed) -> MultiHitAnswer:
    form = asked.collections[one.collection].spec.kind, asked.body.vectors_format
    hit = one.hit if "metadata" in asked.body.include else replace(one.hit, metadata=None)
    shown = hit_answer(replace(hit, score=one.score), form)
    own = {name: getattr(shown, name) for name in shown.model_fields_set}
    return MultiHitAnswer(**own, collection=one.collection, own_score=one.hit.score, own_rank=one.rank)


def _searched(name: str, result: SearchResult) -> SearchedAnswer:
    coverage = result.coverage
    found = SearchedAnswer(
        collection=name,
        mode=result.mode,
        took_ms=result.took_ms,
        stages=result.stages,
        exact=result.exact,
        generation=result.generation,
        **given(
            total=result.total,
            weights=None if result.weights is None else dict(result.weights),
            partial=None if coverage is None else coverage.partial,
            coverage=coverage,
        ),
    )
    return warned(found, result.warnings)


async def _lane(service: Service, caller: ApiKey, searches: Sequence[MultiSearchRequest]) -> Lane:
    """Of the first encoder that is needed. Raises NotAllowed before it tells whether a collection is there."""
    for body in searches:
        for name in body.collections:
            require(caller, name)
            require_name(name)
    for body in searches:
        if encodes(body):
            for name in body.collections:
                lane = await service.lane(name, "search", encodes=True)
                if lane is not service.lanes.search:
                    return lane
    return service.lanes.search


@router.post("/v1/search", responses=gives(MultiSearchAnswer))
async def search_collections(
    request: Request,
    service: Serving,
    caller: Caller,
    body: Annotated[MultiSearchRequest, READ, examples(two=_TWO, ranked=_RANKED)],
) -> Response:
    """The best documents of several collections, in one list."""
    until = until_of(service, [body])

    def work() -> bytes:
        with deadline(until), encoded_once():
            answer, results = _search(service, body, "", service.room())
        note_searches(request, results)
        return encoded(answer)

    lane = await _lane(service, caller, [body])
    return held(service, await run(lane, work))


@router.post("/v1/search/batch", responses=gives(MultiBatchAnswer))
async def search_collections_batch(
    request: Request,
    service: Serving,
    caller: Caller,
    body: Annotated[MultiSearchBatch, READ, examples(two={"searches": [_TWO, _RANKED]})],
) -> Response:
    """Several such searches in one request."""
    require_few(service, body.searches)
    until = until_of(service, body.searches)

    def work() -> bytes:
        room = service.room()
        with deadline(until), encoded_once():
            made = [_search(service, one, f"/searches/{i}", room) for i, one in enumerate(body.searches)]
        note_searches(request, [result for _, results in made for result in results])
        return encoded(MultiBatchAnswer(results=[answer for answer, _ in made]))

    lane = await _lane(service, caller, body.searches)
    return held(service, await run(lane, work))
