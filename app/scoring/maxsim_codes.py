"""MaxSim over codes (app.codes.grid): query vectors as planes of bytes, tokens as they are stored.

score(Q, D) as in app.scoring.maxsim, where d is the stored vector, scale * numbers, and q is taken in the coordinates
of the code (turned, where the code is). With 15 bits of q instead of 24 the fast score is off by some millionths of the
product of the lengths; the bound is what the planes leave of each query vector, times the length of d (Cauchy and
Schwarz), and rounding.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.codes.grid import GridCode, readable
from app.compute.rounding import SMALLEST32, U32, U64, gamma
from app.errors import Invalid
from app.scoring import integers
from app.scoring.planes import planes_of
from app.types import F32, F64, I64, TokenVectors


class CodeScorer:
    """
    >>> code = GridCode("8bit", 2)
    >>> tokens = TokenVectors.join([code.encode(np.array([[1, 0], [0, 2]], np.float32))])
    >>> scorer = CodeScorer(np.eye(2, dtype=np.float32), code)
    >>> (score,) = scorer.references(tokens, np.array([0]), np.array([2.1], np.float32))
    >>> scorer.scores(tokens).round(4).tolist(), round(score, 4)
    ([3.0], 3.0)
    """

    def __init__(
        self,
        query: F32,
        code: GridCode,
        *,
        planes: Literal[1, 2] = 2,
        native: bool | None = None,
        full: bool = False,
    ) -> None:
        """query: (q, dim) float32. planes: one is faster, and off by a hundredth instead of some millionths; a full one
        by half of that, and no faster than two where bytes are multiplied by AVX2."""
        if query.ndim != 2 or not len(query) or query.shape[1] != code.dim:
            raise Invalid(f"expected a query of shape (at least 1, {code.dim}), got {query.shape}")
        self._code = code
        turned = code.turn(np.ascontiguousarray(query, np.float32))
        self._planes = planes_of(turned, code, planes, native, full=full)
        self._wide = np.zeros((len(query), -(-code.dim // 8) * 8))
        self._wide[:, : code.dim] = turned
        self._lengths = lengths = np.sqrt(np.einsum("ij,ij->i", self._wide, self._wide)) * (1 + 1e-9)
        # Of one inner product with a vector of length 1: what the planes leave, four roundings of the fast value, and
        # those of the reference.
        self._errors = self._planes.left + gamma(5, U32) * self._planes.sizes + gamma(code.dim + 10, U64) * lengths
        relative = 2 * U32 * (1 + 2 * U32) + 2 * gamma(len(query) + 4, U64)
        self._error = math.fsum(self._errors.tolist()) + relative * math.fsum((lengths + self._errors).tolist())

    def scores(self, tokens: TokenVectors, rows: I64 | None = None) -> F32:
        # Element by element and in one order: BLAS would round by how many rows there are.
        total = np.zeros(len(tokens) if rows is None else len(rows))
        best = self._maxima(tokens, rows).astype(np.float64)
        for q, unit in enumerate(self._planes.units.tolist()):
            total += unit * best[:, q]
        return total.astype(np.float32)

    def maxima(self, tokens: TokenVectors, rows: I64 | None = None) -> F32:
        found = self._maxima(tokens, rows)
        # In float64, and rounded once.
        np.multiply(found, self._planes.units, out=found, casting="same_kind")
        return found

    def products(self, tokens: TokenVectors) -> F32:
        found = np.empty((len(tokens.values), len(self._wide)), np.float32)
        codes, dim, bits = self._rows(tokens)
        integers.products(codes, dim, bits, *self._lanes(), self._planes.units, found)
        return found

    def error_bound(self, norms: F32) -> F64:
        small = (math.fsum(self._planes.units.tolist()) + 2) * 4 * SMALLEST32
        found: F64 = (self._error * norms.astype(np.float64) + small) * (1 + 2.0**-9)
        return found

    def references(self, tokens: TokenVectors, rows: I64, norms: F32, offset: float = 0.0) -> list[float]:
        begins, ends = _places(tokens, rows)
        slack = 2 * norms.astype(np.float64)[:, None] * (self._errors / self._planes.units) * (1 + 2.0**-9)
        best = np.empty((len(rows), len(self._wide)))
        rest = self._code.zero, self._wide, slack + 8 * SMALLEST32, best
        integers.reference_maxima(*self._arguments(tokens, begins, ends, *rest))
        return [float(np.float32(math.fsum([*row, offset]))) for row in best.tolist()]

    def best(self, tokens: TokenVectors, products: F32, norms: F32) -> tuple[I64, F64]:
        # Beside what values in the units of the planes are off by, the rounding of their product with the unit.
        errors = self._errors + 2 * U32 * (self._lengths + self._errors)
        slack = 2 * norms.astype(np.float64)[:, None] * errors * (1 + 2.0**-9) + 8 * SMALLEST32 * self._planes.units
        places, values = np.zeros(slack.shape, np.int64), np.empty(slack.shape)
        codes, offsets = readable(tokens.values), np.ascontiguousarray(tokens.offsets, np.int64)
        of_code = self._code.dim, self._code.bits, self._code.zero
        integers.best_tokens(codes, *of_code, offsets, products, slack, self._wide, places, values)
        return places, values

    def _maxima(self, tokens: TokenVectors, rows: I64 | None) -> F32:
        """In the units of the planes."""
        begins, ends = _places(tokens, rows)
        best = np.empty((len(begins), len(self._wide)), np.float32)
        integers.maxima(*self._arguments(tokens, begins, ends, best))
        return best

    def _arguments(self, tokens: TokenVectors, begins: I64, ends: I64, *rest: Any) -> tuple[Any, ...]:
        return *self._rows(tokens), begins, ends, *self._lanes(), *rest

    def _rows(self, tokens: TokenVectors) -> tuple[NDArray[np.uint8], int, int]:
        if tokens.values.dtype != np.uint8 or tokens.values.shape[1] != self._code.width:
            came = f"{tokens.values.shape[1]} {tokens.values.dtype}"
            raise Invalid(f"expected rows of {self._code.width} bytes, got {came}")
        return readable(tokens.values), self._code.dim, self._code.bits

    def _lanes(self) -> tuple[I64, NDArray[np.int8], NDArray[np.int32], int, bool]:
        planes = self._planes
        return planes.blocks, planes.content, planes.starts, planes.planes, planes.native


def _places(tokens: TokenVectors, rows: I64 | None) -> tuple[I64, I64]:
    begins, ends = tokens.offsets[:-1], tokens.offsets[1:]
    if rows is not None:
        begins, ends = begins[rows], ends[rows]
    if len(begins) and (ends - begins).min() < 1:
        raise Invalid(f"passage {int((ends - begins).argmin())} has no vectors")
    if len(begins) and not 0 <= begins.min() <= ends.max() <= len(tokens.values):
        raise Invalid(f"passages from {begins.min()} to {ends.max()}, of {len(tokens.values)} vectors")
    return np.ascontiguousarray(begins), np.ascontiguousarray(ends)
