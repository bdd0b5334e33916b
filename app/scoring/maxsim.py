"""MaxSim: score(Q, D) = sum over query vectors q of the largest inner product q . d with a passage vector d.

Source: Khattab, Zaharia: "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over
BERT", SIGIR 2020 (arXiv 2004.12832), section 3.3, equation 3. Also called Chamfer similarity.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.compute.blas import keep_to_one_thread
from app.compute.float16 import widen
from app.compute.rounding import bound, norms_up
from app.errors import Invalid
from app.scoring.integers import float_maxima
from app.types import F32, F64, I64, TokenVectors

_CHUNK_VALUES = 1 << 20
"""Token values scored at a time: 4 MiB of float32, in a third-level cache. Less would fit the second level, but then
two threads spend their time handing the interpreter lock to each other: 400 passages of SciFact in 22 ms by two
threads (39 by one), at an eighth of the size in 53."""
_BLOCK_VALUES = 1 << 18
"""Largest inner products, (passages, query vectors), kept at a time."""


class FloatScorer:
    """The functions below for one query over passages of float16 or float32 (app.scoring.protocol.Scorer)."""

    def __init__(self, query: F32) -> None:
        self._query = query

    def scores(self, tokens: TokenVectors, rows: I64 | None = None) -> F32:
        return _scores(self._query, tokens, rows)

    def maxima(self, tokens: TokenVectors, rows: I64 | None = None) -> F32:
        keep_to_one_thread()
        with np.errstate(over="ignore", invalid="ignore"):
            return _maxima(self._query, tokens.values, *_places(self._query, tokens, rows))

    def products(self, tokens: TokenVectors) -> F32:
        return self.maxima(TokenVectors(tokens.values, np.arange(len(tokens.values) + 1)))

    def error_bound(self, norms: F32) -> F64:
        return error_bound(self._query, norms)

    def references(self, tokens: TokenVectors, rows: I64, norms: F32, offset: float = 0.0) -> list[float]:
        return [
            _reference(self._query, tokens[row], norm, offset)
            for row, norm in zip(rows.tolist(), norms.tolist(), strict=True)
        ]

    def best(self, tokens: TokenVectors, products: F32, norms: F32) -> tuple[I64, F64]:
        # Products are made anew: `products` rounds as it likes.
        found = [_best(self._query, tokens[row], norm) for row, norm in enumerate(norms.tolist())]
        return np.array([places for places, _ in found]), np.array([values for _, values in found])


def reference(query: F32, passage: NDArray[Any]) -> float:
    """THE score of one passage. query: (q, dim) float32. passage: (t, dim) float16 or float32, t at least 1.

    Inner products in float64 in the order of ``lanes.dot``, which rounds 29 bits below float32; the sum over query
    vectors is exact (``fsum``). Only tokens whose product in float32 is near the largest are computed so: the others
    cannot be the largest. Gives a float that float32 holds; infinite where the score is too large for it.

    >>> reference(np.eye(2, dtype=np.float32), np.array([[1, 0], [0.5, 0.25]], np.float16))  # 1 + 0.25
    1.25
    """
    return _reference(query, passage, float(norms_up(passage).max(initial=0)))


def _reference(query: F32, passage: NDArray[Any], norm: float, offset: float = 0.0) -> float:
    _, best = _best(query, passage, norm)
    with np.errstate(over="ignore"):
        return float(np.float32(math.fsum([*best.tolist(), offset])))


def _best(query: F32, passage: NDArray[Any], norm: float) -> tuple[I64, F64]:
    """(q,): the first row that has the largest inner product with each query vector, and that product."""
    if not len(passage):
        raise Invalid("a passage without vectors has no MaxSim score")
    keep_to_one_thread()
    rows = widen(passage, np.empty(passage.shape, np.float32))
    query_norms = np.sqrt(np.einsum("ij,ij->i", query, query, dtype=np.float64))
    # How far an inner product in float32 can be from one in float64; infinite where it may overflow.
    slack = 2 * bound(query.shape[1], 1, query_norms * norm)
    wide = np.zeros((len(query), -(-query.shape[1] // 8) * 8))
    wide[:, : query.shape[1]] = query
    places, best = np.zeros(len(query), np.int64), np.empty(len(query))
    with np.errstate(over="ignore", invalid="ignore"):
        float_maxima(rows, rows @ query.T, slack, wide, places, best)
    return places, best


def fast_scores(query: F32, tokens: TokenVectors) -> F32:
    """Scores of many passages, in float32.

    query: (q, dim) float32. tokens: n passages, float16 or float32, memory-mapped or not. Gives (n,) float32.
    Raises Invalid for a passage without vectors, or for another dim.

    >>> tokens = TokenVectors.join([np.array([[1, 0], [0.5, 0.25]], np.float16), np.array([[0, 3]], np.float16)])
    >>> fast_scores(np.eye(2, dtype=np.float32), tokens).tolist()
    [1.25, 3.0]
    """
    return _scores(query, tokens, None)


def error_bound(query: F32, norms: F32) -> F64:
    """|fast_scores - reference| is never above it, (n,) float64.

    norms: (n,) float32, the largest norm of a vector in each passage, rounded up (``rounding.norms_up``).
    """
    query_norms = np.sqrt(np.einsum("ij,ij->i", query, query, dtype=np.float64))
    with np.errstate(invalid="ignore"):
        return bound(query.shape[1], len(query), math.fsum(query_norms.tolist()) * norms.astype(np.float64))


def _places(query: F32, tokens: TokenVectors, rows: I64 | None) -> tuple[I64, I64]:
    """Where each passage begins and ends. Raises Invalid."""
    if query.ndim != 2 or not len(query) or query.shape[1] != tokens.dim:
        raise Invalid(f"expected a query of shape (at least 1, {tokens.dim}), got {query.shape}")
    starts, stops = tokens.offsets[:-1], tokens.offsets[1:]
    if rows is not None:
        starts, stops = starts[rows], stops[rows]
    if len(starts) and (stops - starts).min() < 1:
        raise Invalid(f"passage {int((stops - starts).argmin())} has no vectors")
    return starts, stops


def _scores(query: F32, tokens: TokenVectors, rows: I64 | None) -> F32:
    starts, stops = _places(query, tokens, rows)
    keep_to_one_thread()
    scores = np.empty(len(starts), np.float32)
    block = max(1, _BLOCK_VALUES // len(query))
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(starts), block):
            part = slice(first, first + block)
            # The sum in float64: it costs nothing here, and leaves the inner products' rounding alone in the bound.
            _maxima(query, tokens.values, starts[part], stops[part]).sum(axis=1, dtype=np.float64, out=scores[part])
    return scores


def _maxima(query: F32, values: NDArray[Any], starts: I64, stops: I64) -> F32:
    """The largest inner product of each query vector with each passage, (n, q). Passage i: values[starts[i]:stops[i]].

    The passages' rows are taken as one list and cut into chunks of one size, inside a passage too: the largest of a
    passage is the largest of its parts, so a passage of any length takes no more memory.
    """
    dim, lengths = query.shape[1], stops - starts
    if not len(starts):
        return np.empty((0, len(query)), np.float32)
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    step = min(total, max(1, _CHUNK_VALUES // dim))
    # Zero columns up to a multiple of four: OpenBLAS multiplies by 16 columns in half the time of 15.
    columns = np.zeros((dim, -(-len(query) // 4) * 4), np.float32)
    columns[:, : len(query)] = query.T
    gathered = np.empty((step, dim), values.dtype)
    wide = np.empty((step, dim), np.float32) if values.dtype == np.float16 else None
    similarities = np.empty((step, columns.shape[1]), np.float32)
    maxima = np.full((len(starts), columns.shape[1]), -np.inf, np.float32)
    for begin in range(0, total, step):
        end = min(begin + step, total)
        size = end - begin
        first, last = np.searchsorted(ends, [begin, end - 1], side="right")
        passages = slice(int(first), int(last) + 1)
        cuts = np.maximum(ends[passages] - lengths[passages] - begin, 0)
        places = np.maximum(starts[passages], stops[passages] - (ends[passages] - begin))
        if (starts[passages][1:] == stops[passages][:-1]).all():
            chunk = values[places[0] : places[0] + size]
        else:
            index = np.arange(size) + np.repeat(places - cuts, np.diff(cuts, append=size))
            chunk = np.take(values, index, axis=0, out=gathered[:size], mode="clip")
        if wide is not None:
            chunk = widen(chunk, wide[:size])
        np.matmul(chunk, columns, out=similarities[:size])
        np.maximum(maxima[passages], np.maximum.reduceat(similarities[:size], cuts), out=maxima[passages])
    return maxima[:, : len(query)]
