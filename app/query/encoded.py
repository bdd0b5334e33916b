"""A query as it is scored: its vectors, made by an encoder or brought by a caller."""

from __future__ import annotations

from dataclasses import dataclass

from app.types import F32


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """vectors: (q, stored_dim) float32, one row in a dense collection. pooled: (1, stored_dim), by the encoder, or the
    mean of a caller's vectors. Both as the similarity asks with them. less: (n, stored_dim) float32, whose MaxSim is
    taken off that of ``vectors``."""

    vectors: F32
    pooled: F32
    less: F32 | None = None
