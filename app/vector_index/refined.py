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
from app.types import F32, I64, Mask
from app.vector_index.protocol import Candidates, VectorIndex

DIRECT: Final = 8_192
"""Allowed rows up to which their vectors are read instead of codes: reading them costs about as much as the codes of a
large index, and is exact."""
PIECE: Final = 2_048
"""Vectors gathered at a time."""


class Refined:
    """An index of codes over vectors that ``read`` gives: rows (n,) -> (n, dim) float16 or float32."""

    def __init__(self, index: VectorIndex, read: Callable[[I64], NDArray[Any]]) -> None:
        self.index, self._read = index, read

    def search(self, query: F32, k: int, *, allowed: Mask | None, wide: int, breadth: float = 1.0) -> Candidates:
        """The best k of the ``wide`` rows (at least k) that codes find, by inner product with query (dim,); (k,) each.

        Exactly min(k, allowed rows), best first, equal scores by row.
        """
        if allowed is not None and np.count_nonzero(allowed) <= max(DIRECT, wide):
            rows = np.flatnonzero(allowed).astype(np.int64)
        else:
            rows = self.index.search(query[None], max(k, wide), allowed=allowed, breadth=breadth).rows[0]
            rows = np.sort(rows[rows >= 0])
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), PIECE):
            scores[start : start + PIECE] = fast_scores(query, self._read(rows[start : start + PIECE]))
        best = np.argsort(-scores, kind="stable")[:k]
        return Candidates(rows[best], scores[best])
