"""The vectors of n passages as a collection stores them, and how an encoder's or a caller's become that.

Coding happens once, at write time: normalised if the similarity is cosine, pooled where the collection asks for it,
coded as its precision has it, encoded for the first stage. What a query scores in the tail is to the bit what it
scores after sealing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from app.codes.protocol import Code
from app.codes.token_pooling import pool_tokens
from app.collection.spec import CollectionSpec
from app.compute.rounding import norms_up
from app.compute.workers import Workers
from app.encodings.protocol import Encoding
from app.errors import Invalid
from app.store.directory import Content
from app.types import F32, I64, Encoded, Similarity, TokenVectors

MAX_LENGTH: Final = 1e15
"""The longest vector taken under inner_product: any sum of products of such vectors stays finite in float32. Cosine
normalises first, so it needs no limit."""


@dataclass(frozen=True, slots=True)
class Passages:
    """The vectors of n passages.

    pooled: (n, dim) float32. tokens: n matrices of codes (app.codes), None in a dense collection. norms:
    (n,) float32, at least the length of the longest vector that exact scoring reads. encoded: (n, encoded_dim) float32,
    each value one that ``spec.encoded_dtype`` holds, None without an encoding. raw: callers' vectors as they came,
    float32, None where none are kept.
    """

    pooled: F32
    tokens: TokenVectors | None
    norms: F32
    encoded: F32 | None
    raw: TokenVectors | None

    def __len__(self) -> int:
        return len(self.pooled)

    @property
    def nbytes(self) -> int:
        """Of the vectors that queries read."""
        tokens = 0 if self.tokens is None else self.tokens.values.nbytes
        return self.pooled.nbytes + tokens + (0 if self.encoded is None else self.encoded.nbytes)

    @property
    def raw_counts(self) -> I64:
        """Callers' vectors that are kept of each passage; more than the token vectors, where those are pooled."""
        return np.zeros(len(self), np.int64) if self.raw is None else self.raw.counts

    def take(self, rows: Sequence[int]) -> Passages:
        """The named passages, a copy."""
        index = np.asarray(rows, np.int64)
        return Passages(
            self.pooled[index],
            None if self.tokens is None else self.tokens.take(index),
            self.norms[index],
            None if self.encoded is None else self.encoded[index],
            None if self.raw is None else self.raw.take(index),
        )

    @staticmethod
    def join(parts: Sequence[Passages]) -> Passages:
        """In order; at least one part, all of one collection."""

        def ragged(values: list[TokenVectors | None]) -> TokenVectors | None:
            present = [value for value in values if value is not None]
            if not present:
                return None
            offsets = np.concatenate([[0], np.cumsum(np.concatenate([value.counts for value in present]))])
            return TokenVectors(np.concatenate([value.values for value in present]), offsets.astype(np.int64))

        encoded = [part.encoded for part in parts if part.encoded is not None]
        return Passages(
            np.concatenate([part.pooled for part in parts]),
            ragged([part.tokens for part in parts]),
            np.concatenate([part.norms for part in parts]),
            np.concatenate(encoded) if encoded else None,
            ragged([part.raw for part in parts]),
        )

    def to_bytes(self) -> bytes:
        """As safetensors."""
        arrays: dict[str, NDArray[Any]] = {"pooled": self.pooled, "norms": self.norms}
        if self.encoded is not None:
            arrays["encoded"] = self.encoded
        for name, value in (("tokens", self.tokens), ("raw", self.raw)):
            if value is not None:
                arrays[f"{name}.values"], arrays[f"{name}.offsets"] = value.values, value.offsets
        return save_tensors({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> Passages:
        """From bytes that were verified."""
        arrays = load_tensors(content)

        def ragged(name: str) -> TokenVectors | None:
            if f"{name}.values" not in arrays:
                return None
            return TokenVectors(arrays[f"{name}.values"], arrays[f"{name}.offsets"])

        return cls(arrays["pooled"], ragged("tokens"), arrays["norms"], arrays.get("encoded"), ragged("raw"))


def given_of(content: Content, rows: Sequence[int]) -> list[F32]:
    """Callers' vectors of the named passages, from mapped bytes of ``to_bytes`` that were verified; no more of it is
    read.
    """
    # safetensors: the length of a header (u64), the header in JSON, then the arrays at the places that it names.
    view = memoryview(content)
    begin = 8 + int.from_bytes(view[:8], "little")
    header = json.loads(bytes(view[8:begin]))

    def array(name: str, dtype: type[np.generic]) -> NDArray[Any]:
        start, stop = header[name]["data_offsets"]
        return np.frombuffer(view[begin + start : begin + stop], dtype).reshape(header[name]["shape"])

    values, offsets = array("raw.values", np.float32), array("raw.offsets", np.int64)
    return [values[offsets[row] : offsets[row + 1]].copy() for row in rows]


def lengths(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Euclidean length of each row, (n,), in float64: squares of float32 can overflow float32."""
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def normalise(vectors: F32, similarity: Similarity) -> F32:
    """Rows of length 1 under cosine, zero rows staying zero; as they are under inner_product."""
    if similarity == "inner_product":
        return vectors
    size = lengths(vectors)
    return (vectors / np.where(size > 0, size, 1)[:, None]).astype(np.float32)


def check_vectors(vectors: NDArray[Any], spec: CollectionSpec, pointer: str) -> None:
    """Raises Invalid unless the rows are vectors that the collection can hold or be asked with."""
    if vectors.ndim != 2 or vectors.shape[0] == 0:
        raise Invalid.at(pointer, "expected at least one vector")
    if vectors.shape[1] != spec.dim:
        raise Invalid.at(pointer, f"expected vectors of {spec.dim:,} dimensions, got {vectors.shape[1]:,}")
    if not np.isfinite(vectors).all():
        raise Invalid.at(pointer, "expected finite numbers, got NaN or Infinity (or a number too large for float32)")
    size = lengths(vectors)
    if spec.similarity == "inner_product" and size.max() > MAX_LENGTH:
        raise Invalid.at(pointer, f"a vector is longer than {MAX_LENGTH:g}, the limit; got {size.max():g}")
    if spec.similarity == "cosine" and size.min() == 0:
        raise Invalid.at(pointer, f"vector {int(size.argmin())} is all zeros, which has no cosine with anything")


def pool(tokens: TokenVectors, similarity: Similarity) -> F32:
    """One vector a passage: the mean of its token vectors, normalised under cosine; (n, dim) float32."""
    means = np.empty((len(tokens), tokens.dim))
    for passage, mean in zip(tokens, means, strict=True):
        # The same sums as by ``reduceat``, in a seventh of the time.
        np.add.reduce(passage, axis=0, dtype=np.float64, out=mean)
    means /= tokens.counts[:, None]
    if similarity == "cosine":
        size = np.sqrt(np.einsum("ij,ij->i", means, means))
        # Opposite vectors can cancel to zero: such a passage is simply never a candidate by its pooled vector.
        means /= np.where(size > 0, size, 1)[:, None]
    return means.astype(np.float32)


def from_encoder(
    encoded: Encoded, spec: CollectionSpec, encoding: Encoding | None, workers: Workers | None = None
) -> Passages:
    """An encoder's vectors, coded for the collection. workers: share what takes long."""
    pooled = normalise(encoded.pooled, spec.similarity)
    return _code(pooled, encoded.tokens if spec.kind == "multi_vector" else None, spec, encoding, None, workers)


def from_caller(
    vectors: Sequence[F32], spec: CollectionSpec, encoding: Encoding | None, workers: Workers | None = None
) -> Passages:
    """Callers' vectors, one checked matrix a document, coded for the collection. workers: as in ``from_encoder``."""
    raw = TokenVectors.join(vectors)
    kept = raw if spec.keeps_raw else None
    if spec.kind == "dense":
        return _code(normalise(raw.values, spec.similarity), None, spec, encoding, kept, workers)
    return _code(pool(raw, spec.similarity), raw, spec, encoding, kept, workers)


def _code(
    pooled: F32,
    tokens: TokenVectors | None,
    spec: CollectionSpec,
    encoding: Encoding | None,
    raw: TokenVectors | None,
    workers: Workers | None,
) -> Passages:
    if tokens is None:
        return Passages(pooled, None, norms_up(pooled), None, raw)
    tokens = TokenVectors(normalise(tokens.values, spec.similarity), tokens.offsets)
    if spec.token_pooling > 1:
        means = pool_tokens(tokens, spec.token_pooling, workers)
        tokens = TokenVectors(normalise(means.values, spec.similarity), means.offsets)
    coded = TokenVectors(spec.code.encode(tokens.values), tokens.offsets)
    encoded = None if encoding is None else encode(encoding, tokens, None, spec)
    norms = spec.code.norms(coded.values)
    largest = np.maximum.reduceat(norms, coded.offsets[:-1]) if len(coded) else norms
    return Passages(pooled, coded, largest, encoded, raw)


def encode(encoding: Encoding, tokens: TokenVectors, pooled: F32 | None, spec: CollectionSpec) -> F32:
    """For the first stage, rounded as it is stored at once: the tail and the index then rank by the same numbers.

    tokens: normalised as the collection's are, not coded: before they are, where that can be.
    """
    encoded = encoding.encode_documents(tokens, pooled).astype(spec.encoded_dtype)
    return encoded.astype(np.float32)


def decoded(tokens: TokenVectors, code: Code) -> TokenVectors:
    """Stored token vectors as float32, in the coordinates that they came in."""
    return TokenVectors(code.decode(tokens.values), tokens.offsets)
