"""Codes find many, the vectors themselves order them: the first two steps of a cascade.

A code's score is rough, so the best k by codes are not the best k. The codes are asked for ``wide`` rows, the full
vectors of those are read (from where they lie anyway, no second copy), and the best k by their inner products remain.
That list is in exact order. Where a filter leaves few rows the codes are not asked at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.scoring.inner_product import fast_scores
from app.scoring.many import Crowded, could_be_best
from app.types import F32, I64, Mask
from app.vector_index.protocol import Candidates, VectorIndex

DIRECT: Final = 8_192
"""Allowed rows up to which their vectors are read instead of codes: reading them costs about as much as the codes of a
large index, and is exact."""
PIECE: Final = 2_048
"""Vectors gathered at a time."""
LEAST: Final = {"pq1": 1_600, "ivf_pq1": 1_600, "pq2": 400, "ivf_pq2": 400}
"""Rows that codes find at least in a dense collection: of 100,000 x 384, 400 by codes of one bit hold .949 of the best
hundred, 1,600 .998, and 400 by two bits .999."""
WALK: Final = 160
"""The same of a walk, up to ``WALKED`` vectors."""
WALKED: Final = 2**17
FURTHER: Final = 0.45
"""The power of their number with which a walk goes further among more: of a million x 384, 128 rows hold .960 of the
best ten, 320 .980; of 100,000, 160 hold .991."""


SHORTER: Final = 1.25
"""Times the rows wanted that a walk reaches where fewer are wanted than by default, so that fewer candidates are
sooner found: of 100,000, 80 hold .97 of the best ten."""


def reached(kind: str, wide: int, size: int) -> int:
    """Rows that an index of this kind over a dense collection is asked for where ``wide`` are wanted of so many.

    >>> reached("hnsw", 128, 50_000), reached("hnsw", 128, 1_000_000), reached("pq2", 128, 50_000)
    (160, 399, 400)
    >>> reached("hnsw", 64, 50_000), reached("hnsw", 2_048, 50_000)
    (80, 2048)
    """
    if kind != "hnsw":
        return max(wide, LEAST.get(kind, 0))
    return int(max(wide, min(WALK, wide * SHORTER)) * max(1.0, size / WALKED) ** FURTHER)


class Refined:
    """An index of codes over the vectors of an array. at: rows (n,) -> the whole array, (size, dim) float16 or float32,
    of which these rows may be read. reached: (rows wanted, rows allowed) -> those that the codes are asked for."""

    def __init__(
        self,
        index: VectorIndex,
        at: Callable[[I64], NDArray[Any]],
        reached: Callable[[int, int], int] = lambda wide, allowed: wide,
    ) -> None:
        self.index, self._at, self._reached = index, at, reached

    def search(self, query: F32, k: int, *, allowed: Mask | None, wide: int, breadth: float = 1.0) -> Candidates:
        """The best k of the ``wide`` rows (at least k) that codes find, by inner product with query (dim,); (k,) each.

        Exactly min(k, allowed rows), best first, equal scores by row.
        """
        there = self.index.size if allowed is None else int(np.count_nonzero(allowed))
        wide = self._reached(wide, there)
        if allowed is not None and there <= max(DIRECT, wide):
            rows = np.flatnonzero(allowed).astype(np.int64)
        else:
            rows = self.index.search(query[None], max(k, wide), allowed=allowed, breadth=breadth).rows[0]
            rows = np.sort(rows[rows >= 0])
        scores = products(query, self._at(rows), rows)
        best = np.argsort(-scores, kind="stable")[:k]
        return Candidates(rows[best], scores[best])

    def search_many(self, queries: F32, k: int, *, allowed: Mask | None, wide: int) -> Candidates:
        """What ``search`` gives for each query of (q, dim), to the bit; (q, min(k, allowed rows)) each."""
        there = self.index.size if allowed is None else int(np.count_nonzero(allowed))
        wide = self._reached(wide, there)
        if allowed is not None and there <= max(DIRECT, wide):
            own = np.flatnonzero(allowed).astype(np.int64)
            return nearest_of(queries, self._at(own), own, k)
        rows = np.sort(self.index.search(queries, max(k, wide), allowed=allowed).rows, axis=1)
        # As many are found for each.
        rows = rows[:, np.count_nonzero(rows[0] < 0) :]
        scores = products_of_each(queries, self._at(rows.ravel()), rows)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Candidates(np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1))


def nearest_of(
    queries: F32,
    vectors: NDArray[Any],
    rows: I64,
    k: int,
    scored: Callable[[F32, NDArray[Any], I64], F32] | None = None,
) -> Candidates:
    """The k named rows (n,) ascending of largest ``products`` with each query; equal ones by row. (q, min(k, n)).
    scored: another way to compute them, each row by itself."""
    wanted, scored = min(k, len(rows)), scored or products
    found = np.empty((len(queries), wanted), np.int64)
    scores = np.empty((len(queries), wanted), np.float32)
    try:
        some = could_be_best(queries, lambda start, stop: named(vectors, rows[start:stop]), len(rows), wanted)
    except Crowded:
        middle = len(queries) // 2
        halves = [nearest_of(own, vectors, rows, k, scored) for own in (queries[:middle], queries[middle:])]
        return Candidates(np.concatenate([one.rows for one in halves]), np.concatenate([one.scores for one in halves]))
    for i, (start, stop) in enumerate(zip(some.starts[:-1].tolist(), some.starts[1:].tolist(), strict=True)):
        own = rows[some.rows[start:stop]]
        exact = scored(queries[i], vectors, own)
        best = np.argsort(-exact, kind="stable")[:wanted]
        found[i], scores[i] = own[best], exact[best]
    return Candidates(found, scores)


def named(vectors: NDArray[Any], rows: I64) -> NDArray[Any]:
    """The named rows, ascending; a view where they follow one another."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return vectors[rows[0] : rows[-1] + 1]
    found: NDArray[Any] = vectors[rows]
    return found


