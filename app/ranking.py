"""The exact order: the reference score of each document, ties by the bytes of the id.

A fast pass scores every row asked for; whatever rounding could put into the top k is kept and scored by the
reference, in float64. So the order depends on the query and the stored vectors alone,
never on what else was scored beside them, and exact and approximate search give a document the same score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.codes.protocol import Code
from app.collection.part import Part, View
from app.scoring import inner_product
from app.scoring.choose import scorer
from app.scoring.protocol import Scorer
from app.scoring.select import keep_for_top
from app.types import F32, F64, I64, Kind
from app.workers import Workers

SLICE = 16
"""The fewest rows worth a thread of their own."""
FEW = 4
"""The same for exact scores."""


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
    scorers: dict[Code, Scorer] = {}
    if kind == "multi_vector":
        scorers = {code: scorer(query, code) for code in {view.part.code for view in views}}
    parts = [_Scored(view.part, query, scorers[view.part.code] if scorers else None) for view in views]
    pairs = list(zip(parts, rows, strict=True))
    scores = np.concatenate([part.fast(wanted, workers) for part, wanted in pairs])
    bounds = np.concatenate([part.bounds(wanted) for part, wanted in pairs])
    kept = keep_for_top(scores, bounds, k)
    found = []
    for i, part in enumerate(parts):
        wanted = every[kept[owners[kept] == i]]
        exact = part.references(wanted, workers)
        seqs = part.part.seqs[wanted].tolist()
        found += [Ranked(i, *ranked) for ranked in zip(wanted.tolist(), seqs, exact, strict=True)]
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


@dataclass(frozen=True, slots=True)
class _Scored:
    """A part with what scores it. scorer: None in a dense collection."""

    part: Part
    query: F32
    scorer: Scorer | None

    def fast(self, rows: I64, workers: Workers) -> F32:
        """Scores of the rows in float32, on all workers."""
        whole = len(rows) == self.part.size

        def work(start: int, stop: int) -> F32:
            piece = rows[start:stop]
            if self.scorer is None:
                found = self.part.pooled(start, stop) if whole else self.part.pooled_of(piece)
                return inner_product.fast_scores(self.query[0], found)
            if whole:
                return self.scorer.scores(self.part.codes(start, stop))
            return self.scorer.scores(self.part.codes_of(piece), piece)

        return np.concatenate([np.zeros(0, np.float32), *workers.map_slices(len(rows), work, smallest=SLICE)])

    def bounds(self, rows: I64) -> F64:
        norms = self.part.norms[rows]
        return (
            inner_product.error_bound(self.query[0], norms) if self.scorer is None else self.scorer.error_bound(norms)
        )

    def references(self, rows: I64, workers: Workers) -> list[float]:
        """THE scores of the rows."""

        def work(start: int, stop: int) -> list[float]:
            piece = rows[start:stop]
            if self.scorer is None:
                return [inner_product.reference(self.query[0], vector) for vector in self.part.pooled_of(piece)]
            return self.scorer.references(self.part.codes_of(piece), piece, self.part.norms[piece])

        return [score for piece in workers.map_slices(len(rows), work, smallest=FEW) for score in piece]
