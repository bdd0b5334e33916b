"""What learned encodings are made of: features of a vector, max-sims of a passage, samples of both.

Each passage meets BLAS alone, in shapes that its own number of vectors decides. So the same vectors give the same
bits, whatever else is in the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.float16 import widen
from app.types import F32, I64, TokenVectors

_BLOCK_ROWS = 1024
"""Vectors of one passage worked on together."""
_BLOCK_SAMPLES = 1024
"""Samples compared at a time: products with a passage stay in a core's second-level cache."""


def widened(values: NDArray[Any]) -> F32:
    """float16 or float32, any shape -> float32, contiguous."""
    return widen(values, np.empty(values.shape, np.float32))


def max_sims(passage: NDArray[Any], samples: F32) -> F32:
    """g(t) = max over the passage's vectors x of <t, x>, for every sample t: (tokens, dim), (n, dim) -> (n,).

    >>> max_sims(np.array([[1, 0], [0, 2]], np.float32), np.array([[1, 1], [1, 0], [-1, -1]], np.float32)).tolist()
    [2.0, 1.0, -1.0]
    """
    best = np.full(len(samples), -np.inf, np.float32)
    for start in range(0, len(passage), _BLOCK_ROWS):
        rows = widened(passage[start : start + _BLOCK_ROWS])
        for first in range(0, len(samples), _BLOCK_SAMPLES):
            part = slice(first, first + _BLOCK_SAMPLES)
            np.maximum(best[part], (rows @ samples[part].T).max(axis=0), out=best[part])
    return best


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
        self._squares = np.square(places).sum(axis=1)
        self._columns = np.ascontiguousarray(places.T)

    def gram(self) -> F32:
        """(n, n): the kernel of every two samples."""
        return self._between(np.ascontiguousarray(self._columns.T))

    def total(self, query: NDArray[Any]) -> F32:
        """(tokens, dim) -> (n,): the sum of phi over the vectors."""
        total = np.zeros(self._columns.shape[1], np.float32)
        for start in range(0, len(query), _BLOCK_ROWS):
            units, lengths = directions(query[start : start + _BLOCK_ROWS])
            total += lengths @ self._between(self._places(units))
        return total

    def _places(self, units: F32) -> F32:
        placed: F32 = (units - self._centre) * self._scale
        return placed

    def _between(self, places: F32) -> F32:
        exponents = places @ self._columns
        exponents -= self._squares / 2
        exponents -= (np.square(places).sum(axis=1) / 2)[:, None]
        np.minimum(exponents, 0, out=exponents)  # rounding
        np.exp(exponents, out=exponents)
        return exponents


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
