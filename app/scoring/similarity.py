"""Similarities: what a collection makes of vectors before it keeps them or asks with them, and of an inner product.

Every similarity is reduced to the largest inner product of stored vectors with a query's, so that candidates, codes
and exact scores know of none. A new one is a class here or in ``app.scoring.similarities``, and an entry in its
``measures``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import Invalid
from app.types import F32, F64, SimilarityName

MAX_LENGTH: Final = 1e15
"""The longest vector taken under inner_product: any sum of products of such vectors stays finite in float32. Cosine
normalises first, so it needs no limit."""


class Similarity(Protocol):
    """What is said here in code is true of an inner product of vectors that are stored and asked with as they come.

    name: in a specification. unit: whether every stored vector has length 1, or 0. linear: whether the score is an
    inner product and nothing else, so that queries may be added up and weighed. geodesic: whether it is minus a
    distance in a hyperbolic space, which is computed from the points themselves (app.scoring.similarities.hyperbolic).
    """

    name: ClassVar[SimilarityName]
    unit: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    geodesic: ClassVar[bool] = False

    def stored_dim(self, dim: int) -> int:
        """Numbers that are stored of a vector of ``dim``."""
        return dim

    def query_dim(self, dim: int) -> int:
        """Numbers of a vector that is asked with, where those of documents have ``dim``."""
        return dim

    def check(self, vectors: NDArray[Any], pointer: str) -> None:
        """Raises Invalid for finite vectors, (n, dim), that it is not defined for."""
        check_lengths(vectors, pointer)

    def document(self, vectors: F32) -> F32:
        """(n, dim) as given -> (n, stored_dim) as stored, before they are coded."""
        return vectors

    def query(self, vectors: F32) -> F32:
        """(q, query_dim) as given -> (q, stored_dim) as the stored ones are asked with."""
        return vectors

    def given(self, stored: F32) -> F32:
        """(n, stored_dim) -> (n, dim): vectors as they came, or what stands for them."""
        return stored

    def seeking(self, stored: F32) -> F32:
        """(n, stored_dim) -> (n, query_dim): vectors to ask with for what is like these."""
        return self.given(stored)

    def mean(self, means: F64) -> F32:
        """(n, dim), means of vectors as given -> (n, dim): the nearest vectors that it is defined for."""
        return means.astype(np.float32)

    def asked_mean(self, asked: F32) -> F32:
        """(n, stored_dim), of ``query`` -> (1, stored_dim): the same of the mean of what was given to it."""
        found: F32 = asked.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        return found

    def offsets(self, asked: F32) -> F64 | None:
        """(q, stored_dim), of ``query`` -> (q,): what is added to the inner products of each; None for nothing."""
        return None

    def score(self, score: float) -> float:
        """As a hit shows it."""
        return score


class Cosine(Similarity):
    """score(q, d) = <q, d> / (|q| |d|). Vectors are stored with length 1.

    >>> Cosine().document(np.array([[3, 4], [0, 0]], np.float32)).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """

    name: ClassVar[SimilarityName] = "cosine"
    unit: ClassVar[bool] = True

    def check(self, vectors: NDArray[Any], pointer: str) -> None:
        size = lengths(vectors)
        if size.min(initial=1) == 0:
            raise Invalid.at(pointer, f"vector {int(size.argmin())} is all zeros, which has no cosine with anything")

    def document(self, vectors: F32) -> F32:
        size = lengths(vectors)
        return (vectors / np.where(size > 0, size, 1)[:, None]).astype(np.float32)

    def query(self, vectors: F32) -> F32:
        return self.document(vectors)

    def asked_mean(self, asked: F32) -> F32:
        return self.query(super().asked_mean(asked))


class InnerProduct(Similarity):
    """score(q, d) = <q, d>. Vectors are stored as they come."""

    name: ClassVar[SimilarityName] = "inner_product"


class Euclidean(Similarity):
    """score(q, d) = -|q - d|^2 = 2 <q, d> - |d|^2 - |q|^2: an inner product with one number appended, and a number of
    the query alone.

    Stored is (d, a, a'), where a = (|d|^2 - L^2) / 2L in float32 and a' what that leaves, so that distances keep their
    digits; asked is (2 q, -2 L, -2 L), and -(|q|^2 + L^2) is added. L, the usual length of the vectors, does not change
    a score: with it the appended numbers are small, and few bits and encodings without data have room for the others.

    An L2 similarity has fewer hubs than an inner product, of which long vectors are the best of everything (Cheng,
    Tai, Tang: "Rethinking Space-Time Networks with Improved Memory Coverage for Efficient Video Object Segmentation",
    2021, arXiv 2106.05210).

    >>> euclidean = Euclidean()
    >>> asked, stored = euclidean.query(np.array([[3, 0]], np.float32)), euclidean.document(np.eye(2, dtype=np.float32))
    >>> (asked @ stored.T + euclidean.offsets(asked)).tolist()
    [[-4.0, -10.0]]
    """

    name: ClassVar[SimilarityName] = "euclidean"
    linear: ClassVar[bool] = False
    LONGEST: ClassVar[float] = 1e6

    def __init__(self, length: float = 1.0) -> None:
        self._length = length

    def stored_dim(self, dim: int) -> int:
        return dim + 2

    def check(self, vectors: NDArray[Any], pointer: str) -> None:
        check_lengths(vectors, pointer, self.LONGEST)

    def document(self, vectors: F32) -> F32:
        square = self._length**2
        appended = (squares(vectors) - square) / (2 * self._length)
        high = appended.astype(np.float32)
        low = (appended - high).astype(np.float32)
        return np.concatenate([vectors, high[:, None], low[:, None]], axis=1, dtype=np.float32)

    def query(self, vectors: F32) -> F32:
        ends = np.full((len(vectors), 2), -2 * self._length, np.float32)
        return np.concatenate([2 * vectors, ends], axis=1, dtype=np.float32)

    def given(self, stored: F32) -> F32:
        return np.ascontiguousarray(stored[:, :-2])

    def offsets(self, asked: F32) -> F64 | None:
        # As long as the length that float32 has.
        length = asked[:, -1].astype(np.float64) / 2
        return -(squares(asked[:, :-2]) / 4 + np.square(length))

    def score(self, score: float) -> float:
        # What rounding leaves of a distance of 0.
        return min(0.0, score)


def check_lengths(vectors: NDArray[Any], pointer: str, most: float = MAX_LENGTH) -> None:
    """Raises Invalid for a vector, of (n, dim), that is longer than ``most``."""
    longest = lengths(vectors).max(initial=0)
    if longest > most:
        raise Invalid.at(pointer, f"a vector is longer than {most:g}, the limit; got {longest:g}")


def lengths(vectors: NDArray[Any]) -> F64:
    """Euclidean length of each row, (n,), in float64: squares of float32 can overflow float32."""
    return np.sqrt(squares(vectors))


def squares(vectors: NDArray[Any]) -> F64:
    """The squares of these lengths."""
    found: F64 = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return found
