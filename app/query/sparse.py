"""Documents by their sparse vectors: scores of all, and what each is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.collection.layers import SPARSE
from app.collection.part import Part, View
from app.compute.workers import Workers
from app.query.listed import Listed
from app.query.ranking import Ranked
from app.query.scores import OPENING, Column, Share, opening_weight
from app.sparse.rows import unpacked
from app.types import F64, I64, SparseVector


@dataclass(frozen=True, slots=True)
class IndexScore:
    """An index's addition to a document's score. term: the word that it stands for, where a model knows it. weight: of
    the query."""

    index: int
    term: str | None
    weight: float
    score: float


@dataclass(frozen=True)
class SparseScores(Listed):
    """Of one query over one snapshot: inner products (app.sparse.postings), of a document as of any that has rows
    (``scores.of_document``). by_row: for each view the score of each row. A document without an index of the query has
    0.

    It is ``Scores`` too, of which each is its reference.
    """

    query: SparseVector
    split: bool
    by_row: list[F64]
    parts: list[Part]
    name: str = "sparse"

    @classmethod
    def of(cls, views: Sequence[View], query: SparseVector, *, split: bool) -> SparseScores:
        """Raises Damaged."""
        by_row = []
        for view in views:
            sparse = view.part.sparse
            by_row.append(np.zeros(view.part.size) if sparse is None else sparse.scores(query))
        by_view = [_of_documents(view.part, scores, split) for view, scores in zip(views, by_row, strict=True)]
        return cls(by_view, query, split, by_row, [view.part for view in views])

    def shown(self, ranked: Sequence[Ranked]) -> list[Ranked]:
        """By the best row of each."""
        return [
            replace(item, row=self._best(item.view, int(self.parts[item.view].owners.of(np.array([item.row]))[0])))
            for item in ranked
        ]

    def _best(self, number: int, document: int) -> int:
        """The best row of a document of a view."""
        start, stop = self.parts[number].owners.span(document, document + 1)
        return start + int(np.argmax(self.by_row[number][start:stop]))

    def has_rough(self, part: Part) -> bool:
        return False

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        exact = self._rows(part)[rows]
        return Column(exact.astype(np.float32), np.abs(exact) * 2.0**-23)

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        found: list[float] = self._rows(part)[rows].tolist()
        return found

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        """By the places of indices in the query and in the row."""
        taken = part.ragged(SPARSE).take(rows)
        return [self._shares(unpacked(run)) for run in taken]

    def parts_of(self, number: int, document: int, terms: Sequence[str] | None) -> list[IndexScore]:
        """What each index adds to the score of a document of a view; they add up to it. terms: of the query's
        indices."""
        part = self.parts[number]
        start, stop = part.owners.span(document, document + 1)
        opening, own = self.explain(part, np.array([start, self._best(number, document)], np.int64))
        weight = opening_weight(stop - start) if self.split else 0.0
        added = dict.fromkeys((share.query for share in (*own, *opening)), 0.0)
        for shares, of in ((opening, weight), (own, 1 - weight)):
            for share in shares:
                added[share.query] += of * share.product
        return [
            IndexScore(
                int(self.query.indices[i]),
                None if terms is None else terms[i],
                float(self.query.values[i]),
                score,
            )
            for i, score in added.items()
            if score
        ]

    def _shares(self, row: SparseVector) -> list[Share]:
        _, own, other = np.intersect1d(self.query.indices, row.indices, assume_unique=True, return_indices=True)
        products = self.query.values[own].astype(np.float64) * row.values[other].astype(np.float64)
        return [Share(*one) for one in zip(own.tolist(), other.tolist(), products.tolist(), strict=True)]

    def _rows(self, part: Part) -> F64:
        return next(scores for known, scores in zip(self.parts, self.by_row, strict=True) if known is part)


def _of_documents(part: Part, scores: F64, split: bool) -> F64:
    """(documents,): by the best of its rows."""
    owners = part.owners
    if owners.starts is None or not owners.documents:
        return scores
    best: F64 = np.maximum.reduceat(scores, owners.firsts)
    if not split:
        return best
    weights = np.minimum(0.5, OPENING / owners.counts)
    found: F64 = scores[owners.firsts] * weights + best * (1 - weights)
    return found
