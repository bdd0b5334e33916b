"""A list of any length by meaning, of which a shorter one is always the beginning.

Which rows are candidates must not hang on how many documents are asked for, or what is best of a hundred would not be
among the best ten. So candidates come in tiers: those of the collection's width, then those that are new among twice as
many, and so on, until enough documents were found. A tier comes after the one before, whatever its scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from app.collection.first_stage import FirstStage
from app.collection.part import View
from app.compute.workers import Workers
from app.query.candidates import Chosen, find_candidates
from app.query.encoded import EncodedQuery
from app.query.ranking import Identify, Ranked, rank, whole_documents
from app.query.scores import Scores
from app.types import I64, Mask

ALIKE: Final = 100
"""Rows of one first-stage score that are candidates before others are, at most; and a third of the width, or ten."""
BLOCK: Final = 16
"""Documents that are scored by all their rows side by side, the best by those that were found; then as many more, then
twice as many."""


def tiers(
    views: Sequence[View],
    allowed: Sequence[Mask],
    stages: Sequence[FirstStage],
    query: EncodedQuery,
    width: int | None,
    least: int,
    split: bool,
    workers: Workers,
) -> Iterator[list[Chosen]]:
    """For each view the next tier, until all that are allowed came.

    allowed: for each view (rows,). width: of the first tier, None is each stage's own; never below ``least``. split:
    whether the opening of a document comes with its rows.
    """
    seen = [np.zeros(len(view.alive), bool) for view in views]
    there, factor = sum(np.count_nonzero(mask) for mask in allowed), 1
    while True:
        wide = {id(one): replace(one, width=max(width or one.width, least) * factor) for one in stages}
        mine = [wide[id(one)] for one in stages]
        chosen = find_candidates(views, allowed, mine, query, 1, None, workers, ALIKE)
        found, came = [], sum(len(one.rows) for one in chosen)
        for view, one, mask in zip(views, chosen, seen, strict=True):
            one = one.with_openings(view) if split else one
            owners = view.part.owners.of(one.rows)
            found.append(one.only(~mask[owners]))
            mask[owners] = True
        yield found
        if came == there:
            return
        factor *= 2


def rank_tier(
    views: Sequence[View],
    rows: Sequence[I64],
    scores: Scores,
    k: int,
    whole: bool,
    workers: Workers,
    identify: Identify,
) -> list[Ranked]:
    """The best k documents of a tier. whole: each by the best of all its rows, whichever of them were found."""
    if not whole:
        return rank(views, rows, scores, k, workers, identify)
    reach = BLOCK
    while reach < k:
        reach *= 2
    first, found, start, stop = rank(views, rows, scores, reach, workers, identify), list[Ranked](), 0, BLOCK
    while start < min(len(first), k):
        block = first[start:stop]
        owned = whole_documents(views, block)
        if sum(map(len, owned)) > len(block):
            block = rank(views, owned, scores, len(block), workers, identify)
        found += block
        start, stop = stop, 2 * stop
    return found[:k]
