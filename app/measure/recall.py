"""Recall, measured: what share of the exact top k the approximate path also returns, and what each costs.

Queries are given, or those that were searched, where they are kept (``app.store.query_log``), or drawn from the
collection itself: the title of a document, or its first sentence; where callers bring vectors, some vectors of one
passage. A query drawn from a document leaves that document out of both rankings, for finding oneself is no achievement.
Drawn queries repeat for the same generation and the same log.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from app.collection.collection import Collection
from app.collection.part import scored_vectors
from app.collection.view import Snapshot
from app.errors import Conflict
from app.measure.truth import best_in_float32
from app.query.preparing import encode_queries
from app.search import Query, SearchResult, search_encoded
from app.types import Document

SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
T = TypeVar("T")

LOOKED_AT: Final = 4_096
"""Documents that are looked at, at most, for queries that differ; at least eight times as many as are wanted."""
DRAWN_CHARACTERS: Final = 300
"""Of a drawn text; queries are short."""
DRAWN_VECTORS: Final = 32
"""Vectors of a query that is drawn from callers' vectors: as many as a long text query has."""


@dataclass(frozen=True, slots=True)
class Recall:
    """drawn: whether no queries were given; logged: how many of them had been searched. recall: mean over queries,
    against exact search over what is stored; recall_distinct: the same where documents of one score count as one, since
    which of many equal ones is returned says nothing; worst: the lowest of one. recall_float32:
    the same mean against exact search in float32 over vectors before they were coded, None where not asked for.
    Times are medians in milliseconds, encoding left out.
    """

    k: int
    queries: int
    drawn: bool
    logged: int
    candidates: int
    recall: float
    recall_distinct: float
    worst: float
    recall_float32: float | None
    approximate_ms: float
    exact_ms: float
    generation: int


def measure_recall(
    collection: Collection,
    queries: Sequence[Query] | int,
    k: int = 10,
    candidates: int | None = None,
    *,
    float32: bool = False,
) -> Recall:
    """Searches twice for each query, approximately and exactly.

    queries: given ones, or how many to draw. float32: also hold it to vectors before they were coded, which reads or
    encodes the whole collection. Raises Conflict for a collection without documents, and what ``search``
    raises.
    """
    drawn = draw_queries(collection, queries) if isinstance(queries, int) else Drawn.given(queries)
    owners, asked = drawn.owners, drawn.queries
    # One more than k, of which the query's own document is left out.
    encoded = encode_queries(collection, asked)
    ready = [
        replace(query, k=k if owner is None else k + 1, candidates=candidates, include=frozenset())
        for owner, query in zip(owners, asked, strict=True)
    ]
    shares, distinct, approximate, exact = [], [], [], []
    ids: list[set[str]] = []
    generation = 0
    for owner, query, vectors in zip(owners, ready, encoded, strict=True):
        found = search_encoded(collection, replace(query, exact=False), vectors)
        truth = search_encoded(collection, replace(query, exact=True), vectors)
        ids.append(_best(found, owner, k))
        shares.append(_share(ids[-1], _best(truth, owner, k)))
        distinct.append(_share(_scores(found, owner, k), _scores(truth, owner, k)))
        approximate.append(found.took_ms)
        exact.append(truth.took_ms)
        generation = truth.generation
    before_coding = None
    if float32:
        best = best_in_float32(collection, encoded, k + 1)
        wanted = [_first(names, owner, k) for names, owner in zip(best, owners, strict=True)]
        before_coding = statistics.fmean(map(_share, ids, wanted))
    return Recall(
        k,
        len(ready),
        isinstance(queries, int),
        drawn.logged,
        max(candidates or collection.published.stage.width, k),
        statistics.fmean(shares),
        statistics.fmean(distinct),
        min(shares),
        before_coding,
        statistics.median(approximate),
        statistics.median(exact),
        generation,
    )


@dataclass(frozen=True, slots=True)
class Drawn:
    """owners: for each query the id of the document that it was drawn from, None for the others. logged: how many were
    searched before, the first ones.
    """

    owners: list[str | None]
    queries: list[Query]
    logged: int = 0

    @classmethod
    def given(cls, queries: Sequence[Query]) -> Drawn:
        return cls([None] * len(queries), list(queries))


def draw_queries(collection: Collection, count: int) -> Drawn:
    """At most ``count``: of those that were searched; where they are fewer, one each of documents that differ."""
    with collection.snapshot() as snapshot:
        random = np.random.default_rng(snapshot.generation)
        logged = _logged(collection)
        logged = [logged[place] for place in random.permutation(len(logged))[:count].tolist()]
        seqs = np.concatenate([np.zeros(0, np.int64), *(view.part.seqs[view.alive] for view in snapshot.views)])
        if not len(seqs):
            raise Conflict("the collection has no documents to draw queries from", code="collection_empty")
        random = np.random.default_rng(snapshot.generation)
        made: dict[str | bytes, tuple[str, Query]] = {}
        wanted = count - len(logged)
        order = random.permutation(np.sort(seqs))[: max(LOOKED_AT, 8 * wanted)].tolist()
        # Queries that differ: of many equal documents one is enough, and leaves room for the odd ones among them.
        while order and len(made) < wanted:
            some, order = order[: wanted - len(made)], order[wanted - len(made) :]
            documents = snapshot.documents(some)
            for seq in some:
                query = _query(collection, snapshot, seq, documents[seq])
                key = query.text if query.vectors is None else query.vectors.tobytes()
                made.setdefault(key or "", (documents[seq].id, query))
    owners: list[str | None] = [owner for owner, _ in made.values()]
    queries = [query for _, query in made.values()]
    return Drawn([*[None] * len(logged), *owners], [*logged, *queries], len(logged))


def _logged(collection: Collection) -> list[Query]:
    """The distinct queries that were searched and fit the collection."""
    texts, matrices = {}, {}
    for one in collection.queries.all():
        if one.vectors is None and one.text is not None and collection.spec.model is not None:
            texts[one.text] = Query(text=one.text)
        elif one.vectors is not None and one.vectors.shape[1] == collection.spec.dim:
            matrices[one.vectors.tobytes()] = Query(vectors=one.vectors)
    return [*texts.values(), *matrices.values()]


def _query(collection: Collection, snapshot: Snapshot, seq: int, document: Document) -> Query:
    if collection.spec.model is not None:
        text = document.title.strip() or SENTENCE.split(document.text.strip(), maxsplit=1)[0]
        return Query(text=text[:DRAWN_CHARACTERS])
    view, place = snapshot.published.locate([seq])[seq]
    row, _ = view.part.owners.span(place, place + 1)
    return Query(vectors=scored_vectors(view.part, row)[:DRAWN_VECTORS].copy())


def _scores(result: SearchResult, owner: str | None, k: int) -> set[float]:
    """The distinct scores of the first k, the query's own document left out."""
    return set([hit.score for hit in result.hits if hit.id != owner][:k])


def _share(found: set[T], wanted: set[T]) -> float:
    return len(wanted & found) / len(wanted) if wanted else 1.0


def _best(result: SearchResult, owner: str | None, k: int) -> set[str]:
    return _first([hit.id for hit in result.hits], owner, k)


def _first(ids: Sequence[str], owner: str | None, k: int) -> set[str]:
    return set([identifier for identifier in ids if identifier != owner][:k])
