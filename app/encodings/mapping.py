"""Rows times a matrix, in one order of sums: a row has the same bits whatever other rows are in the batch."""

from __future__ import annotations

import numpy as np

from app.native import kernel
from app.types import F32

_ROWS = 8
"""Rows that share one pass over the matrix; their sums stay in the nearest cache."""


def mapped(rows: F32, matrix: F32) -> F32:
    """(m, n) x (n, r) -> (m, r) float32.

    >>> mapped(np.array([[1, 2]], np.float32), np.array([[1, 0], [10, 1]], np.float32)).tolist()
    [[21.0, 2.0]]
    """
    out = np.zeros((len(rows), matrix.shape[1]), np.float32)
    _add_products(np.ascontiguousarray(rows), matrix, out)
    return out


@kernel
def _add_products(rows: F32, matrix: F32, out: F32) -> None:
    for first in range(0, rows.shape[0], _ROWS):
        last = min(first + _ROWS, rows.shape[0])
        for j in range(matrix.shape[0]):
            line = matrix[j]
            for i in range(first, last):
                factor = rows[i, j]
                total = out[i]
                for k in range(line.shape[0]):
                    total[k] += factor * line[k]
