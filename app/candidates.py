"""Candidates: which passages of a snapshot are worth an exact score.

Each source of the first stage (FDEs, pooled vectors) ranks all parts by its own scores; scores of different sources
are never compared: the sources' lists are taken in turn until there are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from app.collection.first_stage import FirstStage, Source
from app.collection.part import View
from app.types import F32, I64, Mask

OWNER: Final = 2**40
"""More than a part has rows, so that a view and a row make one number."""


def find_candidates(
    views: Sequence[View], allowed: Sequence[Mask], stage: FirstStage, queries: dict[Source, F32], width: int
) -> list[I64]:
    """For each view the rows to rescore: exactly min(width, allowed rows) in all, ascending within a view.

    allowed: a mask for each view. queries: one vector for each source. Where no more than ``width`` rows are allowed
    they all are candidates, so a selective filter never gives a short page.
    """
    if sum(np.count_nonzero(mask) for mask in allowed) <= width:
        return [np.flatnonzero(mask).astype(np.int64) for mask in allowed]
    ranked = [
        _ranking(views, allowed, source, queries[source], width, stage.widening * width) for source in stage.sources
    ]
    # Source by source in turn: the first of each, the second of each, ...
    taken = np.stack(ranked, axis=1).ravel()
    _, first = np.unique(taken, return_index=True)
    chosen = taken[np.sort(first)[:width]]
    owners, rows = chosen // OWNER, chosen % OWNER
    return [np.sort(rows[owners == i]) for i in range(len(views))]


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
