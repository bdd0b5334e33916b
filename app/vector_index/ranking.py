"""The steps of every kind of index around faiss: queries checked, filters as selectors, equal scores in row order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import faiss
import numpy as np

from app.errors import Invalid
from app.types import F32, I64, Mask
from app.vector_index.protocol import Candidates

Search: TypeAlias = Callable[[F32, int], tuple[F32, I64]]
"""(queries, depth) -> scores and rows, (q, depth) each, best first, row -1 where nothing was found."""


SPARE: Final = 8
"""One row in so many is asked for beyond those that are wanted."""


class Selector:
    """A filter as faiss takes it. Keeps the selector and its bits alive: faiss holds bare pointers to both."""

    def __init__(self, allowed: Mask | None, size: int) -> None:
        if allowed is None:
            # A selector even where all are allowed: with one, faiss scores each vector by itself; without, in blocks,
            # whose sums round differently with the number of queries and threads.
            self.count = size
            self.faiss: Any = faiss.IDSelectorAll()
            return
        if allowed.shape != (size,) or allowed.dtype != np.bool_:
            raise Invalid(f"allowed must be ({size},) bool, not {allowed.shape} {allowed.dtype}")
        self.count = int(np.count_nonzero(allowed))
        self._bits = np.packbits(allowed, bitorder="little")
        self.faiss = faiss.IDSelectorBitmap(self._bits)


def checked(vectors: F32, dim: int, what: str) -> F32:
    """(n, dim) float32, contiguous; raises Invalid for another shape or a value that is not finite."""
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise Invalid(f"{what} must be of shape (n, {dim}), not {vectors.shape}")
    vectors = np.ascontiguousarray(vectors, np.float32)
    if not np.isfinite(vectors).all():
        raise Invalid(f"{what} hold a value that is not finite")
    return vectors


def exponent_of(vectors: F32) -> int | None:
    """The smallest e with all |values| <= 2**e; None where all are 0.

    >>> exponent_of(np.float32([[0.75, -3.0]])), exponent_of(np.zeros((1, 2), np.float32))
    (2, None)
    """
    largest = float(np.abs(vectors).max(initial=0.0))
    return None if largest == 0.0 else int(np.frexp(largest)[1])


def ranked(
    search: Search, queries: F32, *, k: int, available: int, exponent: int, together: Search | None = None
) -> Candidates:
    """min(k, available) rows a query, best first and equal scores by row, padded to (q, k).

    faiss keeps whichever of several equal scores it meets first, which depends on threads. So some rows more than
    wanted are asked for, and more as long as the last wanted score goes on beyond what came. Codes have few different
    scores, so one row more would nearly always be too few, and all codes be read twice.

    Queries are scaled by a power of two, so that no sum overflows, and scores are scaled back, by the vectors'
    ``exponent`` too; both are exact.

    together: gives for several queries what ``search`` gives for each, or row -1 somewhere in those that it does not
    decide; these, and those whose scores go on, are asked one by one.
    """
    if k < 1:
        raise Invalid(f"k must be at least 1, not {k}")
    n, wanted = len(queries), min(k, available)
    rows, scores = np.full((n, k), -1, np.int64), np.full((n, k), -np.inf, np.float32)
    if wanted:
        left = np.ones(n, bool)
        if together is not None and n > 1:
            left, rows[:, :wanted], scores[:, :wanted] = _ranked_together(
                together, queries, wanted, available, exponent
            )
        for i in np.flatnonzero(left).tolist():
            rows[i, :wanted], scores[i, :wanted] = _ranked_one(search, queries[i : i + 1], wanted, available, exponent)
    return Candidates(rows, scores)


def _ranked_together(search: Search, queries: F32, wanted: int, available: int, exponent: int) -> tuple[Mask, I64, F32]:
    """Which queries, (q,), are to be asked alone; rows and scores of the others, (q, wanted)."""
    scales = np.frexp(np.abs(queries).max(axis=1, initial=0.0))[1][:, None]
    depth = _first_depth(wanted, available)
    scores, rows = search(np.ldexp(queries, -scales), depth)
    left: Mask = np.logical_or.reduce(rows < 0, axis=1)
    if depth < available:
        left |= scores[:, -1] == scores[:, wanted - 1]
    best = np.lexsort((rows, -scores), axis=1)[:, :wanted]
    with np.errstate(over="ignore", under="ignore"):
        scaled: F32 = np.ldexp(np.take_along_axis(scores, best, 1), scales + exponent).astype(np.float32, copy=False)
    return left, np.take_along_axis(rows, best, 1), scaled


def _first_depth(wanted: int, available: int) -> int:
    return min(wanted + max(1, wanted // SPARE), available)


def _ranked_one(search: Search, query: F32, wanted: int, available: int, exponent: int) -> tuple[I64, F32]:
    """(wanted,) rows and scores of one query, (1, dim)."""
    scale = math.frexp(float(np.abs(query).max(initial=0.0)))[1]
    scaled, depth = np.ldexp(query, -scale), _first_depth(wanted, available)
    while True:
        (scores,), (rows,) = search(scaled, depth)
        scores = np.where(rows < 0, np.float32(-np.inf), scores)
        if depth == available or rows[-1] < 0 or scores[-1] != scores[wanted - 1]:
            break
        depth = min(2 * depth, available)
    best = np.lexsort((rows, -scores))[:wanted]
    with np.errstate(over="ignore", under="ignore"):
        return rows[best], np.ldexp(scores[best], scale + exponent).astype(np.float32, copy=False)
