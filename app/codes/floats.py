"""Vectors as floating-point numbers, of half or single precision."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.compute.float16 import widen
from app.compute.rounding import norms_up
from app.types import F32


class FloatCode:
    """``float16`` holds vectors of length 1; ``float32`` any.

    >>> FloatCode("float16", 2).encode(np.array([[0.1, 1]], np.float32)).tolist()
    [[0.0999755859375, 1.0]]
    """

    def __init__(self, precision: Literal["float16", "float32"], dim: int) -> None:
        self.precision: Literal["float16", "float32"] = precision
        self.dim = self.width = dim
        self.dtype = np.dtype(precision)
        self.bytes_per_vector = dim * self.dtype.itemsize

    def encode(self, vectors: F32) -> NDArray[Any]:
        return vectors.astype(self.dtype)

    def decode(self, rows: NDArray[Any]) -> F32:
        return widen(rows, np.empty(rows.shape, np.float32))

    def turn(self, vectors: F32) -> F32:
        return vectors

    def norms(self, rows: NDArray[Any]) -> F32:
        return norms_up(rows)
