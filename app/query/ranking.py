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
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from app.collection.part import Part, View, standing
from app.compute import deadline
from app.compute.workers import PATIENT, Workers
from app.query.candidates import Chosen
from app.query.gathering import Raised, fast, gather, references
from app.query.scores import OPENING, Column, Scores, of_document
from app.scoring.select import keep_for_top
from app.types import F64, I64

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


@dataclass(frozen=True, slots=True)
class Known:
    """The best documents of a search, which one pass found for several. took_ms: of the whole pass."""

    ranked: list[Ranked]
    took_ms: float


Identify: TypeAlias = Callable[[list[int]], dict[int, bytes]]


def rank(
    views: Sequence[View], rows: Sequence[I64], scores: Scores, k: int, workers: Workers, identify: Identify
) -> list[Ranked]:
    """The best k documents of the given rows (ascending in each view), by reference score, then by id.

    identify: sequence numbers -> ids, asked only where scores are equal.
    """
    numbers = [number for number, own in enumerate(rows) if len(own)]
    parts, mine = [views[number].part for number in numbers], [rows[number] for number in numbers]
    more: list[F64 | None] = [None] * len(parts)
    if isinstance(scores, Raised):
        more = [scores.more(part, own) for part, own in zip(parts, mine, strict=True)]
        scores = scores.scores
    asked = list(zip(mine, more, strict=True))
    found = gather(Best(scores, k), parts, asked, workers) if parts else []
    return _ranked(views, numbers, found, k, identify)


def _ranked(
    views: Sequence[View], numbers: Sequence[int], found: Sequence[Scored], k: int, identify: Identify
) -> list[Ranked]:
    """numbers: of the views that were scored."""
    every: list[Ranked] = []
    for number, (rows, exact) in zip(numbers, found, strict=True):
        part = views[number].part
        seqs = part.seqs[part.owners.of(rows)].tolist()
        every += [Ranked(number, *one) for one in zip(rows.tolist(), seqs, exact.tolist(), strict=True)]
    return break_ties(sorted(every, key=lambda one: -one.score), k, identify)


class Scored(NamedTuple):
    """Documents of a part by the best row of each, ascending: these rows, and the documents' scores."""

    rows: I64
    scores: F64


@dataclass(frozen=True, slots=True)
class Best:
    """The best k documents of the rows of some parts, and all that equal the last. Of parts that are asked apart each
    has its own k, among which the best of all are. A part is asked by its rows, ascending, and what is added to the
    score of each."""

    scores: Scores
    k: int

    def of(self, parts: Sequence[Part], asked: Sequence[tuple[I64, F64 | None]], workers: Workers) -> list[Scored]:
        scores = self.scores
        if any(more is not None for _, more in asked):
            known = {id(part): one for part, one in zip(parts, asked, strict=True)}
            scores = Raised(scores, lambda part, rows: _among(rows, *known[id(part)]))
        table = _Table.of(parts, [rows for rows, _ in asked], scores.split)
        if len(table.rows) >= max(MANY, 4 * self.k) and all(scores.has_rough(part) for part in parts):
            table = table.only(table.hopeful(table.scored(scores, workers, rough=True), self.k))
        return _best(table, table.scored(scores, workers), scores, self.k, workers)


def _among(rows: I64, known: I64, more: F64 | None) -> F64:
    """What is added to some of the known rows."""
    assert more is not None, "what is added to one part is added to all"
    found: F64 = more[np.searchsorted(known, rows)]
    return found


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
    parts = [view.part for view in views]
    table = _Table.of(parts, [one.rows for one in chosen], scores.split)
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
        found = _best(table.only(reached), column, scores, k, workers)
        return _ranked(views, range(len(views)), found, k, identify), done


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
    """Rows of some parts. owners: (n,) the part of each, ascending. rows: (n,) ascending in each part. split: whether
    the first row of each document here is its opening."""

    parts: Sequence[Part]
    owners: I64
    rows: I64
    split: bool

    @classmethod
    def of(cls, parts: Sequence[Part], rows: Sequence[I64], split: bool) -> _Table:
        owners = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
        return cls(parts, owners, np.concatenate([np.zeros(0, np.int64), *rows]), split)

    def only(self, places: I64) -> _Table:
        """The rows at ascending places."""
        return _Table(self.parts, self.owners[places], self.rows[places], self.split)

    def of_part(self, number: int) -> slice:
        first, last = np.searchsorted(self.owners, [number, number + 1])
        return slice(int(first), int(last))

    def there(self) -> list[tuple[Part, slice]]:
        """The parts that have rows here, and which."""
        each = [(part, self.of_part(number)) for number, part in enumerate(self.parts)]
        return [(part, here) for part, here in each if here.stop > here.start]

    def scored(self, scores: Scores, workers: Workers, *, rough: bool = False) -> Column:
        """A column of scores by a fast pass."""
        values, bounds = np.empty(len(self.rows), np.float32), np.empty(len(self.rows))
        there = self.there()
        rows = [self.rows[here] for _, here in there]
        columns = fast(scores, [part for part, _ in there], rows, workers, rough=rough)
        for (_, here), column in zip(there, columns, strict=True):
            values[here], bounds[here] = column
        return Column(values, bounds)

    def firsts(self) -> I64 | None:
        """The place of the first row of each document; None where each has one row here."""
        if all(part.owners.starts is None for part in self.parts):
            return None
        owned = np.concatenate(
            [np.zeros(0, np.int64)]
            + [part.owners.of(self.rows[self.of_part(number)]) for number, part in enumerate(self.parts)]
        )
        new = np.ones(len(owned), bool)
        new[1:] = (np.diff(self.owners) != 0) | (np.diff(owned) != 0)
        return np.flatnonzero(new).astype(np.int64)

    def owned(self, firsts: I64) -> I64:
        """How many rows each document owns in all."""
        counts = [np.zeros(0, np.int64)]
        for number, part in enumerate(self.parts):
            here, owners = self.of_part(number), part.owners
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


def _best(table: _Table, column: Column, scores: Scores, k: int, workers: Workers) -> list[Scored]:
    """Of each part, as ``Best``."""
    table = table.only(table.hopeful(column, k)) if len(table.rows) else table
    there = table.there()
    rows = [table.rows[here] for _, here in there]
    found: dict[int, tuple[list[int], list[float]]] = {}
    for (part, _), own, exact in zip(
        there, rows, references(scores, [part for part, _ in there], rows, workers), strict=True
    ):
        documents = part.owners.of(own)
        counts = part.owners.counts_of(documents).tolist()
        opening: dict[int, float] = {}
        best: dict[int, tuple[int, float]] = {}
        for row, document, count, score in zip(own.tolist(), documents.tolist(), counts, exact, strict=True):
            if scores.split:
                score = of_document(opening.setdefault(document, score), score, count)
            known = best.get(document)
            if known is None or score > known[1]:
                best[document] = row, score
        found[id(part)] = [row for row, _ in best.values()], [score for _, score in best.values()]
    cut = _cut([score for _, exact in found.values() for score in exact], k)
    made = []
    for part in table.parts:
        best_rows, exact = found.get(id(part), ([], []))
        values = np.array(exact, np.float64)
        # Not `>=`: what is no number could be anything.
        reach = ~(values < cut)
        made.append(Scored(np.array(best_rows, np.int64)[reach], values[reach]))
    return made


def _cut(scores: Sequence[float], k: int) -> float:
    """The k-th largest; of fewer, and where one is no number, below all."""
    if len(scores) <= k or any(score != score for score in scores):
        return -np.inf
    return sorted(scores, reverse=True)[k - 1]


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
