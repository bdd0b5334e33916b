"""Minus the geodesic distance in hyperbolic space, of curvature -1: points of a hyperboloid, or of a ball.

An inner product finds candidates: the Minkowski product of two points of the hyperboloid is one with a sign turned,
and their distance grows with it; of points of the ball, appended numbers make one of the same order. A score is of the
points themselves: near the edge of the ball, where most of a tree lies, an inner product in float32 has lost the digits
that a distance is made of. Both distances are 2 arsinh(sqrt(t)), with

    t = <x - y, x - y>_L / 4 on the hyperboloid, and |u - v|^2 / ((1 - |u|^2) (1 - |v|^2)) in the ball.

Sources: Nickel, Kiela: "Poincaré Embeddings for Learning Hierarchical Representations", 2017 (arXiv 1705.08039),
section 3, equation 1; the same: "Learning Continuous Hierarchies in the Lorentz Model of Hyperbolic Geometry", 2018
(arXiv 1806.03417), section 3, equations 2 to 5, and 11 for the lifting of a ball's points; Ungar: "A Gyrovector Space
Approach to Hyperbolic Geometry", 2009, whose gyrodistance is the tanh of half of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from app.compute.native import kernel
from app.errors import Invalid
from app.scoring.similarity import Similarity, lengths
from app.types import F32, F64, I64, SimilarityName, TokenVectors

TOLERANCE: Final = 1e-4
"""How far -x0^2 + |x|^2 may be from -1, beside 1 + x0^2: about a thousand times what float32 rounds."""
FARTHEST: Final = 1e6
"""The largest x0, and 1 / (1 - |v|^2) of a point of the ball: float32 has no room between such points and the edge."""


class Lorentz(Similarity):
    """score(x, y) = -arcosh(-<x, y>_L), where <x, y>_L = -x0 y0 + x1 y1 + ... Stored as they come, x0 first; a query's
    x0 has its sign turned. A distance is that of the points above (x1, x2, ...), so what x0 was rounded by is none.

    >>> x = np.array([[1, 0], [math.cosh(2), math.sinh(2)]], np.float32)
    >>> float(distances(Lorentz(), Lorentz().query(x[:1]), x)[0, 1].round(4))
    2.0
    """

    name: ClassVar[SimilarityName] = "lorentz"
    linear: ClassVar[bool] = False
    geodesic: ClassVar[bool] = True

    def check(self, vectors: NDArray[Any], pointer: str) -> None:
        if vectors.shape[1] < 2:
            raise Invalid.at(pointer, f"a point of a hyperboloid has 2 coordinates or more, got {vectors.shape[1]}")
        wide = vectors.astype(np.float64)
        squares = np.square(wide)
        norms = squares[:, 1:].sum(axis=1) - squares[:, 0]
        off = np.abs(norms + 1) / (1 + squares[:, 0])
        if (wide[:, 0] > FARTHEST).any():
            raise Invalid.at(pointer, f"a point is too far out: x0 is {wide[:, 0].max():g}, at most {FARTHEST:g}")
        if not ((off <= TOLERANCE) & (wide[:, 0] > 0)).all():
            place = int(np.where(wide[:, 0] > 0, off, np.inf).argmax())
            true = math.sqrt(1 + float(squares[place, 1:].sum()))
            if wide[place, 0] <= 0 and off[place] <= TOLERANCE:
                told = f"vector {place} is on the other sheet of the hyperboloid, where x0 is below 0"
                raise Invalid.at(pointer, f"{told}: {wide[place, 0]:.6g}, where {true:.6g} would do")
            raise Invalid.at(
                pointer,
                f"vector {place} is no point of the hyperboloid: -x0^2 + x1^2 + ... is {norms[place]:.6g}, not -1; its "
                f"first number is {wide[place, 0]:.6g}, where {true:.6g} would do",
            )

    def query(self, vectors: F32) -> F32:
        return np.concatenate([-vectors[:, :1], vectors[:, 1:]], axis=1, dtype=np.float32)

    def mean(self, means: F64) -> F32:
        # The centroid of Law, Liao, Snell, Zemel: Lorentzian Distance Learning for Hyperbolic Representations, 2019.
        inside = np.square(means[:, 0]) - np.square(means[:, 1:]).sum(axis=1)
        found = means[:, 1:] / np.sqrt(np.where(inside > 0, inside, 1))[:, None]
        top = np.sqrt(1 + np.square(found).sum(axis=1))
        return np.concatenate([top[:, None], found], axis=1).astype(np.float32)

    def asked_mean(self, asked: F32) -> F32:
        given = self.query(asked).mean(axis=0, keepdims=True, dtype=np.float64)
        return self.query(self.mean(given))

    def score(self, score: float) -> float:
        return min(0.0, score)


class Poincare(Similarity):
    """score(u, v) = -arcosh(1 + 2 |u - v|^2 / ((1 - |u|^2) (1 - |v|^2))), of points of the open unit ball.

    Stored is (2 w v, -w, -w |v|^2, v) with w = 1 / (1 - |v|^2), asked is (u, |u|^2, 1, 0): the inner product is
    -w |u - v|^2, which orders documents as their distances do; these are of the points, which are stored as they came.

    >>> u = np.array([[0, 0], [0.5, 0]], np.float32)
    >>> stored, asked = Poincare().document(u), Poincare().query(u[:1])
    >>> (asked @ stored.T).round(4).tolist(), float(distances(Poincare(), asked, stored)[0, 1].round(4))
    ([[0.0, -0.33329999446868896]], 1.0986)
    """

    name: ClassVar[SimilarityName] = "poincare"
    linear: ClassVar[bool] = False
    geodesic: ClassVar[bool] = True

    def stored_dim(self, dim: int) -> int:
        return 2 * dim + 2

    def check(self, vectors: NDArray[Any], pointer: str) -> None:
        size = lengths(vectors)
        inside = 1 - np.square(size)
        if (inside * FARTHEST < 1).any():
            place = int(size.argmax())
            where = f"{size[place] - 1:.3g} outside of" if size[place] > 1 else f"{1 - size[place]:.3g} from"
            raise Invalid.at(
                pointer,
                f"vector {place} is no point inside the unit ball: its length is {size[place]:.9g}, {where} the edge; "
                f"expected 1 - |v|^2 to be {1 / FARTHEST:g} at least",
            )

    def document(self, vectors: F32) -> F32:
        wide = vectors.astype(np.float64)
        square = np.square(wide).sum(axis=1, keepdims=True)
        weight = 1 / np.maximum(1 - square, 1 / FARTHEST)
        return np.concatenate([2 * weight * wide, -weight, -weight * square, wide], axis=1).astype(np.float32)

    def query(self, vectors: F32) -> F32:
        square = np.square(lengths(vectors))[:, None]
        return np.concatenate([vectors, square, np.ones_like(square), np.zeros_like(vectors)], axis=1).astype(
            np.float32
        )

    def given(self, stored: F32) -> F32:
        return np.ascontiguousarray(stored[:, -(stored.shape[1] // 2 - 1) :])

    def asked_mean(self, asked: F32) -> F32:
        # A mean of points of a ball is one.
        dim = asked.shape[1] // 2 - 1
        return self.query(asked[:, :dim].mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32))

    def score(self, score: float) -> float:
        return min(0.0, score)


def nearest(measure: Similarity, asked: F32, tokens: TokenVectors) -> tuple[F64, I64]:
    """(n, q) each: the distance of each query's point to the nearest one of each passage, and which of it that is.

    asked: (q, stored_dim) float32, of ``query``. tokens: passages of float32 of a geodesic similarity, stored. The same
    bits in whatever passages it is asked for: sums in float64 in one order. Raises Invalid for an empty passage.
    """
    if len(tokens) and tokens.counts.min() < 1:
        raise Invalid(f"passage {int(tokens.counts.argmin())} has no vectors")
    least, places = _least(
        np.ascontiguousarray(asked, np.float32),
        np.ascontiguousarray(tokens.values, np.float32),
        tokens.offsets,
        measure.name == "poincare",
    )
    return 2 * np.arcsinh(np.sqrt(least)), places


def distances(measure: Similarity, asked: F32, stored: F32) -> F64:
    """(q, n): of each point that is asked with to each one that is stored."""
    return nearest(measure, asked, TokenVectors(stored, np.arange(len(stored) + 1)))[0].T


@kernel
def _least(asked: F32, stored: F32, offsets: I64, ball: bool) -> tuple[F64, I64]:
    """The least t of each passage and query, (n, q), and its place in the passage."""
    rows, queries, width = len(offsets) - 1, len(asked), stored.shape[1]
    least, places = np.full((rows, queries), np.inf), np.zeros((rows, queries), np.int64)
    dim = width // 2 - 1 if ball else width - 1
    first, own = (width - dim, 0) if ball else (1, 1)
    squares = np.zeros(queries)
    for q in range(queries):
        for i in range(dim):
            squares[q] += np.float64(asked[q, own + i]) * np.float64(asked[q, own + i])
    for row in range(rows):
        for place in range(offsets[row], offsets[row + 1]):
            square = 0.0
            for i in range(dim):
                square += np.float64(stored[place, first + i]) * np.float64(stored[place, first + i])
            for q in range(queries):
                apart, along = 0.0, 0.0
                for i in range(dim):
                    there, here = np.float64(stored[place, first + i]), np.float64(asked[q, own + i])
                    apart += (there - here) * (there - here)
                    along += (there - here) * (there + here)
                if ball:
                    found = apart / ((1 - squares[q]) * (1 - square))
                else:
                    up = along / (math.sqrt(1 + square) + math.sqrt(1 + squares[q]))
                    found = max(0.0, apart - up * up) / 4
                if found < least[row, q]:
                    least[row, q], places[row, q] = found, place - offsets[row]
    return least, places


def loops() -> Iterator[None]:
    """Compiles every loop of this module (``native.prepare``)."""
    points = np.zeros((1, 2), np.float32)
    for measure in (Lorentz(), Poincare()):
        distances(measure, measure.query(points), measure.document(points))
        yield
