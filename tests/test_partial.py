"""Searches whose time runs out: what was scored is answered in its exact order, and how much that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
import pytest
from brute_force import ranking
from made import MakeCollection

from app.collection.collection import Collection
from app.compute.deadline import Deadline, deadline
from app.errors import TooSlow
from app.indexing.sealing import seal
from app.ingest import delete_ids, write_documents
from app.query.candidates import Chosen, find_candidates
from app.query.preparing import encode_queries
from app.query.ranking import FIRST
from app.search import Coverage, Query, SearchResult, search, search_batch
from app.types import F32, Document

DIM = 3
LOOKS = 60
"""More often than any search here looks at the time."""
Random = np.random.Generator


def after(looks: int) -> Deadline:
    """A deadline that is over once the time was looked at so often."""
    times = count(1)
    return Deadline(looks, lambda: next(times))


def vectors(random: Random, kind: str) -> F32:
    """Whole numbers, so that many scores are equal."""
    values = random.integers(-2, 3, (1 if kind == "dense" else 3, DIM)).astype(np.float32)
    values[~values.any(axis=1), 0] = 1
    return values


def filled(make: MakeCollection, kind: str) -> tuple[Collection, dict[str, F32]]:
    """Two segments and a tail, with deletions; and what stands."""
    collection = make(kind=kind, dim=DIM, similarity="inner_product")
    random = np.random.default_rng(3)
    stands = {f"d{i}": vectors(random, kind) for i in range(500)}
    every = list(stands)
    for names in (every[:200], every[200:400], every[400:]):
        write_documents(collection, [Document(name, vectors=stands[name]) for name in names])
        if names[-1] != every[-1]:
            seal(collection)
    delete_ids(collection, every[::7])
    return collection, {name: own for name, own in stands.items() if name not in every[::7]}


def first_of(collection: Collection, query: Query, scored: int) -> set[str]:
    """The ids of the best ``scored`` candidates, found without any deadline."""
    (encoded,) = encode_queries(collection, [query])
    with collection.snapshot() as snapshot:
        allowed = snapshot.allowed(None)
        if query.exact:
            chosen = [Chosen.all(mask) for mask in allowed]
        else:
            workers = collection.resources.workers
            chosen = find_candidates(
                snapshot.views, allowed, snapshot.stages, encoded, query.k, query.candidates, workers
            )
        seqs = [
            (place, number, int(view.part.seqs[row]))
            for number, (view, one) in enumerate(zip(snapshot.views, chosen, strict=True))
            for row, place in zip(one.rows.tolist(), one.places.tolist(), strict=True)
        ]
        best = [seq for *_, seq in sorted(seqs)[:scored]]
        return {document.id for document in snapshot.documents(best).values()}


def pairs(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in result.hits]


def outcomes(ask: Callable[[], SearchResult]) -> list[SearchResult | None]:
    """The outcome of a search whose time is over after 1, 2, ... looks; None is TooSlow."""
    found: list[SearchResult | None] = []
    for looks in range(LOOKS):
        try:
            with deadline(after(looks)):
                found.append(ask())
        except TooSlow:
            found.append(None)
    return found


@pytest.mark.parametrize("kind", ["multi_vector", "dense"])
@pytest.mark.parametrize("asked", [{"exact": True}, {"candidates": 150}])
def test_what_was_scored_is_ranked_exactly(
    make_collection: MakeCollection, kind: str, asked: dict[str, int | bool]
) -> None:
    collection, stands = filled(make_collection, kind)
    query = Query(vectors=vectors(np.random.default_rng(9), kind), k=20, partial=True, **asked)  # type: ignore[arg-type]
    assert query.vectors is not None
    whole = search(collection, query)
    assert whole.coverage is not None
    assert not whole.coverage.partial
    of = whole.coverage.of
    assert of == (len(stands) if query.exact else 150)
    assert whole.exact == query.exact
    found = outcomes(lambda: search(collection, query))
    scored = [0 if one is None or one.coverage is None else one.coverage.scored for one in found]
    # First nothing, then ever more, then everything.
    assert scored == sorted(scored)
    assert {0, FIRST, 2 * FIRST, of} <= set(scored)
    for one, some in zip(found, scored, strict=True):
        if one is None:
            continue
        assert one.coverage == Coverage(some, of)
        assert one.exact == (query.exact and some == of)
        among = first_of(collection, query, some)
        assert len(among) == some
        assert pairs(one) == ranking(
            [(name, own) for name, own in stands.items() if name in among], query.vectors, 20, collection.spec
        )
    assert pairs(found[-1] or whole) == pairs(whole)


def test_the_likeliest_come_first(make_collection: MakeCollection) -> None:
    """The first candidates hold more of the best than others would."""
    collection, _ = filled(make_collection, "dense")
    query = Query(vectors=np.array([[1, 2, -1]], np.float32), k=10, candidates=150, partial=True)
    best = search(collection, query)
    some = next(one for one in outcomes(lambda: search(collection, query)) if one is not None)
    assert some.coverage is not None
    assert some.coverage.scored == FIRST
    # Of one dense vector the first stage is exact, so the best candidates are the best documents.
    assert [hit.score for hit in some.hits] == [hit.score for hit in best.hits]


def test_who_does_not_allow_it_gets_all_or_nothing(make_collection: MakeCollection) -> None:
    collection, _ = filled(make_collection, "multi_vector")
    query = Query(vectors=np.ones((2, DIM), np.float32), k=10, exact=True)
    found = outcomes(lambda: search(collection, query))
    assert None in found
    whole = search(collection, query)
    assert whole.coverage is None
    assert all(one is None or pairs(one) == pairs(whole) for one in found)


def test_nothing_to_find_is_whole(make_collection: MakeCollection) -> None:
    collection = make_collection(kind="dense", dim=DIM)
    result = search(collection, Query(vectors=np.ones((1, DIM), np.float32), partial=True))
    assert (result.hits, result.coverage) == ([], Coverage(0, 0))


@pytest.mark.parametrize("allowing", [(True, True), (True, False), (False, True)])
def test_of_a_batch_what_was_begun_is_answered(make_collection: MakeCollection, allowing: Sequence[bool]) -> None:
    collection, _ = filled(make_collection, "multi_vector")
    one = np.ones((2, DIM), np.float32)
    queries = [Query(vectors=one, k=5, exact=True, partial=partial) for partial in allowing]
    whole = [pairs(result) for result in search_batch(collection, queries)]
    seen = set()
    for looks in range(LOOKS):
        try:
            with deadline(after(looks)):
                results = search_batch(collection, queries)
        except TooSlow:
            seen.add("none")
            continue
        told = [result.coverage is not None and result.coverage.partial for result in results]
        assert not any(partial and not allowed for partial, allowed in zip(told, allowing, strict=True))
        assert all(partial or pairs(r) == w for partial, r, w in zip(told, results, whole, strict=True))
        if results[1].coverage == Coverage(0, None):
            assert results[1].hits == []
            seen.add("not begun")
        seen.add("some" if any(told) else "all")
    assert seen >= {"none", "all"}
    assert ("not begun" in seen) == allowing[1]
    assert ("some" in seen) == allowing[1]
