"""Inner product of dense vectors: score(q, d) = sum over i of q_i d_i.

With vectors of length 1 it is their cosine. Source: Salton, Wong, Yang: "A vector space model for automatic indexing",
1975, section 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.compute.blas import keep_to_one_thread
from app.compute.float16 import widen
from app.compute.native import kernel, kernel_in_any_order
from app.compute.rounding import U64, bound, gamma
from app.errors import Invalid
from app.types import F32, F64, I64

_CHUNK_VALUES = 1 << 20
"""Values scored at a time: 4 MiB of float32; see app.scoring.maxsim for why not less."""


def reference(query: F32, vector: NDArray[Any], offset: float = 0.0) -> float:
    """THE score of one vector: the real inner product with an offset added, rounded.

    query: (dim,) float32. vector: (dim,) float16 or float32. The products are exact in float64 (24 + 24 bits fit into
    53) and ``fsum`` rounds their sum once, so the order, the machine and BLAS cannot matter. Gives a float that
    float32 holds; infinite where the score is too large for it.

    >>> reference(np.array([1, 2], np.float32), np.array([3, 0.5], np.float16))
    4.0
    """
    products = query.astype(np.float64) * vector.astype(np.float64)
    with np.errstate(over="ignore"):
        return float(np.float32(math.fsum([*products.tolist(), offset])))


def references(query: F32, vectors: NDArray[Any], offset: float = 0.0) -> list[float]:
    """The reference of each vector, to the bit, ten times as fast: (dim,), (n, dim). A sum in float64 is off by so
    little that it nearly always decides how the real one is rounded; else the reference is asked.

    >>> references(np.array([1, 2], np.float32), np.array([[3, 0.5], [0, 1]], np.float32))
    [4.0, 2.0]
    """
    wide = query.astype(np.float64)
    sums, sizes = _sums(wide, np.ascontiguousarray(vectors, np.float32))
    scores, undecided = _rounded(sums, sizes, np.float64(offset), len(query))
    for row in undecided:
        scores[row] = reference(query, vectors[row], offset)
    found: list[float] = scores.tolist()
    return found


def references_of_pairs(queries: F32, which: I64, vectors: NDArray[Any], offsets: F64) -> F64:
    """The reference of each vector (n, dim) with the query (q, dim) that ``which`` (n,) says, and its offset (q,), to
    the bit: (n,)."""
    sums, sizes = _sums_of_pairs(queries.astype(np.float64), which, np.ascontiguousarray(vectors, np.float32))
    scores, undecided = _rounded(sums, sizes, offsets[which], queries.shape[1])
    for row in undecided:
        scores[row] = reference(queries[which[row]], vectors[row], float(offsets[which[row]]))
    return scores


def _rounded(sums: F64, sizes: F64, offsets: F64 | np.float64, dim: int) -> tuple[F64, list[int]]:
    """(n,): the sums with their offsets, as float32 has them, and those that may be rounded the other way."""
    moved = sums + offsets
    # Of dim additions in a row, each of exact products; and as much again, since rounding rounds too.
    slack = gamma(2 * dim + 6, U64) * (sizes + np.abs(offsets))
    with np.errstate(over="ignore", invalid="ignore"):
        found, other = (moved - slack).astype(np.float32), (moved + slack).astype(np.float32)
    # NaN differs from itself, so that it is asked for too.
    return found.astype(np.float64), np.flatnonzero(~(found == other)).tolist()


@kernel
def _sum(query: F64, vector: F32) -> tuple[float, float]:
    """The sum of the products, in the order of the numbers, and of how large these are."""
    total, size = 0.0, 0.0
    for i in range(len(query)):
        product = query[i] * np.float64(vector[i])
        total += product
        size += abs(product)
    return total, size


@kernel
def _sums(query: F64, vectors: F32) -> tuple[F64, F64]:
    """(n,): ``_sum`` with each vector."""
    sums, sizes = np.zeros(len(vectors)), np.zeros(len(vectors))
    for row in range(len(vectors)):
        sums[row], sizes[row] = _sum(query, vectors[row])
    return sums, sizes


@kernel
def _sums_of_pairs(queries: F64, which: I64, vectors: F32) -> tuple[F64, F64]:
    """(n,): ``_sum`` of each vector with its own query."""
    sums, sizes = np.zeros(len(vectors)), np.zeros(len(vectors))
    for row in range(len(vectors)):
        sums[row], sizes[row] = _sum(queries[which[row]], vectors[row])
    return sums, sizes


def fast_scores(query: F32, vectors: NDArray[Any]) -> F32:
    """Scores of many vectors, in float32: (dim,) and (n, dim) float16 or float32, memory-mapped or not -> (n,) float32.

    Vectors of float32 are read where they lie; halves are widened a chunk at a time.

    >>> fast_scores(np.array([1, 2], np.float32), np.array([[3, 0.5], [0, 1]], np.float16)).tolist()
    [4.0, 2.0]
    """
    if vectors.ndim != 2 or query.shape != vectors.shape[1:]:
        raise Invalid(f"expected a query of shape ({vectors.shape[-1]},), got {query.shape}")
    scores = np.empty(len(vectors), np.float32)
    if vectors.dtype == np.float32 and vectors.flags.c_contiguous:
        # In half the time of BLAS, which makes nothing of one query.
        _products(np.ascontiguousarray(query, np.float32), vectors, scores)
        return scores
    keep_to_one_thread()
    step = max(1, _CHUNK_VALUES // max(1, vectors.shape[1]))
    wide = np.empty((min(step, len(vectors)) if vectors.dtype == np.float16 else 0, vectors.shape[1]), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step]
            if part.dtype == np.float16:
                part = widen(part, wide[: len(part)])
            np.matmul(part, query, out=scores[start : start + step])
    return scores


@kernel_in_any_order
def _products(query: F32, vectors: F32, out: F32) -> None:
    """(dim,), (n, dim) -> (n,)."""
    for row in range(len(vectors)):
        total = np.float32(0)
        for i in range(len(query)):
            total += query[i] * vectors[row, i]
        out[row] = total


def loops() -> Iterator[None]:
    """Compiles every loop of this module (``native.prepare``)."""
    vectors = np.eye(2, dtype=np.float32)
    # Of memory maps, too, which are for reading alone.
    mapped = vectors.copy()
    mapped.flags.writeable = False
    for one in (vectors, mapped):
        fast_scores(vectors[0], one)
        yield
        references(vectors[0], one)
        yield
    references_of_pairs(vectors, np.zeros(2, np.int64), vectors, np.zeros(2))
    yield


def error_bound(query: F32, norms: F32) -> F64:
    """|fast_scores - reference| is never above it. norms: (n,), of the vectors, as ``rounding.norms_up`` gives."""
    wide = query.astype(np.float64)
    # Its own rounding is a millionth of what ``bound`` allows norms to be off by.
    length = math.sqrt(float(np.dot(wide, wide)))
    with np.errstate(invalid="ignore"):
        return bound(len(query), 1, length * norms.astype(np.float64))
