"""Recall, measured: what share of the exact top k the approximate path also returns, and what each costs.

Queries are given, or drawn from the collection itself (``app.measure.drawing``), beside them some of each length, since
the first stage is worse at short ones. A query drawn from a document leaves that document out of both rankings, for
finding oneself is no achievement.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from app.collection.collection import Collection
from app.collection.layers import TOKENS, scored
from app.errors import Invalid
from app.measure.drawing import Drawn, draw_queries, draw_runs
from app.measure.truth import best_in_float32
from app.query.candidates import width_for
from app.query.encoded import EncodedQuery
from app.query.preparing import encode_queries
from app.search import Query, SearchResult, search_encoded

LENGTHS: Final = (1, 3, 12)
"""Words of the queries that recall is measured with by length: what is typed into a box, and a whole question."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OfLength:
    """Of texts of one length. words: of each. vectors, candidates: of each, at the median: a text of few vectors has
    more candidates. recall, worst and times: as of a ``Recall``."""

    words: int
    queries: int
    vectors: float
    candidates: float
    recall: float
    worst: float
    approximate_ms: float
    exact_ms: float


@dataclass(frozen=True, slots=True)
class Recall:
    """drawn: whether no queries were given; logged: how many of them had been searched. recall: mean over queries,
    against exact search over what is stored; recall_distinct: the same where documents of one score count as one, since
    which of many equal ones is returned says nothing; worst: the lowest of one. recall_float32:
    the same mean against exact search in float32 over vectors before they were coded, None where not asked for.
    Times are medians in milliseconds, encoding left out. by_length: the same of drawn texts of so many words.
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
    by_length: list[OfLength] = field(default_factory=list)


def measure_recall(
    collection: Collection,
    queries: Sequence[Query] | int,
    k: int = 10,
    candidates: int | None = None,
    *,
    float32: bool = False,
    lengths: Sequence[int] = (),
) -> Recall:
    """Searches twice for each query, approximately and exactly.

    queries: given ones, or how many to draw. float32: also hold it to vectors before they were coded, which reads or
    encodes the whole collection. lengths: words of texts to draw as well, as many of each as there are queries, or as
    were to be drawn. Raises Conflict for a collection without documents, Invalid for lengths where no text is encoded,
    PartsUnreached where nobody answers for some segments, and what ``search`` raises.
    """
    if lengths and collection.spec.model is None:
        raise Invalid.at("/lengths", "the collection has no encoder, so its queries have no words")
    drawn = draw_queries(collection, queries) if isinstance(queries, int) else Drawn.given(queries)
    found = _Searched.of(collection, drawn, k, candidates)
    before_coding = None
    if float32:
        best = best_in_float32(collection, found.encoded, k + 1)
        wanted = [_first(names, owner, k) for names, owner in zip(best, drawn.owners, strict=True)]
        before_coding = statistics.fmean(map(_share, found.ids, wanted))
    count = queries if isinstance(queries, int) else len(queries)
    return Recall(
        k,
        len(found.shares),
        isinstance(queries, int),
        drawn.logged,
        max(candidates or collection.published.stage.width, k),
        statistics.fmean(found.shares),
        statistics.fmean(found.distinct),
        min(found.shares),
        before_coding,
        statistics.median(found.approximate),
        statistics.median(found.exact),
        found.generation,
        [one for words in lengths if (one := recall_of_length(collection, words, count, k, candidates)) is not None],
    )


def recall_of_length(collection: Collection, words: int, count: int, k: int, candidates: int | None) -> OfLength | None:
    """Of at most ``count`` drawn texts of so many words; None where no document has so many."""
    drawn = draw_runs(collection, count, words)
    if not drawn.queries:
        return None
    found, now = _Searched.of(collection, drawn, k, candidates), collection.published
    vectors = [len(query.vectors) for query in found.encoded]
    tokens = scored(collection.spec) == TOKENS
    widths = [max(candidates or (width_for(now.stage, own) if tokens else now.stage.width), k) for own in vectors]
    return OfLength(
        words,
        len(drawn.queries),
        statistics.median(vectors),
        statistics.median(min(width, now.passages) for width in widths),
        statistics.fmean(found.shares),
        min(found.shares),
        statistics.median(found.approximate),
        statistics.median(found.exact),
    )


@dataclass(frozen=True, slots=True)
class _Searched:
    """Queries that were searched approximately and exactly. ids: of each the approximate best. shares, distinct: of
    each its recall, and where documents of one score count as one. approximate, exact: milliseconds of each."""

    encoded: Sequence[EncodedQuery]
    ids: list[set[str]]
    shares: list[float]
    distinct: list[float]
    approximate: list[float]
    exact: list[float]
    generation: int

    @classmethod
    def of(cls, collection: Collection, drawn: Drawn, k: int, candidates: int | None) -> _Searched:
        made = cls(
            encode_queries(collection, drawn.queries), [], [], [], [], [], collection.published.generation.number
        )
        for owner, query, vectors in zip(drawn.owners, drawn.queries, made.encoded, strict=True):
            # One more than k, of which the query's own document is left out.
            wanted = k if owner is None else k + 1
            ready = replace(query, k=wanted, exact=False, candidates=candidates, include=frozenset())
            with collection.snapshot() as moment:
                found = search_encoded(collection, ready, vectors, moment=moment)
                truth = search_encoded(collection, replace(ready, exact=True), vectors, moment=moment)
            made.ids.append(_best(found, owner, k))
            made.shares.append(_share(made.ids[-1], _best(truth, owner, k)))
            made.distinct.append(_share(_scores(found, owner, k), _scores(truth, owner, k)))
            made.approximate.append(found.took_ms)
            made.exact.append(truth.took_ms)
        return made


def _scores(result: SearchResult, owner: str | None, k: int) -> set[float]:
    """The distinct scores of the first k, the query's own document left out."""
    return set([hit.score for hit in result.hits if hit.id != owner][:k])


def _share(found: set[T], wanted: set[T]) -> float:
    return len(wanted & found) / len(wanted) if wanted else 1.0


def _best(result: SearchResult, owner: str | None, k: int) -> set[str]:
    return _first([hit.id for hit in result.hits], owner, k)


def _first(ids: Sequence[str], owner: str | None, k: int) -> set[str]:
    return set([identifier for identifier in ids if identifier != owner][:k])
