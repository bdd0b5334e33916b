"""Candidates: which passages of a snapshot are worth an exact score.

Each retriever of a first stage (FDEs, pooled vectors) ranks all its parts by its own scores; those of different ones
are never compared: their lists are taken in turn until there are enough. Nor are those of different stages (the
segments' may be learned, the tail's needs no data): each has a width of its own, and rescoring merges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from app.collection.first_stage import FirstStage
from app.collection.part import Part, View
from app.compute.workers import Workers
from app.query.encoded import EncodedQuery
from app.query.gathering import gather
from app.query.retrievers import Retriever, retrievers
from app.types import F32, I64, Mask
from app.vector_index.protocol import Candidates

OWNER: Final = 2**40
"""More than a part has rows, so that a view and a row make one number."""

DEEPEST: Final = 2**16
"""Rows of one ranking that are looked at, at most, for those that differ in score."""

SIDE_BY_SIDE: Final = 50_000
"""Rows from which the retrievers are asked by a thread each: about a millisecond of each."""


FEW: Final = 2_048
"""Rows of one vector each that are scored one and all: in half a millisecond, without which an index finds nothing."""
FEW_SEGMENTS: Final = 50_000
"""The same of a sequence, of which each segment of a query would look for others: seven hours at two a second in 10 to
20 ms (docs/decisions.md)."""
FEW_VECTORS: Final = 20
"""Vectors of a text below which it needs more candidates than the width: their number grows with the square."""
WIDEST: Final = 16
"""Times the width, at most."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Of one view. rows: ascending, each worth an exact score. places: for each row, how many of its stage are better
    candidates than it, so that the best can be scored first."""

    rows: I64
    places: I64

    @classmethod
    def all(cls, allowed: Mask) -> Chosen:
        """Every allowed row, none better than another: in their own order."""
        rows = np.flatnonzero(allowed).astype(np.int64)
        return cls(rows, np.arange(len(rows)))

    def only(self, kept: Mask) -> Chosen:
        """The rows that are kept, (n,)."""
        return Chosen(self.rows[kept], self.places[kept])

    def documents(self, view: View) -> tuple[I64, I64]:
        """The documents that own the rows, ascending, and the place of the best row of each."""
        documents, firsts = np.unique(view.part.owners.of(self.rows), return_index=True)
        if not len(documents):
            return documents, documents
        return documents, np.minimum.reduceat(self.places, firsts)

    def with_openings(self, view: View) -> Chosen:
        """And the first row of each document that owns one of them, in the place of its best, before it."""
        owners = view.part.owners
        if owners.starts is None or not len(self.rows):
            return self
        documents, best = self.documents(view)
        openings = owners.firsts[documents]
        rows = np.union1d(self.rows, openings)
        places = np.empty(len(rows), np.int64)
        places[np.searchsorted(rows, self.rows)] = self.places
        places[np.searchsorted(rows, openings)] = best
        return Chosen(rows, places)


def by_pooled(stages: Sequence[FirstStage]) -> list[FirstStage]:
    """The same first stages with the pooled vector as their one source."""
    made = {id(stage): replace(stage, sources=("pooled",), encoding=None) for stage in stages}
    return [made[id(stage)] for stage in stages]


def width_for(stage: FirstStage, vectors: int) -> int:
    """Candidates of a text of so many vectors.

    A sum of few maxima is less like the one inner product that stands for it: with a width of 200, recall@10 of one
    word of a title (5 vectors with those at its ends) was .85, of three words .91, of twelve .99 (docs/decisions.md).
    """
    factor = min(max(1.0, (FEW_VECTORS / vectors) ** 2), WIDEST)
    return math.ceil(stage.width * factor)


def for_length(stages: Sequence[FirstStage], vectors: int) -> list[FirstStage]:
    """The same first stages, wider for a text of few vectors."""
    made = {id(stage): replace(stage, width=width_for(stage, vectors)) for stage in stages}
    return [made[id(stage)] for stage in stages]


def find_candidates(
    views: Sequence[View],
    allowed: Sequence[Mask],
    stages: Sequence[FirstStage],
    query: EncodedQuery,
    least: int,
    width: int | None,
    workers: Workers,
    alike: int | None = None,
) -> list[Chosen]:
    """For each view the rows to rescore: of the views of one stage exactly min(width, allowed rows) in all.

    allowed: for each view the rows (size,). stages: for each view. width: None takes each stage's own; never less than
    ``least``. Where no more rows are allowed than the width they all are candidates, so a selective filter never gives
    a short page. alike: how many rows of one score come before others do, at most a third of the width, or ten; None
    takes ``least``.
    """
    found: dict[int, Chosen] = {}
    for stage in {id(stage): stage for stage in stages}.values():
        mine = [i for i, other in enumerate(stages) if other is stage]
        masks = [allowed[i] for i in mine]
        wanted = max(width or stage.width, least)
        first = least if alike is None else min(alike, max(10, wanted // 3))
        found.update(
            zip(
                mine,
                _wide_enough([views[i] for i in mine], masks, stage, query, wanted, least, first, workers),
                strict=True,
            )
        )
    return [found[i] for i in range(len(views))]


def _wide_enough(
    views: Sequence[View],
    allowed: Sequence[Mask],
    stage: FirstStage,
    query: EncodedQuery,
    width: int,
    least: int,
    alike: int,
    workers: Workers,
) -> list[Chosen]:
    """``width`` rows, or as many more as it takes until ``least`` documents own some: one may own many of the best."""
    there = sum(np.count_nonzero(mask) for mask in allowed)
    while width < there:
        chosen = _nearest(views, allowed, stage, query, width, alike, workers)
        if _documents(views, chosen) >= least:
            return chosen
        width *= 2
    return [Chosen.all(mask) for mask in allowed]


def _documents(views: Sequence[View], chosen: Sequence[Chosen]) -> int:
    """How many documents own the chosen rows."""
    return sum(
        len(one.rows) if view.part.owners.starts is None else len(np.unique(view.part.owners.of(one.rows)))
        for view, one in zip(views, chosen, strict=True)
    )


def _nearest(
    views: Sequence[View],
    allowed: Sequence[Mask],
    stage: FirstStage,
    query: EncodedQuery,
    width: int,
    alike: int,
    workers: Workers,
) -> list[Chosen]:
    """Exactly ``width`` rows, of more that are allowed."""
    by = retrievers(stage, query)
    asked = [Asked(one, one.encode(query, workers), width, stage.widening * width) for one in by]
    ranked = rankings(views, allowed, asked, stage.widening, alike, workers)
    chosen = ranked[0]
    if len(ranked) > 1:
        # Retriever by retriever in turn: the first of each, the second of each, ...
        taken = np.stack(ranked, axis=1).ravel()
        _, first = np.unique(taken, return_index=True)
        chosen = taken[np.sort(first)[:width]]
    owners, rows = chosen // OWNER, chosen % OWNER
    found = []
    for i in range(len(views)):
        places = np.flatnonzero(owners == i)
        ascending = np.argsort(rows[places])
        found.append(Chosen(rows[places][ascending], places[ascending]))
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A retriever, with the query in its form. count: rows that it ranks. wide: as of ``Part.nearest``."""

    by: Retriever
    query: F32
    count: int
    wide: int

    def deeper(self, count: int, wide: int) -> Asked:
        return replace(self, count=count, wide=wide)


