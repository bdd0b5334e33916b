"""Exact scores with what boosts add, so that whatever ranks by scores ranks by both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.boosts.values import Boosts
from app.collection.part import View
from app.query.gathering import Raised
from app.query.listed import first_row
from app.query.ranking import Identify, Ranked, break_ties
from app.query.scores import Scores
from app.types import F64, Mask


def boosted(scores: Scores, boosts: Boosts) -> Raised:
    """Scores of rows, each with what its document has."""
    return Raised(scores, lambda part, rows: boosts.of(part, part.owners.of(rows)), "boosted")


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
