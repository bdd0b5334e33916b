"""The leading eigenvectors of a large symmetric matrix, by subspace iteration.

All eigenvectors of 2,048 take LAPACK six seconds, and we need some hundreds. A random subspace multiplied by the matrix
some times, orthogonal each time, holds them (Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithm 4.4); the small
problem inside it is then solved exactly. It is made orthogonal by the eigenvectors of its Gram matrix, in float64: that
is products and one small problem, where QR takes one thread four times as long.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.types import F32

EXACT = 768
"""The largest matrix that is solved at once."""
_MORE = 64
"""Dimensions of the subspace beyond the rank."""
_ITERATIONS = 4
_SMALLEST = 1e-14
"""Of the eigenvalues of a subspace's Gram matrix, in units of the largest: below it a direction is rounding."""

Product = Callable[[F32, F32], F32]


def leading(matrix: F32, rank: int, product: Product = np.matmul) -> tuple[F32, F32]:
    """(n, n) symmetric, positive up to rounding -> eigenvalues, descending, and eigenvectors (n, as many).

    As many as min(rank, n), or as are above a 10-millionth of the largest. product: of two matrices.

    >>> values, vectors = leading(np.diag(np.array([1, 3, 2], np.float32)), 2)
    >>> values.tolist(), np.abs(vectors[:, 0]).tolist()
    ([3.0, 2.0], [0.0, 1.0, 0.0])
    """
    n = len(matrix)
    matrix = (matrix + matrix.T) / np.float32(2)
    basis: F32 | None = None
    inner = matrix
    if n > EXACT and 2 * (rank + _MORE) < n:
        basis = np.random.RandomState(0).standard_normal((n, rank + _MORE)).astype(np.float32)
        for _ in range(_ITERATIONS):
            basis = _orthogonal(product(matrix, basis))
        inner = basis.T @ product(matrix, basis)
    wide = inner.astype(np.float64)
    values, vectors = np.linalg.eigh((wide + wide.T) / 2)
    values, found = values[::-1][:rank].astype(np.float32), vectors[:, ::-1][:, :rank].astype(np.float32)
    return values, found if basis is None else basis @ found


def _orthogonal(columns: F32) -> F32:
    """(n, m) -> (n, up to m) orthonormal columns of the same span, but for directions that are rounding."""
    wide = columns.astype(np.float64)
    values, vectors = np.linalg.eigh(wide.T @ wide)
    kept = values > values[-1] * _SMALLEST
    found: F32 = (wide @ (vectors[:, kept] / np.sqrt(values[kept]))).astype(np.float32)
    return found
