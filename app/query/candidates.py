"""Candidates: which passages of a snapshot are worth an exact score.

Each source of a first stage (FDEs, pooled vectors) ranks all its parts by its own scores; scores of different sources
are never compared: the sources' lists are taken in turn until there are enough. Nor are those of different stages (the
segments' may be learned, the tail's needs no data): each has a width of its own, and rescoring merges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.collection.first_stage import FirstStage, Source
from app.collection.part import View
from app.compute.workers import Workers
from app.types import F32, I64, Mask

OWNER: Final = 2**40
"""More than a part has rows, so that a view and a row make one number."""

SIDE_BY_SIDE: Final = 50_000
"""Rows from which the sources are searched by a thread each: about a millisecond of each."""


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


def find_candidates(
    views: Sequence[View],
    allowed: Sequence[Mask],
    stages: Sequence[FirstStage],
    width: Callable[[FirstStage], int],
    encode: Callable[[FirstStage], dict[Source, F32]],
    workers: Workers,
) -> list[Chosen]:
    """For each view the rows to rescore: of the views of one stage exactly min(width, allowed rows) in all.

    allowed, stages: for each view. encode: the query's vector for each source of a stage, asked at most once a stage.
    Where no more rows are allowed than a stage's width they all are candidates, so a selective filter never gives a
    short page.
    """
    found: dict[int, Chosen] = {}
    for stage in {id(stage): stage for stage in stages}.values():
        mine = [i for i, other in enumerate(stages) if other is stage]
        masks = [allowed[i] for i in mine]
        wanted = width(stage)
        if sum(np.count_nonzero(mask) for mask in masks) <= wanted:
            chosen = [Chosen.all(mask) for mask in masks]
        else:
            chosen = _nearest([views[i] for i in mine], masks, stage, encode(stage), wanted, workers)
        found.update(zip(mine, chosen, strict=True))
    return [found[i] for i in range(len(views))]


def _nearest(
    views: Sequence[View],
    allowed: Sequence[Mask],
    stage: FirstStage,
    queries: dict[Source, F32],
    width: int,
    workers: Workers,
) -> list[Chosen]:
    """Exactly ``width`` rows, of more that are allowed."""

    def rankings(start: int, stop: int) -> list[I64]:
        return [
            _ranking(views, allowed, source, queries[source], width, stage.widening * width)
            for source in stage.sources[start:stop]
        ]

    # Side by side where it takes longer than to hand work over.
    alone = len(stage.sources) if sum(len(mask) for mask in allowed) < SIDE_BY_SIDE else 1
    ranked = [
        ranking for piece in workers.map_slices(len(stage.sources), rankings, smallest=alone) for ranking in piece
    ]
    # Source by source in turn: the first of each, the second of each, ...
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


def _ranking(views: Sequence[View], allowed: Sequence[Mask], source: Source, query: F32, width: int, wide: int) -> I64:
    """(width,): view * OWNER + row of the best rows over all views, best first."""
    found = [
        (i, view.part.nearest(source, query, width, mask, wide))
        for i, (view, mask) in enumerate(zip(views, allowed, strict=True))
        if mask.any()
    ]
    owners = np.concatenate([np.full(len(candidates.rows), i, np.int64) for i, candidates in found])
    rows = np.concatenate([candidates.rows for _, candidates in found])
    scores = np.concatenate([candidates.scores for _, candidates in found])
    best = np.argsort(-scores, kind="stable")[:width]
    keys: I64 = owners[best] * OWNER + rows[best]
    return keys
