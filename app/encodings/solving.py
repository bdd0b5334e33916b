"""The linear algebra of a fit: in pieces on all workers, between which it can be given up.

Everything large is a product of NumPy's, which reaches 230 of the 262 GFLOP/s that a core of Zen 5 can do; LAPACK's own
Cholesky factors and triangular solutions reach 60 to 100 on one thread, and on several wait for each other. So the
factor is made by blocks of columns, and the triangles on its diagonal are inverted: what is left is products (as in
MAGMA; Du Croz and Higham, "Stability of Methods for Matrix Inversion", 1992, say why inverses so small are safe).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from app.compute.workers import Workers
from app.types import F32

T = TypeVar("T")

_PIECE = 2_048
"""Rows between two looks at whether the fit is to be given up."""
_SLICE = 16
"""The fewest rows worth a thread of their own."""
_BLOCK = 256
"""Rows or columns of a triangle worked on together."""
_ROUNDING = 4e-7
"""float32's error in a Gram matrix, relative to its trace, which no eigenvalue exceeds."""


class Work:
    """Pieces of a fit on all workers, and a look between them at whether it is to be given up."""

    def __init__(self, workers: Workers | None = None, check: Callable[[], None] = lambda: None) -> None:
        self._workers, self._check = workers, check

    def sliced(self, size: int, work: Callable[[int, int], T]) -> list[T]:
        found: list[T] = []
        for first in range(0, size, _PIECE):
            self._check()
            count = min(_PIECE, size - first)

            def piece(start: int, stop: int, first: int = first) -> T:
                return work(first + start, first + stop)

            if self._workers is None:
                found.append(piece(0, count))
            else:
                found += self._workers.map_slices(count, piece, smallest=_SLICE)
        return found

    def product(self, left: F32, right: F32) -> F32:
        """left @ right."""
        return np.concatenate(self.sliced(len(left), lambda a, b: left[a:b] @ right))

    def symmetric(self, left: F32, right: F32) -> F32:
        """left @ right where that is symmetric: half of it is computed.

        >>> Work().symmetric(np.array([[1, 2]], np.float32).T, np.array([[1, 2]], np.float32)).tolist()
        [[1.0, 2.0], [2.0, 4.0]]
        """
        out = np.empty((len(left), len(left)), np.float32)
        for start, stop in _blocks(len(left)):

            def part(first: int, last: int, start: int = start, stop: int = stop) -> None:
                np.matmul(left[start:stop], right[:, first:last], out=out[start:stop, first:last])

            self.sliced(stop, part)
            out[:start, start:stop] = out[start:stop, :start].T
        return out


class Solver:
    """(gram + ridge I)^-1, for one positive semidefinite (n, n) float32 matrix. ridge: with what rounding asks for.

    >>> Solver(np.diag(np.array([1, 3], np.float32)), 1.0)(np.array([[2, 4]], np.float32)).round(4).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, gram: F32, ridge: float, work: Work | None = None) -> None:
        factor = gram.copy()
        # Rounding may take the smallest eigenvalues below 0, by a share of the largest.
        self.ridge = np.float32(ridge + _ROUNDING * float(np.trace(gram)))
        factor[np.diag_indices(len(gram))] += self.ridge
        self._factor, self._inverses = factor, _factored(factor, work or Work())

    def __call__(self, rows: F32, work: Work | None = None) -> F32:
        """The solution of each row: (m, n) -> (m, n)."""
        return np.concatenate((work or Work()).sliced(len(rows), lambda a, b: self._solved(rows[a:b].copy())))

    def _solved(self, rows: F32) -> F32:
        """In place: by the factor from the left, then by its transpose from the right."""
        factor, blocks = self._factor, list(zip(_blocks(len(self._factor)), self._inverses, strict=True))
        for (start, stop), inverse in blocks:
            rows[:, start:stop] -= rows[:, :start] @ factor[start:stop, :start].T
            rows[:, start:stop] = rows[:, start:stop] @ inverse.T
        for (start, stop), inverse in reversed(blocks):
            rows[:, start:stop] -= rows[:, stop:] @ factor[stop:, start:stop]
            rows[:, start:stop] = rows[:, start:stop] @ inverse
        return rows


def _factored(matrix: F32, work: Work) -> list[F32]:
    """Cholesky, in place: the lower triangle of ``matrix`` becomes the factor. The inverses of its diagonal blocks."""
    inverses = []
    for start, stop in _blocks(len(matrix)):
        columns, above = matrix[start:, start:stop], matrix[start:stop, :start].T

        def update(first: int, last: int, start: int = start, columns: F32 = columns, above: F32 = above) -> None:
            columns[first:last] -= matrix[start + first : start + last, :start] @ above

        work.sliced(len(columns), update)
        block = np.linalg.cholesky(columns[: stop - start].astype(np.float64))
        inverse = np.linalg.inv(block).astype(np.float32)
        columns[: stop - start] = block
        below = columns[stop - start :]

        def divide(first: int, last: int, below: F32 = below, inverse: F32 = inverse) -> None:
            below[first:last] = below[first:last] @ inverse.T

        work.sliced(len(below), divide)
        inverses.append(inverse)
    return inverses


def _blocks(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]
