"""Ward's linkage, so that documents can be pooled side by side: SciPy's holds the interpreter's lock.

The nearest-neighbour chain (Murtagh 1983; Müllner 2011, arXiv 1109.2378), step by step as SciPy's ``linkage`` has it,
in the same order and arithmetic, so its merges are SciPy's (a test holds it), among equal distances too.
"""

from __future__ import annotations

import math

import numpy as np

from app.compute.native import kernel
from app.types import F64, I64


@kernel
def _chained(distances: F64, first: I64, second: I64, heights: F64) -> None:
    """The n - 1 merges of the rows of (n, n) distances, which are used up, in the order in which chains find them."""
    n = distances.shape[0]
    for i in range(n):
        for j in range(i):
            distances[i, j] = distances[j, i]
    size = np.ones(n, np.int64)
    chain = np.empty(n, np.int64)
    length = 0
    for merge in range(n - 1):
        if length == 0:
            length = 1
            for i in range(n):
                if size[i] > 0:
                    chain[0] = i
                    break
        while True:
            x = chain[length - 1]
            # The one before is preferred among equals, or a chain could go in a circle.
            y, least = -1, np.inf
            if length > 1:
                y = chain[length - 2]
                least = distances[x, y]
            for i in range(n):
                if size[i] > 0 and i != x and distances[x, i] < least:
                    least = distances[x, i]
                    y = i
            if length > 1 and y == chain[length - 2]:
                break
            chain[length] = y
            length += 1
        length -= 2
        if x > y:
            x, y = y, x
        first[merge], second[merge], heights[merge] = x, y, least
        nx, ny = size[x], size[y]
        size[x], size[y] = 0, nx + ny
        for i in range(n):
            ni = size[i]
            if ni > 0 and i != y:
                t = 1.0 / (nx + ny + ni)
                ix, iy = distances[i, x], distances[i, y]
                joined = math.sqrt((ni + nx) * t * ix * ix + (ni + ny) * t * iy * iy - ni * t * least * least)
                distances[i, y] = joined
                distances[y, i] = joined


def merges(distances: F64) -> tuple[I64, I64]:
    """(first, second): rows whose clusters are joined, n - 1 each, by height; equal ones as they were found.

    distances: (n, n) float64, contiguous, of which the upper half counts; overwritten.
    """
    n = len(distances)
    first, second, heights = np.empty(n - 1, np.int64), np.empty(n - 1, np.int64), np.empty(n - 1)
    _chained(distances, first, second, heights)
    order = np.argsort(heights, kind="stable")
    return first[order], second[order]
