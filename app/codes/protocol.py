"""The definition of a code."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.types import F32, Precision


class Code(Protocol):
    """Vectors of ``dim`` dimensions as rows of ``width`` values of ``dtype``.

    A row depends on its own vector alone, to the bit, whatever is coded with it and on whichever machine. Inner
    products with a coded vector are taken in coordinates of the code's own (``turn``); they are those of the decoded
    vector.
    """

    @property
    def precision(self) -> Precision: ...

    @property
    def dim(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def bytes_per_vector(self) -> int: ...

    def encode(self, vectors: F32) -> NDArray[Any]:
        """(n, dim) float32, finite, no longer than 1e15 -> (n, width)."""
        ...

    def decode(self, rows: NDArray[Any]) -> F32:
        """(n, width) -> (n, dim): the vectors that are stored."""
        ...

    def turn(self, vectors: F32) -> F32:
        """(n, dim) query vectors in the coordinates of the code: inner products stay, up to rounding."""
        ...

    def norms(self, rows: NDArray[Any]) -> F32:
        """(n,) lengths of the stored vectors, rounded up, in the coordinates of the code."""
        ...
