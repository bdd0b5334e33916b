"""The linear algebra of a fit: in pieces on all workers, between which it can be given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from app.types import F32
from app.workers import Workers

T = TypeVar("T")

_PIECE = 1_024
"""Rows between two looks at whether the fit is to be given up."""
_SLICE = 16
"""The fewest rows worth a thread of their own."""
_ROUNDING = 4e-7
"""float32's error in a Gram matrix, relative to its trace, which no eigenvalue exceeds."""


class Work:
    """Pieces of a fit on all workers, and a look between them at whether it is to be given up."""

    def __init__(self, workers: Workers | None, check: Callable[[], None]) -> None:
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


class Solver:
    """(gram + ridge I)^-1, for one positive semidefinite (n, n) float32 matrix. ridge: with what rounding asks for."""

    def __init__(self, gram: F32, ridge: float) -> None:
        raised = gram.copy()
        # Rounding may take the smallest eigenvalues below 0, by a share of the largest.
        self.ridge = np.float32(ridge + _ROUNDING * float(np.trace(gram)))
        raised[np.diag_indices(len(gram))] += self.ridge
        # Symmetric: its transpose lies as LAPACK has it, and is not copied.
        self._factor = cho_factor(raised.T, lower=True, overwrite_a=True, check_finite=False)

    def __call__(self, rows: F32, work: Work) -> F32:
        """The solution of each row: (m, n) -> (m, n)."""

        def solve(start: int, stop: int) -> F32:
            solved: F32 = cho_solve(self._factor, rows[start:stop].T, check_finite=False).T
            return solved

        return np.concatenate(work.sliced(len(rows), solve))
