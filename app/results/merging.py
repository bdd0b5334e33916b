"""One list of the hits of several collections.

A score says something beside others of its collection alone: BM25 counts that collection's words, a hybrid score is
standardised over its candidates. So lists are merged by ranks, 1 / (60 + rank) (reciprocal rank fusion: Cormack,
Clarke, Büttcher 2009), but where scores are inner products of vectors of one encoder: these are the same numbers
whichever collection a document is in, and are compared as they are. By ranks lists take turns, so a collection that has
nothing for a query has its say too.

Every order here keeps that of each list, so that the first hits of all are made of the first of each, and a page is a
piece of the one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from app.collection.spec import CollectionSpec
from app.fusion.formulas import RANK_CONSTANT
from app.query.asked import Mode, SearchResult, Total
from app.results.facets import MOST_VALUES, Counted, Facet, FacetCount
from app.results.sorting import SortKey, sortable
from app.results.values import Typed, typed
from app.types import Hit

Merge: TypeAlias = Literal["score", "reciprocal_rank"]
BY_VECTORS: Final[Sequence[Mode]] = ("semantic", "dense")


@dataclass(frozen=True, slots=True)
class Placed:
    """A hit in the list of all. collection: as it was asked for. rank: in its own list, from 1. score: that the list of
    all is ordered by; the hit has its own."""

    collection: str
    hit: Hit
    rank: int
    score: float


def comparable(specs: Iterable[CollectionSpec], modes: Iterable[Mode]) -> bool:
    """Whether scores of these collections, each searched by its mode, are the same numbers."""
    kinds = {(spec.model, spec.kind, spec.dim, spec.similarity, spec.options) for spec in specs}
    return len(kinds) == 1 and len(modes := set(modes)) == 1 and modes <= set(BY_VECTORS)


def merged(lists: Mapping[str, Sequence[Hit]], by: Merge | None, keys: Sequence[SortKey] = ()) -> list[Placed]:
    """All hits in one order; equal ones by the collections' names, then by the bytes of their ids.

    lists: by collection. by: None where documents have no scores, which then come by their ids. keys: the fields that
    every list is sorted by, whose values the hits' metadata have.
    """
    placed = [
        Placed(name, hit, rank, 1 / (RANK_CONSTANT + rank) if by == "reciprocal_rank" else hit.score)
        for name, hits in lists.items()
        for rank, hit in enumerate(hits, 1)
    ]
    # By the first of them last: a sort keeps the order of what is equal.
    if keys or by is None:
        placed.sort(key=lambda one: (one.hit.id.encode(), one.collection))
        for key in reversed(keys):
            placed.sort(key=lambda one, key=key: sortable(_value(one.hit, key), key), reverse=key.descending)  # type: ignore[misc]
        return placed
    return sorted(placed, key=lambda one: (-one.score, one.collection, one.hit.id.encode()))


def _value(hit: Hit, key: SortKey) -> Typed | None:
    value = (hit.metadata or {}).get(key.field)
    return None if value is None or isinstance(value, list) else typed(value)


def total_of(results: Iterable[SearchResult]) -> Total | None:
    """Of all; None where that of one is not known."""
    totals = [result.total for result in results]
    known = [total for total in totals if total is not None]
    if len(known) < len(totals):
        return None
    return Total(sum(total.count for total in known), all(total.exact for total in known))


def widened(facets: Sequence[Facet]) -> tuple[Facet, ...]:
    """The facets that each collection is to count, so that the sums are those of all."""
    return tuple(replace(facet, terms=MOST_VALUES) if facet.terms else facet for facet in facets)


def facets_of(results: Sequence[SearchResult], facets: Sequence[Facet]) -> dict[str, Counted]:
    """By field, of all results: exact where no collection has more than 1,000 values, of ``widened`` facets."""
    return {facet.field: _summed([one.facets[facet.field] for one in results], facet) for facet in facets}


def _summed(counted: Sequence[Counted], facet: Facet) -> Counted:
    missing = sum(one.missing for one in counted)
    if facet.ranges:
        counts = [
            replace(same[0], count=sum(one.count for one in same))
            for same in zip(*(one.counts for one in counted), strict=True)
        ]
        return Counted(counts, len(counts), missing)
    sums: dict[Typed, int] = {}
    for one in counted:
        for found in one.counts:
            assert found.value is not None, "terms and dates have values"
            sums[typed(found.value)] = sums.get(typed(found.value), 0) + found.count
    if facet.dates:
        best = sorted(sums)[-MOST_VALUES:]
    else:
        best = sorted(sums, key=lambda value: (-sums[value], value))[: facet.terms]
    distinct = max([len(sums), *(one.distinct for one in counted)])
    return Counted([FacetCount(sums[value], value[1]) for value in best], distinct, missing)
