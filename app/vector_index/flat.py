"""Exact search: every allowed vector of an array is scored where it lies (`flat`).

The array is the caller's, usually a memory map, so an exact index has no file and no copy of its own. Half precision
halves the bytes and the time, which is the time to read them. Scores are computed in float32, each by itself: neither
the number of queries, nor the filter, nor the threads change a bit of one.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from app.errors import Invalid
from app.types import F32, Mask
from app.vector_index.protocol import Candidates
from app.vector_index.ranking import Selector, checked, ranked
from app.vector_index.viewed import viewed


class Flat:
    """The rows of an array. array: (size, dim) float16 or float32, contiguous, of finite values; kept, never copied."""

    name = "flat"

    def __init__(self, array: NDArray[Any]) -> None:
        if array.ndim != 2 or array.dtype not in (np.float16, np.float32) or not array.flags.c_contiguous:
            raise Invalid(f"expected a contiguous (n, dim) array in half or single precision, got {array.dtype}")
        self.size, self.dim = array.shape
        self._array = array
        self._index = _over(array)

    def search(self, queries: F32, k: int, *, allowed: Mask | None = None, breadth: float = 1.0) -> Candidates:
        """See ``VectorIndex.search``; exact, so ``breadth`` is ignored."""
        queries = checked(queries, self.dim, "queries")
        selector = Selector(allowed, self.size)
        parameters = faiss.SearchParameters(sel=selector.faiss)

        def search(queries: F32, depth: int) -> Any:
            return self._index.search(queries, depth, params=parameters)

        return ranked(search, queries, k=k, available=selector.count, exponent=0)


def _over(array: NDArray[Any]) -> Any:
    """An index of faiss over the array's memory."""
    size, dim = array.shape
    if array.dtype == np.float32:
        index: Any = faiss.IndexFlatIP(dim)
    else:
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    if size:
        index.codes = viewed(array)
        index.ntotal = size
    return index