@dataclass(frozen=True, slots=True)
class Proposed:
    """Of each part the rows that some retrievers propose, of those that are allowed: one list for each."""

    asked: Sequence[Asked]

    def of(self, parts: Sequence[Part], asked: Sequence[Mask], workers: Workers) -> list[list[Candidates]]:
        def proposed(start: int, stop: int) -> list[list[Candidates]]:
            return [
                [
                    one.by.nearest(part, one.query, one.count, mask, one.wide, workers)
                    for part, mask in zip(parts, asked, strict=True)
                ]
                for one in self.asked[start:stop]
            ]

        # Side by side where it takes longer than to hand work over.
        alone = len(self.asked) if sum(len(mask) for mask in asked) < SIDE_BY_SIDE else 1
        pieces = workers.map_slices(len(self.asked), proposed, smallest=alone)
        found = [candidates for piece in pieces for candidates in piece]
        return [list(own) for own in zip(*found, strict=True)]


def rankings(
    views: Sequence[View],
    allowed: Sequence[Mask],
    asked: Sequence[Asked],
    widening: int,
    alike: int,
    workers: Workers,
) -> list[I64]:
    """For each of those that are asked (width,): view * OWNER + row of the best rows over all views, best first.

    Of rows with one score, which the retriever cannot tell apart, the first ``alike`` come; the others only where no
    better use is found for their places among ``DEEPEST``.
    """
    there = sum(np.count_nonzero(mask) for mask in allowed)
    found: dict[int, I64] = {}
    waiting = dict(enumerate(asked))
    while waiting:
        every = _best(views, allowed, list(waiting.values()), workers)
        for place, (keys, scores) in zip(list(waiting), every, strict=True):
            width, deep = asked[place].count, waiting[place].count
            runs = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
            apart = np.arange(len(scores)) - np.repeat(runs, np.diff(runs, append=len(scores))) < alike
            if np.count_nonzero(apart) >= width or deep >= min(there, max(DEEPEST, width)):
                found[place] = np.concatenate([keys[apart], keys[~apart]])[:width]
                del waiting[place]
            else:
                waiting[place] = waiting[place].deeper(8 * deep, widening * 8 * deep)
    return [found[place] for place in range(len(asked))]


def _best(
    views: Sequence[View], allowed: Sequence[Mask], asked: Sequence[Asked], workers: Workers
) -> list[tuple[I64, F32]]:
    """Of each that is asked (count,): keys of its best rows over all views, best first, and their scores."""
    there = [(i, view.part, mask) for i, (view, mask) in enumerate(zip(views, allowed, strict=True)) if mask.any()]
    parts, masks = [part for _, part, _ in there], [mask for _, _, mask in there]
    found = gather(Proposed(asked), parts, masks, workers)
    made = []
    for place, one in enumerate(asked):
        own = [candidates[place] for candidates in found]
        owners = np.repeat([i for i, _, _ in there], [len(candidates.rows) for candidates in own])
        rows = np.concatenate([candidates.rows for candidates in own])
        scores: F32 = np.concatenate([candidates.scores for candidates in own])
        best = np.argsort(-scores, kind="stable")[: one.count]
        made.append((owners[best] * OWNER + rows[best], scores[best]))
    return made
