"""Bilinear forms: score(q, d) = <q, M d>, of a matrix that is given, or that is learned from vectors.

A query is asked as M'q, so documents are stored as they come, and the matrix may be learned when some are there.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from app.errors import Invalid
from app.scoring.similarity import InnerProduct, Similarity
from app.types import F32, F64, SimilarityName

REGULARISATION: Final = 0.01
"""Of a covariance, beside its mean variance."""
CONDITION: Final = 1e12
"""Of a matrix that is inverted, at most."""


class Bilinear(Similarity):
    """matrix: (query_dim, dim) float32. What is asked is M'q, in float64, rounded once.

    >>> turn = Bilinear(np.array([[0, 1, 0], [0, 0, 1]], np.float32))
    >>> turn.query_dim(3), turn.query(np.array([[5, 7]], np.float32)).tolist()
    (2, [[0.0, 5.0, 7.0]])
    """

    name: ClassVar[SimilarityName] = "bilinear"

    def __init__(self, matrix: F32) -> None:
        self._matrix = matrix.astype(np.float64)
        self._square = matrix.shape[0] == matrix.shape[1]
        # Of a matrix that is not: what is nearest to an inverse.
        self._back: F64 = (np.zeros((0, 0)) if self._square else np.linalg.pinv(self._matrix)).astype(np.float64)

    def query_dim(self, dim: int) -> int:
        return len(self._matrix)

    def query(self, vectors: F32) -> F32:
        # One at a time, for BLAS adds up in an order that hangs on how many there are.
        rows = [(row @ self._matrix) for row in vectors.astype(np.float64)]
        with np.errstate(over="ignore"):
            return np.array(rows, np.float64).reshape(len(rows), self._matrix.shape[1]).astype(np.float32)

    def seeking(self, stored: F32) -> F32:
        """Of a square matrix documents ask as they are; else what comes nearest to asking for them."""
        return stored if self._square else (stored.astype(np.float64) @ self._back).astype(np.float32)


class Causal(Bilinear):
    """<q, M d> where M is the inverse covariance of the vectors: concepts that vary freely of each other are orthogonal
    (Park, Choe, Veitch: "The Linear Representation Hypothesis and the Geometry of Large Language Models", 2023, arXiv
    2311.03658, section 3)."""

    name: ClassVar[SimilarityName] = "causal"


class Uncausal(InnerProduct):
    """What ``causal`` is until there are the documents that its matrix is learned from: an inner product."""

    name: ClassVar[SimilarityName] = "causal"


def causal_matrix(sample: F32, regularisation: float = REGULARISATION, at: str = "") -> F32:
    """(dim, dim): the inverse covariance of (n, dim) vectors, times their mean variance v, which leaves what varies
    alike in all directions as it is: v (C + regularisation v I)^-1. at: the pointer to the sample, for errors.

    Raises Invalid for fewer than two vectors, for equal ones, and for a covariance that has no inverse.

    >>> causal_matrix(np.array([[2, 0], [-2, 0], [0, 1], [0, -1]], np.float32), 0.0).tolist()
    [[0.625, 0.0], [0.0, 2.5]]
    """
    if len(sample) < 2:
        raise Invalid.at(at, f"a covariance is of 2 vectors or more, got {len(sample)}")
    wide = sample.astype(np.float64)
    wide -= wide.mean(axis=0)
    covariance = wide.T @ wide / len(wide)
    variance = float(np.trace(covariance)) / len(covariance)
    if not variance > 0 or not np.isfinite(covariance).all():
        raise Invalid.at(at, "the covariance is singular: all vectors are the same, or too long to be squared")
    covariance /= variance
    covariance[np.diag_indices(len(covariance))] += regularisation
    least, most = np.linalg.eigvalsh(covariance)[[0, -1]].tolist()
    if least <= most / CONDITION:
        raise Invalid.at(
            at,
            f"the covariance of {len(sample):,} vectors in {len(covariance):,} dimensions is singular: variances are "
            f"{max(least, 0):.3g} to {most:.3g} of their mean; give more vectors, or a regularisation above 0",
        )
    inverse: F32 = np.linalg.inv(covariance).astype(np.float32)
    return inverse
