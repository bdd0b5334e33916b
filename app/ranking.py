"""The exact order: the reference score of each document, ties by the bytes of the id.

A fast pass in float32 scores every row asked for; whatever rounding could put into the top k is kept and scored by
the reference, in float64, one passage at a time. So the order depends on the query and the stored vectors alone,
never on what else was scored beside them, and exact and approximate search give a document the same score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.collection.part import Part, View
from app.scoring import inner_product, maxsim
from app.scoring.select import keep_for_top
from app.types import F32, F64, I64, Kind
from app.workers import Workers

SLICE = 16
"""The fewest rows worth a thread of their own."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row with its reference score. view: position in the snapshot's views."""

    view: int
    row: int
    seq: int
    score: float


def rank(
    views: Sequence[View],
    rows: Sequence[I64],
    query: F32,
    kind: Kind,
    k: int,
    workers: Workers,
    identify: Callable[[list[int]], dict[int, bytes]],
) -> list[Ranked]:
    """The best k of the given rows (ascending in each view), by reference score, then by id.

    query: (q, dim) float32; in a dense collection one row. identify: sequence numbers -> ids, asked only where scores
    are equal.
    """
    owners = np.concatenate([np.full(len(part), i, np.int64) for i, part in enumerate(rows)] or [np.zeros(0, np.int64)])
    if not len(owners):
        return []
    every = np.concatenate(rows)
    scores = np.concatenate(
        [_fast(view.part, part, query, kind, workers) for view, part in zip(views, rows, strict=True)]
    )
    bounds = np.concatenate([_bounds(view.part, part, query, kind) for view, part in zip(views, rows, strict=True)])
    kept = keep_for_top(scores, bounds, k)
    exact = workers.map_slices(
        len(kept),
        lambda start, stop: [
            _reference(views[owners[i]].part, int(every[i]), query, kind) for i in kept[start:stop].tolist()
        ],
        smallest=SLICE,
    )
    flat = [score for piece in exact for score in piece]
    found = [
        Ranked(int(owners[i]), int(every[i]), int(views[owners[i]].part.seqs[every[i]]), score)
        for i, score in zip(kept.tolist(), flat, strict=True)
    ]
    found.sort(key=lambda ranked: -ranked.score)
    return _break_ties(found, k, identify)


def _break_ties(found: list[Ranked], k: int, identify: Callable[[list[int]], dict[int, bytes]]) -> list[Ranked]:
    cut = found[k - 1].score if len(found) > k else -np.inf
    reach = [ranked for ranked in found if ranked.score >= cut]
    counts: dict[float, int] = {}
    for ranked in reach:
        counts[ranked.score] = counts.get(ranked.score, 0) + 1
    tied = [ranked.seq for ranked in reach if counts[ranked.score] > 1]
    if tied:
        ids = identify(tied)
        reach.sort(key=lambda ranked: (-ranked.score, ids.get(ranked.seq, b"")))
    return reach[:k]


def _fast(part: Part, rows: I64, query: F32, kind: Kind, workers: Workers) -> F32:
    """Scores of the rows in float32, on all workers."""
    if not len(rows):
        return np.zeros(0, np.float32)
    whole = len(rows) == part.size
    if kind == "dense":

        def work(start: int, stop: int) -> F32:
            if whole:
                return inner_product.fast_scores(query[0], part.pooled(start, stop))
            return inner_product.fast_scores(query[0], part.pooled_of(rows[start:stop]))
    else:

        def work(start: int, stop: int) -> F32:
            if whole:
                return maxsim.fast_scores(query, part.tokens(start, stop))
            piece = rows[start:stop]
            return maxsim.fast_scores_rows(query, part.tokens_of(piece), piece)

    return np.concatenate(workers.map_slices(len(rows), work, smallest=SLICE))


def _bounds(part: Part, rows: I64, query: F32, kind: Kind) -> F64:
    norms = part.norms[rows]
    return inner_product.error_bound(query[0], norms) if kind == "dense" else maxsim.error_bound(query, norms)


def _reference(part: Part, row: int, query: F32, kind: Kind) -> float:
    if kind == "dense":
        return inner_product.reference(query[0], part.pooled(row, row + 1)[0])
    return maxsim.reference(query, part.tokens(row, row + 1).values)
