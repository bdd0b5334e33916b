"""The parts of learned encodings: features of a vector, max-sims of a passage, samples of both.

Max-sims are of whole numbers, and each query meets BLAS alone, in shapes that its own number of vectors decides. So the
same vectors give the same bits, whatever else is in the batch.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.codes.grid import GridCode
from app.compute.float16 import widen
from app.scoring.maxsim_codes import CodeScorer
from app.types import F32, I64, TokenVectors

_BLOCK_ROWS = 1024
"""Vectors of one passage worked on together."""
_SHARED_ROWS = 256
"""Vectors of several queries worked on together."""
_GROUP_ROWS = 1 << 15
"""Vectors of passages compared together, as far as a passage is not longer."""


def widened(values: NDArray[Any]) -> F32:
    """float16 or float32, any shape -> float32, contiguous."""
    return widen(values, np.empty(values.shape, np.float32))


class MaxSims:
    """g(t) - <t, origin> for samples t, g(t) being the largest inner product of t with a passage's vectors.

    In whole numbers of 8 bits (app.scoring): about a thousandth of the vectors' lengths off, ten times as fast as BLAS,
    and the same bits on every machine, whatever else is in the batch. The origin is taken off the passages' vectors, so
    that a mean that they share leaves room for what tells them apart.

    samples: (n, dim) directions. origin: (dim,). planes: bytes of a sample's coordinate, 2 where samples are alike.

    >>> sims = MaxSims(np.array([[1, 1], [1, 0], [-1, -1]], np.float32), np.zeros(2, np.float32), 1)
    >>> sims(TokenVectors.join([np.array([[1, 0], [0, 2]], np.float32)])).round(2).tolist()
    [[2.0, 1.0, -1.0]]
    """

    def __init__(self, samples: F32, origin: F32, planes: Literal[1, 2]) -> None:
        self._code = GridCode("8bit", samples.shape[1])
        self._origin = origin
        self._scorer = CodeScorer(samples, self._code, planes=planes, full=planes == 1)
        self._samples = len(samples)

    def __call__(self, tokens: TokenVectors) -> F32:
        """(n passages) -> (n, samples) float32, not finite where products are too large. Vectors must be finite."""
        out = np.empty((len(tokens), self._samples), np.float32)
        first = 0
        while first < len(tokens):
            last = int(np.searchsorted(tokens.offsets, tokens.offsets[first] + _GROUP_ROWS, side="right")) - 1
            last = min(max(last, first + 1), len(tokens))
            group = tokens.slice(first, last)
            codes = self._code.encode(widened(group.values) - self._origin)
            out[first:last] = self._scorer.maxima(TokenVectors(codes, group.offsets))
            first = last
        return out


def mean_of(tokens: TokenVectors) -> F32:
    """(dim,) float32: of all vectors, summed in float64 by blocks."""
    total = np.zeros(tokens.dim, np.float64)
    for start in range(0, len(tokens.values), _GROUP_ROWS):
        total += tokens.values[start : start + _GROUP_ROWS].astype(np.float64).sum(axis=0)
    mean: F32 = (total / len(tokens.values)).astype(np.float32)
    return mean


def directions(vectors: NDArray[Any]) -> tuple[F32, F32]:
    """(n, dim) -> vectors of length 1, or 0 where they are 0, and their lengths (n,), inf beyond float32."""
    exact = vectors.astype(np.float64)  # squares of float32 may overflow
    lengths = np.sqrt(np.square(exact).sum(axis=1))
    exact /= np.where(lengths > 0, lengths, 1)[:, None]
    with np.errstate(over="ignore"):
        return exact.astype(np.float32), lengths.astype(np.float32)


class Gaussian:
    """phi(t) = |t| (k(t, s_1), ..., k(t, s_n)): a Gaussian kernel on directions, centred and scaled.

    k(t, s) = exp(-|u_t - u_s|^2 / (2 bandwidth^2)), u_t = (t / |t| - centre) / spread. It never overflows, and is
    near 0 for directions unlike all samples.

    samples: (n, dim) directions. centre: (dim,). spread: above 0.
    """

    def __init__(self, samples: F32, centre: F32, spread: float, bandwidth: float) -> None:
        self._centre = centre
        self._scale = np.float32(1 / (spread * bandwidth))
        places = self._places(samples)
        # One product gives exponents: (x, 1, -|x|^2 / 2) with (s, -|s|^2 / 2, 1).
        self._columns = np.ascontiguousarray(
            np.concatenate([places, -_halved(places), np.ones_like(_halved(places))], 1).T
        )

    def gram(self, start: int = 0, stop: int | None = None) -> F32:
        """(n, n), or some of its rows: the kernel of every two samples."""
        return self._between(np.ascontiguousarray(self._columns[:-2, start:stop].T))

    def total(self, query: NDArray[Any]) -> F32:
        """(tokens, dim) -> (n,): the sum of phi over the vectors."""
        total = np.zeros(self._columns.shape[1], np.float32)
        for start in range(0, len(query), _BLOCK_ROWS):
            units, lengths = directions(query[start : start + _BLOCK_ROWS])
            total += lengths @ self._between(self._places(units))
        return total

    def totals(self, queries: TokenVectors) -> F32:
        """(n queries) -> (n, samples): ``total`` of each, up to rounding, which is not that of a query alone."""
        totals = np.zeros((len(queries), self._columns.shape[1]), np.float32)
        owners = np.repeat(np.arange(len(queries)), queries.counts)
        for start in range(0, len(owners), _SHARED_ROWS):
            units, lengths = directions(queries.values[start : start + _SHARED_ROWS])
            owner = owners[start : start + _SHARED_ROWS]
            first, last = owner[0], owner[-1] + 1
            parts = np.zeros((last - first, len(owner)), np.float32)
            parts[owner - first, np.arange(len(owner))] = lengths
            totals[first:last] += parts @ self._between(self._places(units))
        return totals

    def _places(self, units: F32) -> F32:
        placed: F32 = (units - self._centre) * self._scale
        return placed

    def _between(self, places: F32) -> F32:
        half = _halved(places)
        exponents: F32 = np.concatenate([places, np.ones_like(half), -half], axis=1) @ self._columns
        np.minimum(exponents, 0, out=exponents)  # rounding
        np.exp(exponents, out=exponents)
        return exponents


def _halved(places: F32) -> F32:
    """|x|^2 / 2, (n, 1)."""
    halved: F32 = np.square(places).sum(axis=1, keepdims=True) / 2
    return halved


def draw(documents: TokenVectors, queries: TokenVectors, count: int, random: np.random.RandomState) -> F32:
    """At most ``count`` vectors in random order, half of them of each as far as there are so many: (n, dim)."""
    sizes = len(documents.values), len(queries.values)
    of_queries = min(sizes[1], max(count // 2, count - sizes[0]))
    of_documents = min(sizes[0], count - of_queries)
    drawn = np.concatenate(
        [
            widened(tokens.values[random.permutation(len(tokens.values))[:wanted]])
            for tokens, wanted in ((documents, of_documents), (queries, of_queries))
        ]
    )
    return drawn[random.permutation(len(drawn))]


def windows(documents: TokenVectors, count: int, seed: int = 0, width: int = 24) -> TokenVectors:
    """Stand-ins for queries where there are none: runs of at most ``width`` vectors of random documents, float32.

    At most one of each document.
    """
    random = stream(seed, 1)
    chosen: I64 = random.permutation(len(documents))[:count]
    runs = []
    for row in chosen:
        passage = documents[int(row)]
        start = random.randint(0, max(1, len(passage) - width + 1))
        runs.append(widened(passage[start : start + width]))
    return TokenVectors.join(runs)


def stream(seed: int, use: int) -> np.random.RandomState:
    """Independent random numbers for each use of one seed; NumPy keeps these streams for ever (NEP 19)."""
    return np.random.RandomState(np.random.PCG64(np.random.SeedSequence([seed, use])))
