"""The exact order: the reference score of each document, ties by the bytes of the id.

A document's score is that of its best row; of a text that was split, partly that of its opening
row (``of_document``), which is scored wherever another row of its document is. A fast pass scores every row asked for,
after a rough one where they are many; whatever rounding could put into the top k is kept and scored by the reference,
in float64. So the order depends on the query and the stored vectors alone, never on what else was scored beside them,
and exact and approximate search give a document the same score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from app.collection.part import View, standing
from app.compute import deadline
from app.compute.workers import PATIENT, Workers
from app.query.candidates import Chosen
from app.query.scores import OPENING, Column, Scores, of_document
from app.scoring.select import keep_for_top
from app.types import I64

MANY: Final = 256
"""Rows from which a rough pass looks first for those with a hope. Of 5,183 passages it leaves 18 to the fast one, and
exact search takes a sixth less, a search of 400 candidates too where the processor has no VNNI; of 200 candidates it
leaves 18 as well, which saves no more than the second pass costs."""
FIRST: Final = 64
"""Rows that are scored before the time is looked at, where it may run out. Each next piece is as large as all before,
so that what is begun before the end of the time takes no longer than what was done."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document with its reference score. view: position in the snapshot's views. row: its best there."""

    view: int
    row: int
    seq: int
    score: float


Identify: TypeAlias = Callable[[list[int]], dict[int, bytes]]


def rank(
    views: Sequence[View], rows: Sequence[I64], scores: Scores, k: int, workers: Workers, identify: Identify
) -> list[Ranked]:
    """The best k documents of the given rows (ascending in each view), by reference score, then by id.

    identify: sequence numbers -> ids, asked only where scores are equal.
    """
    table = _Table.of(views, rows, scores.split)
    if len(table.rows) >= max(MANY, 4 * k) and all(scores.has_rough(view.part) for view in views):
        table = table.only(table.hopeful(table.scored(scores, workers, rough=True), k))
    return _best(table, table.scored(scores, workers), scores, k, workers, identify)


def rank_all(
    views: Sequence[View], scores: Scores, k: int, workers: Workers, identify: Identify = lambda seqs: {}
) -> list[Ranked]:
    """The best k of all documents that stand: exact search, whoever asks."""
    return rank(views, [standing(view, view.alive) for view in views], scores, k, workers, identify)


def rank_in_time(
    views: Sequence[View], chosen: Sequence[Chosen], scores: Scores, k: int, workers: Workers, identify: Identify
) -> tuple[list[Ranked], int]:
    """The same over as many of the chosen rows as the deadline that is set allows, and how many those are.

    Rows are scored by their places, in pieces, at least the first. Scored rows are then ranked as ``rank`` does,
    whatever time it is.
    """
    table = _Table.of(views, [one.rows for one in chosen], scores.split)
    order = np.argsort(np.concatenate([np.zeros(0, np.int64), *(one.places for one in chosen)]), kind="stable")
    values, bounds = np.empty(len(order), np.float32), np.empty(len(order))
    limit, done = deadline.current(), 0
    with deadline.deadline(None):
        while done < len(order) and not (done and limit is not None and limit.passed()):
            piece = np.sort(order[done : done + min(max(done, FIRST), PATIENT)])
            values[piece], bounds[piece] = table.only(piece).scored(scores, workers)
            done += len(piece)
        reached = np.sort(order[:done])
        column = Column(values[reached], bounds[reached])
        return _best(table.only(reached), column, scores, k, workers, identify), done


