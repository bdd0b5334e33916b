"""Pooled vectors as an encoding, alone and beside another.

Useful for: encoders that were trained to be searched by one vector; a cheap complement to an encoding that misses
other documents. Not useful for: encoders of token vectors alone, whose mean says little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.compute.workers import Workers
from app.encodings.protocol import Encoding, Sample
from app.errors import Invalid
from app.types import F32, MAX_DIM, TokenVectors


class Pooled:
    """The dense vector of each passage and query, or the normalised mean of its token vectors.

    >>> tokens = TokenVectors.join([np.array([[2, 0, 1, 3], [0, 2, 1, -1]], np.float32)])
    >>> Pooled(4).encode_documents(tokens).tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """

    def __init__(self, dim: int) -> None:
        if not isinstance(dim, int) or isinstance(dim, bool) or not 1 <= dim <= MAX_DIM:
            raise Invalid(f"dim: expected an integer from 1 to {MAX_DIM}, got {dim!r}")
        self._dim = dim

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def encoded_dim(self) -> int:
        return self._dim

    def encode_documents(self, tokens: TokenVectors, pooled: F32 | None = None) -> F32:
        return self._encode(tokens, pooled)

    def encode_queries(self, tokens: TokenVectors, pooled: F32 | None = None, workers: Workers | None = None) -> F32:
        return self._encode(tokens, pooled)

    def to_json(self) -> dict[str, Any]:
        return {"type": "pooled", "dim": self._dim}

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def load(cls, description: Mapping[str, Any]) -> Pooled:
        """The equal of the encoding whose ``to_json`` this is. Raises Invalid."""
        if set(description) != {"type", "dim"} or description["type"] != "pooled":
            raise Invalid(f"expected type 'pooled' and dim, got {dict(description)}")
        return cls(description["dim"])

    def _encode(self, tokens: TokenVectors, pooled: F32 | None) -> F32:
        if tokens.values.ndim != 2 or tokens.dim != self._dim:
            raise Invalid(f"expected vectors of {self._dim} dimensions, got an array of shape {tokens.values.shape}")
        if tokens.values.dtype not in (np.float16, np.float32):
            raise Invalid(f"expected vectors as float16 or float32, got {tokens.values.dtype}")
        counts = tokens.counts
        if len(counts) and counts.min() < 1:
            raise Invalid(f"passage {int(counts.argmin())} has no vectors")
        if not len(tokens):
            return np.zeros((0, self._dim), np.float32)
        if pooled is None:
            pooled = normalised_means(tokens)
        if pooled.shape != (len(tokens), self._dim):
            raise Invalid(f"expected pooled vectors of shape {(len(tokens), self._dim)}, got {pooled.shape}")
        bad = ~np.isfinite(pooled).all(axis=1)
        if bad.any():
            raise Invalid(f"passage {int(bad.argmax())} has a value that is not finite")
        return pooled.astype(np.float32)


class WithPooled:
    """Another encoding with the pooled vector appended: one list by the sum of both scores.

    A query's pooled vector counts once for each of its token vectors, since MaxSim is a sum over them; ``weight``
    brings the pooled score to the scale of the other, and is measured at the fit.
    """

    def __init__(self, inner: Encoding, weight: float) -> None:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise Invalid(f"weight: expected a finite number from 0, got {weight!r}")
        self._inner, self._weight = inner, float(weight)
        self._pooled = Pooled(inner.dim)

    @classmethod
    def fit(cls, inner: Encoding, share: float, sample: Sample) -> WithPooled:
        """share: how much the pooled score varies over documents, in units of how much the other does."""
        documents = _spread(inner.encode_documents(sample.documents), inner.encode_queries(sample.queries))
        beside = cls(inner, 1.0)
        pooled = _spread(
            beside._pooled.encode_documents(sample.documents, sample.document_pooled),
            beside._counted(sample.queries, sample.query_pooled),
        )
        return cls(inner, share * documents / pooled if pooled > 0 else 0.0)

    @property
    def dim(self) -> int:
        return self._inner.dim

    @property
    def encoded_dim(self) -> int:
        return self._inner.encoded_dim + self._inner.dim

    def encode_documents(self, tokens: TokenVectors, pooled: F32 | None = None) -> F32:
        appended = self._pooled.encode_documents(tokens, pooled) * np.float32(self._weight)
        return np.concatenate([self._inner.encode_documents(tokens), appended], axis=1)

    def encode_queries(self, tokens: TokenVectors, pooled: F32 | None = None, workers: Workers | None = None) -> F32:
        return np.concatenate(
            [self._inner.encode_queries(tokens, None, workers), self._counted(tokens, pooled)], axis=1
        )

    def to_json(self) -> dict[str, Any]:
        return {"type": "with_pooled", "inner": self._inner.to_json(), "weight": self._weight}

    def to_bytes(self) -> bytes:
        return self._inner.to_bytes()

    def _counted(self, tokens: TokenVectors, pooled: F32 | None) -> F32:
        counted: F32 = self._pooled.encode_queries(tokens, pooled) * tokens.counts[:, None].astype(np.float32)
        return counted


def normalised_means(tokens: TokenVectors) -> F32:
    """The mean of each passage's vectors at length 1, zero where they cancel: (n, dim) float32; n from 1.

    Sums are of float64 in the passage's own order, so the batch never changes a bit.
    """
    # Not finite means are for the caller to find.
    with np.errstate(invalid="ignore"):
        means = np.add.reduceat(tokens.values.astype(np.float64), tokens.offsets[:-1], axis=0)
        means /= tokens.counts[:, None]
        size = np.sqrt(np.einsum("ij,ij->i", means, means))
        means /= np.where(size > 0, size, 1)[:, None]
    return means.astype(np.float32)


def read_with_pooled(description: Mapping[str, Any], inner: Encoding) -> WithPooled:
    """The encoding whose ``to_json`` this is, around its inner one. Raises Invalid."""
    if set(description) != {"type", "inner", "weight"}:
        raise Invalid(f"expected type 'with_pooled', inner and weight, got {dict(description)}")
    return WithPooled(inner, description["weight"])


def _spread(documents: F32, queries: F32) -> float:
    """How much scores vary over documents: the root of the mean variance of a query's."""
    centred = (documents - documents.mean(axis=0)).astype(np.float64)
    covariance = centred.T @ centred / len(documents)
    wide = queries.astype(np.float64)
    return float(np.sqrt(np.einsum("ij,jk,ik->i", wide, covariance, wide, optimize=True).mean()))
