"""The truth that searches are held to: every document scored by the reference, in plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from app.collection.spec import CollectionSpec
from app.reference import DISTANCES, maxsim
from app.scoring import inner_product
from app.scoring.networks.network import Network
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


def network_score(network: Network, vector: F32) -> float:
    """What a query's network makes of one vector, in plain loops: float32, each sum in the order of its terms."""
    row = vector.astype(np.float32)
    for number, layer in enumerate(network.layers):
        outputs = np.zeros(layer.weights.shape[1], np.float32)
        for value, weights in zip(row, layer.weights, strict=True):
            outputs = outputs + value * weights
        if layer.bias is not None:
            outputs = outputs + layer.bias
        if number == len(network.layers) - 1:
            return float(outputs[0])
        outputs = np.array([ACTIVATED[network.activation](value) for value in outputs.tolist()], np.float32)
        if network.norm == "before":
            outputs = _normalised(outputs)
        if network.adds_input(number):
            outputs = outputs + row
        row = _normalised(outputs) if network.norm == "after" else outputs
    raise AssertionError("a network has a last layer")


ACTIVATED: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else float(np.float32(x) * np.float32(0.01)),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
}


def _normalised(row: F32) -> F32:
    wide = row.astype(np.float64)
    off = wide - sum(wide.tolist()) / len(wide)
    variance = sum((off * off).tolist()) / len(wide)
    return (off * (1 / math.sqrt(variance + 1e-5))).astype(np.float32)
