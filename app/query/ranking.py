"""The exact order: the reference score of each document, ties by the bytes of the id.

A fast pass scores every row asked for, after a rough one where they are many; whatever rounding could put into the
top k is kept and scored by the reference, in float64. So the order depends on the query and the stored vectors alone,
never on what else was scored beside them, and exact and approximate search give a document the same score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from app.codes.protocol import Code
from app.collection.part import Part, View
from app.compute import deadline
from app.compute.workers import PATIENT, Workers
from app.query.candidates import Chosen
from app.scoring import inner_product
from app.scoring.choose import has_rough, scorer
from app.scoring.protocol import Scorer
from app.scoring.select import keep_for_top
from app.types import F32, F64, I64, Kind

SLICE = 16
"""The fewest rows worth a thread of their own."""
FEW = 4
"""The same for exact scores."""
MANY: Final = 512
"""Rows from which a rough pass looks first for those with a hope. Of 5,183 passages it leaves 18 to the fast one, and
exact search takes a sixth less; of 200 candidates 18 too, which saves no more than the second pass costs."""
FIRST: Final = 64
"""Rows that are scored before the time is looked at, where it may run out. Each next piece is as large as all before,
so that what is begun before the end of the time takes no longer than what was done."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A row with its reference score. view: position in the snapshot's views."""

    view: int
    row: int
    seq: int
    score: float


_Identify: TypeAlias = Callable[[list[int]], dict[int, bytes]]


def rank(
    views: Sequence[View],
    rows: Sequence[I64],
    query: F32,
    kind: Kind,
    k: int,
    workers: Workers,
    identify: _Identify,
) -> list[Ranked]:
    """The best k of the given rows (ascending in each view), by reference score, then by id.

    query: (q, dim) float32; in a dense collection one row. identify: sequence numbers -> ids, asked only where scores
    are equal.
    """
    parts = _parts(views, query, kind)
    if _has_rough(views, kind) and sum(map(len, rows)) >= max(MANY, 4 * k):
        rows = _hopeful(_parts(views, query, kind, rough=True), rows, k, workers)
    scored = [part.scored(wanted, workers) for part, wanted in zip(parts, rows, strict=True)]
    return _best(parts, scored, k, workers, identify)


def rank_in_time(
    views: Sequence[View],
    chosen: Sequence[Chosen],
    query: F32,
    kind: Kind,
    k: int,
    workers: Workers,
    identify: _Identify,
) -> tuple[list[Ranked], int]:
    """The same over as many of the chosen rows as the deadline that is set allows, and how many those are.

    Rows are scored by their places, in pieces, at least the first. What was scored is then ranked as ``rank`` does,
    whatever time it is.
    """
    parts = _parts(views, query, kind)
    owners = _owners([one.rows for one in chosen])
    every = np.concatenate([np.zeros(0, np.int64), *(one.rows for one in chosen)])
    order = np.argsort(np.concatenate([np.zeros(0, np.int64), *(one.places for one in chosen)]), kind="stable")
    pieces: list[list[_Scores]] = [[part.scored(every[:0], workers)] for part in parts]
    limit, done = deadline.current(), 0
    with deadline.deadline(None):
        while done < len(order) and not (done and limit is not None and limit.passed()):
            piece = order[done : done + min(max(done, FIRST), PATIENT)]
            for i, part in enumerate(parts):
                pieces[i].append(part.scored(np.sort(every[piece[owners[piece] == i]]), workers))
            done += len(piece)
        scored = [_Scores(*map(np.concatenate, zip(*of, strict=True))) for of in pieces]
        return _best(parts, scored, k, workers, identify), done


class _Scores(NamedTuple):
    """rows: (n,). values: (n,), by the fast pass. bounds: (n,), how far each is from the reference at most."""

    rows: I64
    values: F32
    bounds: F64


def _has_rough(views: Sequence[View], kind: Kind) -> bool:
    return kind == "multi_vector" and all(has_rough(view.part.code) for view in views)


def _hopeful(rough: Sequence[_Scored], rows: Sequence[I64], k: int, workers: Workers) -> list[I64]:
    """Of each part the rows that a rough pass, within its bounds, leaves among the k best; ascending."""
    scored = [part.scored(wanted, workers) for part, wanted in zip(rough, rows, strict=True)]
    kept = np.zeros(sum(map(len, rows)), bool)
    kept[_kept(scored, k)] = True
    return [
        wanted[mask] for wanted, mask in zip(rows, np.split(kept, np.cumsum([len(r) for r in rows])[:-1]), strict=True)
    ]


def _kept(scored: Sequence[_Scores], k: int) -> I64:
    """Which of all rows, one part after the other, could be among the k best."""
    return keep_for_top(
        np.concatenate([scores.values for scores in scored]), np.concatenate([scores.bounds for scores in scored]), k
    )


def _parts(views: Sequence[View], query: F32, kind: Kind, *, rough: bool = False) -> list[_Scored]:
    scorers: dict[Code, Scorer] = {}
    if kind == "multi_vector":
        scorers = {code: scorer(query, code, rough=rough) for code in {view.part.code for view in views}}
    return [_Scored(view.part, query, scorers[view.part.code] if scorers else None) for view in views]


def _owners(rows: Sequence[I64]) -> I64:
    """The view of each row."""
    return np.repeat(np.arange(len(rows)), [len(part) for part in rows])


def _best(
    parts: Sequence[_Scored], scored: Sequence[_Scores], k: int, workers: Workers, identify: _Identify
) -> list[Ranked]:
    owners = _owners([scores.rows for scores in scored])
    if not len(owners):
        return []
    every = np.concatenate([scores.rows for scores in scored])
    kept = _kept(scored, k)
    found = []
    for i, part in enumerate(parts):
        wanted = every[kept[owners[kept] == i]]
        exact = part.references(wanted, workers)
        seqs = part.part.seqs[wanted].tolist()
        found += [Ranked(i, *ranked) for ranked in zip(wanted.tolist(), seqs, exact, strict=True)]
    found.sort(key=lambda ranked: -ranked.score)
    return _break_ties(found, k, identify)


def _break_ties(found: list[Ranked], k: int, identify: _Identify) -> list[Ranked]:
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

    def scored(self, rows: I64, workers: Workers) -> _Scores:
        """By the fast pass, on all workers."""
        return _Scores(rows, self._fast(rows, workers), self._bounds(rows))

    def _fast(self, rows: I64, workers: Workers) -> F32:
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

    def _bounds(self, rows: I64) -> F64:
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
