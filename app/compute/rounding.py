"""How far floating-point inner products can be from the real ones.

Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, sections 2.2, 3.1 and 3.5: with unit
roundoff u, an inner product of n terms that is computed in any order, with or without fused multiply-add, is within
gamma_n |x|'|y| of the real one, gamma_n = n u / (1 - n u); and |x|'|y| is at most the product of the norms. Numbers
too small for the format (section 2.1) add at most half the smallest subnormal for each product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.types import F32, F64

U32 = 2.0**-24
"""Unit roundoff of float32."""
U64 = 2.0**-53
"""Unit roundoff of float64."""
SMALLEST32 = 2.0**-149
"""The smallest positive float32."""
LARGEST32 = float(np.finfo(np.float32).max)

_ROWS = 1024


def gamma(n: int, u: float) -> float:
    """n u / (1 - n u): the relative error of n roundings in a row.

    >>> gamma(384, U32) < 2.3e-5
    True
    """
    return n * u / (1 - n * u)


def norms_up(vectors: NDArray[Any]) -> F32:
    """Euclidean norms of the rows of (n, dim), rounded up: never smaller than the real ones. (n,) float32.

    >>> norms_up(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [5.000000476837158, 1.401298464324817e-45]
    """
    norms = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _ROWS):
        part = vectors[start : start + _ROWS].astype(np.float64)
        exact = np.sqrt(np.einsum("ij,ij->i", part, part))
        with np.errstate(over="ignore"):
            norms[start : start + _ROWS] = np.nextafter(exact.astype(np.float32), np.float32(np.inf))
    return norms


def bound(dim: int, terms: int, sizes: F64) -> F64:
    """The most that a score in float32 and its reference differ by, (n,) float64; infinite where float32 may overflow.

    The score is a sum of ``terms`` inner products in ``dim`` dimensions. sizes: (n,), at least the sum over the terms
    of the product of the norms.

    Parts: the inner product in float32 (gamma_dim), the same and the sum in float64, the rounding of both results to
    float32, and numbers too small for the format. Norms may themselves be a thousandth too small,
    and sizes NaN (no query times an infinite norm).
    """
    relative = gamma(dim, U32) + 2 * gamma(dim + terms + 4, U64)
    relative += 2 * U32 * (1 + relative)
    small = (terms * dim + 2) * SMALLEST32
    with np.errstate(over="ignore"):
        result: F64 = (sizes * relative + small) * (1 + 2.0**-9)
        return np.where(sizes * (1 + 2.0**-6) < LARGEST32, result, np.inf)