def whole_documents(views: Sequence[View], ranked: Sequence[Ranked]) -> list[I64]:
    """Of each view all rows of these documents, ascending."""
    found = []
    for number, view in enumerate(views):
        owners = view.part.owners
        rows = np.array([one.row for one in ranked if one.view == number], np.int64)
        found.append(owners.rows_of(np.sort(owners.of(rows))))
    return found


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of some parts. owners: (n,) the view of each, ascending. rows: (n,) ascending in each view. split: whether
    the first row of each document here is its opening."""

    views: Sequence[View]
    owners: I64
    rows: I64
    split: bool

    @classmethod
    def of(cls, views: Sequence[View], rows: Sequence[I64], split: bool) -> _Table:
        owners = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
        return cls(views, owners, np.concatenate([np.zeros(0, np.int64), *rows]), split)

    def only(self, places: I64) -> _Table:
        """The rows at ascending places."""
        return _Table(self.views, self.owners[places], self.rows[places], self.split)

    def of_view(self, number: int) -> slice:
        first, last = np.searchsorted(self.owners, [number, number + 1])
        return slice(int(first), int(last))

    def scored(self, scores: Scores, workers: Workers, *, rough: bool = False) -> Column:
        """A column of scores by a fast pass."""
        values, bounds = np.empty(len(self.rows), np.float32), np.empty(len(self.rows))
        for number, view in enumerate(self.views):
            here = self.of_view(number)
            if here.stop > here.start:
                values[here], bounds[here] = scores.fast(view.part, self.rows[here], workers, rough=rough)
        return Column(values, bounds)

    def firsts(self) -> I64 | None:
        """The place of the first row of each document; None where each has one row here."""
        if all(view.part.owners.starts is None for view in self.views):
            return None
        owned = np.concatenate(
            [np.zeros(0, np.int64)]
            + [view.part.owners.of(self.rows[self.of_view(number)]) for number, view in enumerate(self.views)]
        )
        new = np.ones(len(owned), bool)
        new[1:] = (np.diff(self.owners) != 0) | (np.diff(owned) != 0)
        return np.flatnonzero(new).astype(np.int64)

    def owned(self, firsts: I64) -> I64:
        """How many rows each document owns in all."""
        counts = [np.zeros(0, np.int64)]
        for number, view in enumerate(self.views):
            here, owners = self.of_view(number), view.part.owners
            some = firsts[(firsts >= here.start) & (firsts < here.stop)]
            counts.append(owners.counts_of(owners.of(self.rows[some])))
        return np.concatenate(counts)

    def hopeful(self, column: Column, k: int) -> I64:
        """The places of rows that could be the best of one of the k best documents, with their openings; ascending."""
        firsts = self.firsts()
        if firsts is None or not self.split:
            return keep_for_top(column.values, column.bounds, k, firsts)
        here = np.diff(firsts, append=len(self.rows))
        opening = np.repeat(firsts, here)
        weight = np.repeat(np.minimum(0.5, OPENING / self.owned(firsts)), here)
        wide = column.values.astype(np.float64)
        with np.errstate(invalid="ignore"):
            values = wide[opening] * weight + wide * (1 - weight)
            # And what the sum is rounded by, to either side.
            bounds = column.bounds[opening] * weight + column.bounds * (1 - weight) + np.abs(values) * 2.0**-50
        kept = keep_for_top(values, bounds, k, firsts)
        return np.union1d(kept, opening[kept])


def _best(table: _Table, column: Column, scores: Scores, k: int, workers: Workers, identify: Identify) -> list[Ranked]:
    if not len(table.rows):
        return []
    table = table.only(table.hopeful(column, k))
    found: dict[tuple[int, int], Ranked] = {}
    for number, view in enumerate(table.views):
        rows = table.rows[table.of_view(number)]
        exact = scores.references(view.part, rows, workers)
        documents = view.part.owners.of(rows)
        seqs, counts = view.part.seqs[documents].tolist(), view.part.owners.counts_of(documents).tolist()
        opening: dict[int, float] = {}
        for row, seq, count, score in zip(rows.tolist(), seqs, counts, exact, strict=True):
            if scores.split:
                score = of_document(opening.setdefault(seq, score), score, count)
            best = found.get((number, seq))
            if best is None or score > best.score:
                found[number, seq] = Ranked(number, row, seq, score)
    ranked = sorted(found.values(), key=lambda one: -one.score)
    return break_ties(ranked, k, identify)


def break_ties(found: list[Ranked], k: int, identify: Identify) -> list[Ranked]:
    """The first k of documents by score, equal ones by the bytes of their ids. identify: as in ``rank``."""
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
