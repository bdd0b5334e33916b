"""Similarities: what a collection makes of vectors before it keeps them or asks with them, and of an inner product.

Every similarity is reduced to the largest inner product of stored vectors with a query's, so that candidates, codes
and exact scores know of none. A new one is a class here and an entry in ``SIMILARITIES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import Invalid
from app.types import F32, F64, SimilarityName

MAX_LENGTH: Final = 1e15
"""The longest vector taken under inner_product: any sum of products of such vectors stays finite in float32. Cosine
normalises first, so it needs no limit."""


class Similarity(Protocol):
    """name: in a specification. unit: whether every stored vector has length 1, or 0."""

    name: SimilarityName
    unit: bool

    def stored_dim(self, dim: int) -> int:
        """Numbers that are stored of a vector of ``dim``."""
        ...

    def check(self, vectors: NDArray[Any], pointer: str) -> None:
        """Raises Invalid for finite vectors, (n, dim), that it is not defined for."""
        ...

    def document(self, vectors: F32) -> F32:
        """(n, dim) as given -> (n, stored_dim) as stored, before they are coded."""
        ...

    def query(self, vectors: F32) -> F32:
        """(q, dim) as given -> (q, stored_dim) as the stored ones are asked with."""
        ...

    def score(self, product: float) -> float:
        """The score of an inner product, or of a sum of them."""
        ...


class Cosine:
    """score(q, d) = <q, d> / (|q| |d|). Vectors are stored with length 1.

    >>> Cosine().document(np.array([[3, 4], [0, 0]], np.float32)).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """

    name: SimilarityName = "cosine"
    unit = True

    def stored_dim(self, dim: int) -> int:
        return dim

    def check(self, vectors: NDArray[Any], pointer: str) -> None:
        size = lengths(vectors)
        if size.min(initial=1) == 0:
            raise Invalid.at(pointer, f"vector {int(size.argmin())} is all zeros, which has no cosine with anything")

    def document(self, vectors: F32) -> F32:
        size = lengths(vectors)
        return (vectors / np.where(size > 0, size, 1)[:, None]).astype(np.float32)

    def query(self, vectors: F32) -> F32:
        return self.document(vectors)

    def score(self, product: float) -> float:
        return product


class InnerProduct:
    """score(q, d) = <q, d>. Vectors are stored as they come."""

    name: SimilarityName = "inner_product"
    unit = False

    def stored_dim(self, dim: int) -> int:
        return dim

    def check(self, vectors: NDArray[Any], pointer: str) -> None:
        longest = lengths(vectors).max(initial=0)
        if longest > MAX_LENGTH:
            raise Invalid.at(pointer, f"a vector is longer than {MAX_LENGTH:g}, the limit; got {longest:g}")

    def document(self, vectors: F32) -> F32:
        return vectors

    def query(self, vectors: F32) -> F32:
        return vectors

    def score(self, product: float) -> float:
        return product


SIMILARITIES: Final[Mapping[SimilarityName, Similarity]] = {
    similarity.name: similarity for similarity in (Cosine(), InnerProduct())
}


def lengths(vectors: NDArray[Any]) -> F64:
    """Euclidean length of each row, (n,), in float64: squares of float32 can overflow float32."""
    squares: F64 = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)
