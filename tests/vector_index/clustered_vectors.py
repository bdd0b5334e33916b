"""Vectors to search, clustered like real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.types import F32
from app.vector_index import Written


@dataclass(frozen=True)
class Sample:
    vectors: F32
    queries: F32


def clustered(n: int, dim: int, queries: int, seed: int = 0) -> Sample:
    """Unit vectors around n / 50 centres, each off by noise of the centre's own length; queries likewise."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, n // 50), dim)).astype(np.float32)
    points = centres[rng.integers(len(centres), size=n + queries)]
    points = points + rng.standard_normal(points.shape).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return Sample(points[:n], points[n:])


def content_of(index: Written) -> bytes:
    """Its file."""
    parts: list[bytes] = []
    index.write(parts.append)
    return b"".join(parts)