def products_of_each(queries: F32, vectors: NDArray[Any], rows: I64) -> F32:
    """(q, n): of each query the ``products`` with its own rows (q, n), to the bit."""
    if not (vectors.dtype == np.float32 and vectors.flags.c_contiguous) or not rows.size:
        return np.stack([products(query, vectors, own) for query, own in zip(queries, rows, strict=True)])
    if rows.min() < 0 or rows.max() >= len(vectors) or queries.shape[1:] != vectors.shape[1:]:
        raise IndexError(
            f"expected queries and rows of {vectors.shape}, got {queries.shape}, {rows.min()} to {rows.max()}"
        )
    import faiss

    scores = np.empty(rows.shape, np.float32)
    queries, rows = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(rows, np.int64)
    pointers = [faiss.swig_ptr(array) for array in (scores, queries, vectors, rows)]
    faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
    return scores


def products(query: F32, vectors: NDArray[Any], rows: I64) -> F32:
    """(n,) float32: the inner products of query (dim,) with the named rows of vectors (size, dim), within
    ``inner_product.error_bound``. Vectors of float32 are read where they lie: a copy costs more than the products."""
    scores = np.empty(len(rows), np.float32)
    if not len(rows):
        return scores
    if rows.min() < 0 or rows.max() >= len(vectors) or query.shape != vectors.shape[1:]:
        raise IndexError(
            f"expected a query and rows of {vectors.shape}, got {query.shape}, {rows.min()} to {rows.max()}"
        )
    if vectors.dtype == np.float32 and vectors.flags.c_contiguous:
        # Not at the top: whoever reads no codes loads no faiss.
        import faiss

        # Named, for faiss holds bare pointers.
        query, rows = np.ascontiguousarray(query, np.float32), np.ascontiguousarray(rows, np.int64)
        pointers = [faiss.swig_ptr(array) for array in (scores, query, vectors, rows)]
        faiss.fvec_inner_products_by_idx(*pointers, len(query), 1, len(rows))
        return scores
    for start in range(0, len(rows), PIECE):
        scores[start : start + PIECE] = fast_scores(query, vectors[rows[start : start + PIECE]])
    return scores
