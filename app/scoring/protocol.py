"""The scorer of a multi-vector query against passages, as they are stored."""

from __future__ import annotations

from typing import Protocol

from app.types import F32, F64, I64, TokenVectors


class Scorer(Protocol):
    """MaxSim of one query. Made once a query, used from any thread.

    tokens: rows of one code, memory-mapped or not. rows: which of its passages, in this order; None means all of them.
    Raises Invalid for a passage without vectors.
    """

    def scores(self, tokens: TokenVectors, rows: I64 | None = None) -> F32:
        """(n,) float32, fast: each within ``error_bound`` of its reference."""
        ...

    def maxima(self, tokens: TokenVectors, rows: I64 | None = None) -> F32:
        """(n, q) float32: the largest inner product of each query vector with each passage, not summed."""
        ...

    def products(self, tokens: TokenVectors) -> F32:
        """(t, q) float32: the inner products of each token with each query vector, ``maxima`` of it as a passage."""
        ...

    def error_bound(self, norms: F32) -> F64:
        """(n,): how far scores and references can be apart. norms: (n,) float32, of each passage its longest vector's
        length or more."""
        ...

    def references(self, tokens: TokenVectors, rows: I64, norms: F32, offset: float = 0.0) -> list[float]:
        """THE scores of the named passages: of query and passage alone, the same bits whatever else is scored.

        Inner products in float64 in one order (``lanes.dot``), the sum over query vectors exact (``fsum``), the
        result one that float32 holds. norms: (len(rows),) as for ``error_bound``. offset: one more term of the sum.
        """
        ...

    def best(self, tokens: TokenVectors, products: F32, norms: F32) -> tuple[I64, F64]:
        """Of every passage and query vector, (n, q): the place in the passage of the vector that is best, the first of
        equal ones, and its inner product as a reference has it. They add up to the reference within its last rounding.

        products: (t, q) float32, of ``products``. norms: (n,) as for ``error_bound``.
        """
        ...
