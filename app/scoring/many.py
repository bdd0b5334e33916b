"""Inner products of many queries with many vectors: which of all could be the best, found by matrix products.

Their last bits depend on how many queries there are, so no score is taken from them. Each is within ``error_bound`` of
the real one, so what could be among the k best by any other way to compute them is known, and that is scored by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.compute import deadline
from app.compute.blas import keep_to_one_thread
from app.compute.rounding import bound
from app.scoring.similarity import lengths
from app.types import F32, F64, I64

FIRST: Final = 512
"""Vectors of the first product, after which it is known what the others have to reach; more where more are wanted."""
CHUNK: Final = 4_096
"""Vectors of each other: of 256 queries 4 MiB of scores."""


MOST: Final = 1 << 21
"""Pairs of several queries at a time."""


class Crowded(Exception):
    """So many rows could be the best that fewer queries are to be asked at a time."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of each query, in runs: query i has rows[starts[i]:starts[i + 1]], ascending. scores: within
    ``error_bound`` of each."""

    starts: I64
    rows: I64
    scores: F32

    @property
    def queries(self) -> I64:
        """Of each pair."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def could_be_best(
    queries: F32, rows: Callable[[int, int], NDArray[Any]], size: int, k: int, more: F64 | None = None
) -> Pairs:
    """Of each query (q, dim) the rows, of 0 to size - 1, that could be among the k of largest inner product, with all
    that could equal the last of these.

    rows: start, stop -> these vectors, (n, dim) float16 or float32. more: (q,), by how much else two scores may
    differ that are told apart here. Raises TooSlow between two blocks of rows, past the deadline, Crowded where
    several queries have more than MOST pairs, as where most rows are alike.
    """
    keep_to_one_thread()
    wanted = min(k, size)
    best = np.full((len(queries), wanted), -np.inf, np.float32)
    slack = np.zeros(len(queries)) if more is None else more.copy()
    long, asked = lengths(queries), np.ascontiguousarray(queries.T)
    extra, found = slack.copy(), list[tuple[I64, I64, F32]]()
    start, made, until = 0, 0, deadline.current()
    while start < size:
        deadline.check(until)
        stop = min(size, start + (CHUNK if start else max(FIRST, 4 * k)))
        vectors = np.asarray(rows(start, stop), np.float32)
        # In float32: that it may be a little less than the longest is allowed for.
        with np.errstate(over="ignore"):
            longest = np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0).astype(np.float64))
        with np.errstate(over="ignore", invalid="ignore"):
            slack = np.maximum(slack, 2 * bound(len(asked), 1, long * longest) + extra)
            scores = (vectors @ asked).T
        if not start:
            known = np.where(np.isnan(scores), np.float32(-np.inf), scores)
            best[:, : min(wanted, stop)] = np.partition(known, stop - min(wanted, stop))[:, stop - min(wanted, stop) :]
        which, places = np.nonzero(~(scores < _cut(best, slack)[:, None]))
        own = scores[which, places]
        found.append((which, places + start, own))
        made += len(own)
        if made > MOST and len(queries) > 1:
            raise Crowded
        if start:
            best = _best(best, which, own)
        start = stop
    if not found:
        return Pairs(np.zeros(len(queries) + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    which, places, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    kept = np.flatnonzero(~(scores < _cut(best, slack)[which]))
    order = kept[np.lexsort((places[kept], which[kept]))]
    counts = np.bincount(which[order], minlength=len(queries))
    return Pairs(np.concatenate([[0], np.cumsum(counts)]), places[order].astype(np.int64), scores[order])


def _cut(best: F32, slack: F64) -> F32:
    """(q,): what is below it is none of the best. A score that is NaN is not below it, for it could be anything."""
    with np.errstate(invalid="ignore"):
        least = (best.min(axis=1, initial=np.inf).astype(np.float64) - slack).astype(np.float32)
    found: F32 = np.nextafter(np.where(np.isnan(least), np.float32(-np.inf), least), np.float32(-np.inf))
    return found


def _best(best: F32, which: I64, scores: F32) -> F32:
    """(q, k): the best of these and of more, of queries that ascend in ``which``."""
    counts = np.bincount(which, minlength=len(best))
    most = int(counts.max(initial=0))
    if not most:
        return best
    beside = np.full((len(best), most), -np.inf, np.float32)
    starts = np.cumsum(counts) - counts
    beside[which, np.arange(len(which)) - starts[which]] = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    both = np.concatenate([best, beside], axis=1)
    found: F32 = np.partition(both, most, axis=1)[:, most:]
    return found
