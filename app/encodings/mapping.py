"""Rows times a matrix, in one order of sums: a row has the same bits whatever other rows are in the batch.

A lone row costs one read of the matrix: 8,192 x 512 numbers are 16.8 MB as float32, more than a core's cache. As
whole numbers of 16 bits, with a scale for each column, they are half of it, and recall of a learned first stage is the
same to the fourth digit (of 12 bits .001 less, of 10 .017, of 8 most is lost: much of a sum cancels).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.compute.native import kernel
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


class WholeMap:
    """rows (m, n) -> (m, r) float32: times a matrix (n, r), each column rounded to 65,535 steps of its own.

    A column so small that its steps would not be normal float32 counts as 0.

    >>> WholeMap(np.array([[1, 2], [0.5, 4]], np.float32))(np.array([[1, 1]], np.float32)).round(3).tolist()
    [[1.5, 6.0]]
    """

    def __init__(self, matrix: F32) -> None:
        largest = np.abs(matrix).max(axis=0, initial=0)
        steps = largest / np.float32(32_767)
        self._steps = np.where(steps >= np.finfo(np.float32).tiny, steps, np.float32(1))
        self._whole = np.rint(matrix / self._steps).astype(np.int16)

    def __call__(self, rows: F32) -> F32:
        out = np.zeros((len(rows), self._whole.shape[1]), np.float32)
        _add_whole_products(np.ascontiguousarray(rows), self._whole, out)
        return out * self._steps


@kernel
def _add_whole_products(rows: F32, matrix: NDArray[np.int16], out: F32) -> None:
    whole = matrix.shape[0] // 4 * 4
    for i in range(rows.shape[0]):
        row, total = rows[i], out[i]
        for j in range(0, whole, 4):
            # Four lines at a time, added one after the other: the sums are loaded and stored a quarter as often.
            a, b, c, d = row[j], row[j + 1], row[j + 2], row[j + 3]
            for k in range(matrix.shape[1]):
                sum_ = total[k] + a * np.float32(matrix[j, k])
                sum_ = sum_ + b * np.float32(matrix[j + 1, k])
                sum_ = sum_ + c * np.float32(matrix[j + 2, k])
                total[k] = sum_ + d * np.float32(matrix[j + 3, k])
        for j in range(whole, matrix.shape[0]):
            for k in range(matrix.shape[1]):
                total[k] += row[j] * np.float32(matrix[j, k])
