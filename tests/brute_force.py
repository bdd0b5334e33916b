"""The truth that searches are held to: every document scored by the reference, in plain loops."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from app.collection.spec import CollectionSpec
from app.reference import DISTANCES, maxsim
from app.scoring import inner_product
from app.types import F32


def unit_rows(vectors: F32) -> F32:
    """Rows of length one, rounded once from float64."""
    wide = vectors.astype(np.float64)
    return (wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))).astype(np.float32)


def score(query: F32, vectors: F32, spec: CollectionSpec) -> float:
    """The reference score of one document, from vectors as a caller or an encoder gives them."""
    if pair := DISTANCES.get(spec.similarity):
        best = [max(pair(one, vector) for vector in vectors) for one in query]
        return float(np.float32(math.fsum(best)))
    if spec.similarity == "cosine":
        query, vectors = unit_rows(query), unit_rows(vectors)
    if spec.kind == "dense":
        return inner_product.reference(query[0], vectors[0])
    return maxsim(query, spec.code.encode(vectors), spec.code.precision)


def ranking(documents: Iterable[tuple[str, F32]], query: F32, k: int, spec: CollectionSpec) -> list[tuple[str, float]]:
    """The best k of (id, vectors): (id, score), best first, equal scores by the bytes of the id."""
    scored = [(identifier, score(query, vectors, spec)) for identifier, vectors in documents]
    return sorted(scored, key=lambda item: (-item[1], item[0].encode()))[:k]
