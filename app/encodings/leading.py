"""The leading eigenvectors of a large symmetric matrix, by subspace iteration.

All eigenvectors of 2,048 take LAPACK six seconds, and we need some hundreds. A random subspace multiplied by the matrix
some times, orthogonal each time, holds them (Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithm 4.4); the small
problem inside it is then solved exactly.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr

from app.types import F32

EXACT = 768
"""The largest matrix that is solved at once."""
_MORE = 64
"""Dimensions of the subspace beyond the rank."""
_ITERATIONS = 4


def leading(matrix: F32, rank: int) -> tuple[F32, F32]:
    """(n, n) symmetric, positive up to rounding -> min(rank, n) eigenvalues, descending, and eigenvectors (n, rank).

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
            basis = qr(matrix @ basis, mode="economic", overwrite_a=True, check_finite=False)[0]
        inner = basis.T @ matrix @ basis
    wide = inner.astype(np.float64)
    values, vectors = np.linalg.eigh((wide + wide.T) / 2)
    values, found = values[::-1][:rank].astype(np.float32), vectors[:, ::-1][:, :rank].astype(np.float32)
    return values, found if basis is None else basis @ found
