"""Passages to learn from, their exact scores, and what an approximate ranking finds."""

from __future__ import annotations

import numpy as np

from app.scoring import maxsim
from app.types import F32, F64, TokenVectors


def passages(
    seed: int, count: int, dim: int = 16, shortest: int = 1, longest: int = 12, topics: int = 12
) -> TokenVectors:
    """Token vectors around a few topics of each passage, of length 1: what tells passages apart is there to learn."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((topics, dim))
    matrices = []
    for length in random.integers(shortest, longest + 1, count):
        mine = centres[random.choice(topics, 3)]
        vectors = mine[random.integers(0, 3, length)] + 0.7 * random.standard_normal((length, dim))
        matrices.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return TokenVectors.join(matrices)


def exact(queries: TokenVectors, documents: TokenVectors) -> F64:
    return np.array([[maxsim.reference(query, passage) for passage in documents] for query in queries])


def recall(approximate: F32, truth: F64, width: int, k: int = 5) -> float:
    """The share of the true top k among the first ``width``."""
    found = np.argsort(-approximate, axis=1)[:, :width]
    wanted = np.argsort(-truth, axis=1)[:, :k]
    return float(np.mean([np.isin(w, f).mean() for w, f in zip(wanted, found, strict=True)]))
