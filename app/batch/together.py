"""Searches of several callers that stand in line together: each is answered as it would be alone, from one moment.

What most dense searches are, one vector and nothing that looks further than the best ``k``, is ranked in one pass over
the parts (app.batch.ranking), whose order and scores are those of one query after the other, to the bit. All else of an
answer, and every other search, is made as it is alone (app.search).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.batch.arrays import Many
from app.batch.ranking import fits
from app.batch.search import best_of
from app.collection.collection import Collection
from app.collection.view import Snapshot
from app.compute.deadline import Clock, deadline
from app.errors import Closed, Damaged, SheafError
from app.query.asked import Query, SearchResult
from app.query.encoded import EncodedQuery
from app.query.preparing import encode_queries
from app.query.ranking import Known, Ranked
from app.search import search, search_encoded

FEWEST: Final = 4
"""Queries that are worth a thread of their own: a millisecond each."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """until: when it is to be answered, of ``time.monotonic()``; None is no limit."""

    query: Query
    until: float | None = None


def is_plain(query: Query) -> bool:
    """Whether a search by one vector asks for nothing but its best documents, so that others may share its pass."""
    further = (query.text, query.sparse, query.like, query.scorer, query.filter, query.ids, query.min_score)
    ordered = (query.rerank, query.diversity, query.group_by, query.cursor, query.weights)
    return (
        query.vectors is not None
        and query.mode == "semantic"
        and not any(one is not None for one in (*further, *ordered))
        and not (query.sort or query.boosts or query.facets or query.explain or query.partial or query.exact)
    )


def have_a_pass(collection: Collection) -> bool:
    """Whether searches by one vector share a pass now: a document is one vector, and all of them are here."""
    views = collection.published.views
    # Elsewhere, or where a reader's copy brings what is read, each waits for others; in a thread of its own.
    here = collection.resources.settings.cache_bytes is None and all(view.part.elsewhere is None for view in views)
    return here and fits(collection.spec, views)


def own(error: SheafError) -> SheafError:
    """An error that is of one search alone. Raises the others: what a collection has lost, and that it is closed."""
    if isinstance(error, Damaged | Closed):
        raise error
    return error


def search_each(collection: Collection, waiting: Sequence[Waiting]) -> list[SearchResult | SheafError]:
    """Of each its answer, or why it has none. Raises what concerns all of them (Damaged, Closed)."""
    if len(waiting) == 1:
        return [_alone(collection, waiting[0])]
    found: dict[int, SearchResult | SheafError] = {}
    plain: dict[int, EncodedQuery] = {}
    clock = Clock()
    with clock.stage("encode"):
        for i, one in enumerate(waiting):
            try:
                # One whose time is over costs the others nothing.
                with deadline(one.until):
                    if is_plain(one.query):
                        (plain[i],) = encode_queries(collection, [one.query])
            except SheafError as error:
                found[i] = own(error)
    with collection.snapshot() as snapshot:
        known: dict[int, Known] = {}
        here = all(view.part.elsewhere is None for view in snapshot.views)
        if len(plain) > 1 and here and fits(collection.spec, snapshot.views):
            known = _ranked(collection, snapshot, {i: waiting[i] for i in plain}, plain)
        for i in known:
            try:
                with deadline(waiting[i].until):
                    found[i] = search_encoded(
                        collection,
                        waiting[i].query,
                        plain[i],
                        clock.stages["encode_ms"],
                        moment=snapshot,
                        known=known[i],
                    )
            except SheafError as error:
                found[i] = own(error)
    return [found[i] if i in found else _alone(collection, one) for i, one in enumerate(waiting)]


def _alone(collection: Collection, one: Waiting) -> SearchResult | SheafError:
    try:
        with deadline(one.until):
            return search(collection, one.query)
    except SheafError as error:
        return own(error)


def _ranked(
    collection: Collection, snapshot: Snapshot, waiting: dict[int, Waiting], encoded: dict[int, EncodedQuery]
) -> dict[int, Known]:
    """The best documents of those that ask for equally many of equally many candidates, where there are several."""
    alike: dict[tuple[int, int | None], list[int]] = {}
    for i, one in waiting.items():
        alike.setdefault((one.query.offset + one.query.k, one.query.candidates), []).append(i)
    found: dict[int, Known] = {}
    for (reach, width), some in alike.items():
        if len(some) == 1:
            continue
        clock = Clock()
        queries = np.concatenate([encoded[i].vectors for i in some])
        each = [collection.spec.measure.offsets(encoded[i].vectors) for i in some]
        offsets = np.array([0.0 if one is None else float(one[0]) for one in each])
        # Of whoever has most time: who has less is told so after it, and takes the others' pass from nobody.
        limits = [waiting[i].until for i in some]
        until = None if None in limits else max(limit for limit in limits if limit is not None)
        try:
            with deadline(until), clock.stage("candidates"), collection.resources.workers.turn():
                block = best_of(collection, snapshot, queries, offsets, Many(queries, reach, None, width), FEWEST)
        except SheafError as error:
            # What one of them meets, such as vectors that a store does not give now; each finds out for itself.
            own(error)
            continue
        columns = (column.tolist() for column in (block.views, block.rows, block.seqs, block.scores))
        for i, ranked in zip(some, _lists(*columns), strict=True):
            found[i] = Known(ranked, clock.stages["candidates_ms"])
    return found


def _lists(
    views: list[list[int]], rows: list[list[int]], seqs: list[list[int]], scores: list[list[float]]
) -> Iterator[list[Ranked]]:
    for own in zip(views, rows, seqs, scores, strict=True):
        yield [Ranked(*one) for one in zip(*own, strict=True)]
