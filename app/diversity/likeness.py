"""How alike documents are: the cosine of the pooled vectors of the passages that they were found by.

It is taken of vectors of length 1 in steps of ``STEP``: then all products and sums of them are whole numbers that
float32 holds (no sum of products of some of their coordinates is larger than the product of their lengths, below 2^24),
and a matrix product has the same bits in whatever order it is added up. MaxSim over token vectors, in both directions,
tells documents apart no better and takes a hundred times as long (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from app.collection.layers import POOLED
from app.collection.part import View
from app.compute import deadline
from app.compute.workers import Workers
from app.query.gathering import Taken, gather
from app.query.ranking import Ranked
from app.scoring.similarity import Similarity, lengths
from app.types import F32, F64

STEP: Final = 2.0**-11


class Likeness:
    """Of some hits to each other."""

    def __init__(self, views: Sequence[View], hits: Sequence[Ranked], measure: Similarity, workers: Workers) -> None:
        """Raises Damaged, PartsUnreached."""
        numbers = sorted({hit.view for hit in hits})
        places = {number: [i for i, hit in enumerate(hits) if hit.view == number] for number in numbers}
        rows = [np.array([hits[i].row for i in places[number]], np.int64) for number in numbers]
        found = gather(Taken(POOLED), [views[number].part for number in numbers], rows, workers)
        vectors = np.concatenate(found).astype(np.float32)
        order = np.argsort([i for number in numbers for i in places[number]])
        self._vectors = stepped(measure.given(vectors[order]))

    def to(self, place: int) -> F64:
        """(hits,): how alike each is to one of them. Raises TooSlow."""
        deadline.check(deadline.current())
        found: F64 = (self._vectors @ self._vectors[place]).astype(np.float64) * STEP**2
        return found


def stepped(vectors: F32) -> F32:
    """(n, dim) float32: at length 1, as whole numbers of ``STEP``; 0 of a vector of zeros.

    >>> (stepped(np.array([[3, 4], [0, 0]], np.float32)) * STEP).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    size = lengths(vectors)
    found: F32 = np.rint(vectors / (np.where(size > 0, size, 1)[:, None] * STEP)).astype(np.float32)
    return found
