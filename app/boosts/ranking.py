"""Exact scores with what boosts add, so that whatever ranks by scores ranks by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.boosts.values import Boosts
from app.collection.part import Part, View
from app.compute.workers import Workers
from app.query.listed import first_row
from app.query.ranking import Identify, Ranked, break_ties
from app.query.scores import Column, Scores, Share
from app.types import F64, I64, Mask


@dataclass(frozen=True, slots=True)
class Boosted:
    """Scores of rows, each with what its document has. Where texts are split, opening and best row both have it, so the
    document has it once."""

    scores: Scores
    boosts: Boosts
    name: str = "boosted"

    @property
    def split(self) -> bool:
        return self.scores.split

    def has_rough(self, part: Part) -> bool:
        return self.scores.has_rough(part)

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        column = self.scores.fast(part, rows, workers, rough=rough)
        with np.errstate(invalid="ignore", over="ignore"):
            values = column.values.astype(np.float64) + self._added(part, rows)
            # And what float32 rounds them by.
            bounds = column.bounds + np.abs(values) * 2.0**-23
            return Column(values.astype(np.float32), bounds)

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        added = self._added(part, rows).tolist()
        return [score + more for score, more in zip(self.scores.references(part, rows, workers), added, strict=True)]

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        """Without what is added."""
        return self.scores.explain(part, rows)

    def _added(self, part: Part, rows: I64) -> F64:
        return self.boosts.of(part, part.owners.of(rows))


def rank_scored(
    views: Sequence[View], allowed: Sequence[Mask], scores: Sequence[F64], k: int, identify: Identify
) -> list[Ranked]:
    """The best k of all documents that are allowed, ties by the bytes of the id. allowed, scores: for each view
    (documents,)."""
    documents = [np.flatnonzero(mask) for mask in allowed]
    values = np.concatenate([np.zeros(0), *(own[some] for own, some in zip(scores, documents, strict=True))])
    cut = np.partition(values, len(values) - k)[len(values) - k] if len(values) > k else -np.inf
    found = [
        Ranked(number, first_row(view, document), int(view.part.seqs[document]), float(own[document]))
        for number, (view, some, own) in enumerate(zip(views, documents, scores, strict=True))
        for document in some[own[some] >= cut].tolist()
    ]
    return break_ties(sorted(found, key=lambda one: -one.score), k, identify)
