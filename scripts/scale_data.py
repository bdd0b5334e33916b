"""Passages of any number with the structure of real ones: drawn around the token vectors of real texts.

The real ones: the standard library's documentation (python_docs.py) through an encoder, token vectors
projected by uncentred PCA and renormalised. A made passage reads like a new text on two of their topics: most of its
vectors are a run of one text's, the others a run of another's; all are moved alike by the difference of two texts'
means (a document of its own), and each by the difference of two vectors of the pool (words of its own). Differences of
real vectors keep their spectrum, so nothing is isotropic noise. A query takes vectors of one made passage, runs
together, moved in the same way: so it has an origin, and that has neighbours.

Everything is drawn by position from one seed: the same call gives the same passages, in whatever pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from python_docs import PythonDocs

from app.encoders.registry import Encoders
from app.settings import Settings
from app.types import F32, I64, Document, TokenVectors

TOKENS: Final = 64
"""Vectors of a passage."""
QUERY_TOKENS: Final = 16
CHUNK: Final = 2_048
"""Passages drawn at a time, from a random stream of their own."""
RUN: Final = 44
"""Vectors of a passage that come from its first topic; the others come from its second."""
DOCUMENT_SHIFT: Final = 1.0
"""How far a passage moves from its topics, times a difference of two texts' means."""
TOKEN_SHIFT: Final = 0.7
"""How far a vector moves by itself, times a difference of two vectors of the pool."""
QUERY_SHIFT: Final = 1.0
"""The same for a query's vectors."""
SHARES: Final = 1_000
"""A passage's metadata has `part`, uniform among so many: `part < n` keeps n thousandths."""


@dataclass(frozen=True)
class Pool:
    """Real token vectors of several texts, each of at least `TOKENS`. means: (texts, dim) float32, of each text."""

    tokens: TokenVectors
    means: F32

    @classmethod
    def of(cls, tokens: TokenVectors) -> Pool:
        sums = np.add.reduceat(tokens.values, tokens.offsets[:-1], axis=0)
        return cls(tokens, (sums / tokens.counts[:, None]).astype(np.float32))

    @classmethod
    def load(cls, path: Path | None, texts: int, dim: int, model: str) -> Pool:
        """From the file, or encoded (and put there): as many texts of the documentation, evenly drawn."""
        if path is not None and path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                return cls.of(TokenVectors(stored["values"], stored["offsets"]))
        settings = Settings()
        found = [e.found.passage for e in PythonDocs().entries() if isinstance(e.found, Document)]
        long = [text for text in found if len(text.split()) >= TOKENS]
        chosen = np.random.default_rng(0).permutation(len(long))[:texts].tolist()
        encoders = Encoders(settings.models, settings.converted, settings.threads)
        encoder = encoders.get(model, "multi_vector")
        matrices: list[F32] = []
        for start in range(0, len(chosen), 64):
            encoded = encoder.encode_documents([long[i] for i in chosen[start : start + 64]])
            assert encoded.tokens is not None
            matrices.extend(matrix for matrix in encoded.tokens if len(matrix) >= TOKENS)
        encoders.close()
        tokens = TokenVectors.join(matrices)
        basis = np.linalg.eigh((tokens.values[::7].T @ tokens.values[::7]).astype(np.float64))[1][:, ::-1][:, :dim]
        tokens = TokenVectors(unit(tokens.values @ basis.astype(np.float32)), tokens.offsets)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, values=tokens.values, offsets=tokens.offsets)
        return cls.of(tokens)


@dataclass(frozen=True)
class Chunk:
    """Passages ``start`` and on. vectors: (n, TOKENS, dim) float32 of length 1. part: (n,), see SHARES."""

    start: int
    vectors: F32
    part: I64

    def documents(self) -> Iterator[Document]:
        for i, vectors in enumerate(self.vectors):
            number = self.start + i
            yield Document(f"{number:08}", f"passage {number}", "", {"part": int(self.part[i])}, vectors)


def chunk(pool: Pool, number: int, size: int, seed: int = 0) -> Chunk:
    """Chunk ``number`` of a collection of ``size`` passages."""
    start = number * CHUNK
    random = np.random.default_rng([seed, number])
    n, dim = CHUNK, pool.tokens.dim
    topics = random.integers(len(pool.tokens), size=(n, 2))
    values, offsets, counts = pool.tokens.values, pool.tokens.offsets, pool.tokens.counts
    lengths = np.array([RUN, TOKENS - RUN])
    starts = offsets[topics] + (random.random((n, 2)) * (counts[topics] - lengths + 1)).astype(np.int64)
    rows = np.concatenate([starts[:, i, None] + np.arange(lengths[i]) for i in range(2)], axis=1)
    vectors = values[rows]
    pair = random.integers(len(pool.means), size=(2, n))
    vectors += (DOCUMENT_SHIFT * (pool.means[pair[0]] - pool.means[pair[1]]))[:, None]
    vectors += moved(pool, random, n * TOKENS, TOKEN_SHIFT).reshape(n, TOKENS, dim)
    part = random.integers(SHARES, size=n)
    keep = min(n, size - start)
    return Chunk(start, unit(vectors[:keep]), part[:keep])


def chunks(pool: Pool, size: int, seed: int = 0) -> Iterator[Chunk]:
    """The whole collection."""
    return (chunk(pool, number, size, seed) for number in range(-(-size // CHUNK)))


def queries(pool: Pool, size: int, count: int, seed: int = 0) -> F32:
    """(count, QUERY_TOKENS, dim) float32 of length 1: each around some vectors of one passage of the collection."""
    random = np.random.default_rng([seed, 1, 1])
    made = np.empty((count, QUERY_TOKENS, pool.tokens.dim), np.float32)
    for i, passage in enumerate(random.integers(size, size=count).tolist()):
        vectors = chunk(pool, passage // CHUNK, size, seed).vectors[passage % CHUNK]
        first = int(random.integers(TOKENS - QUERY_TOKENS + 1))
        made[i] = vectors[first : first + QUERY_TOKENS] + moved(pool, random, QUERY_TOKENS, QUERY_SHIFT)
    return unit(made)


def moved(pool: Pool, random: np.random.Generator, n: int, by: float) -> F32:
    """(n, dim): differences of vectors of the pool, times ``by``."""
    values = pool.tokens.values
    difference = values[random.integers(len(values), size=n)]
    difference -= values[random.integers(len(values), size=n)]
    difference *= np.float32(by)
    return difference


def unit(vectors: F32) -> F32:
    """Last axis of length 1."""
    result: F32 = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return result
