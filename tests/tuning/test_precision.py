"""The cost of codes, against float64 brute force over the vectors as they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made import OpenCatalogue

from app.ingest import write_documents
from app.search import Query, search
from app.tuning.neighbours import ask
from app.tuning.precision import DEEP, cost_of_codes
from app.types import F32, Document

DIM = 16
COUNT = 60
K = 20


def vectors(seed: int) -> F32:
    return np.random.default_rng(seed).standard_normal((4, DIM)).astype(np.float32)


def unit(matrix: F32) -> Any:
    wide = matrix.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def cost(open_catalogue: OpenCatalogue, queries: list[Query] | int, **options: Any) -> tuple[Any, Any]:
    collection = open_catalogue().create("c", model=None, kind="multi_vector", dim=DIM, **options)
    write_documents(collection, [Document(f"d{i}", vectors=vectors(i)) for i in range(COUNT)])
    asked = ask(collection, queries, K, lambda: None, lambda *_: None)
    return collection, cost_of_codes(collection, asked, K, lambda: None, lambda *_: None)


@pytest.mark.parametrize("precision", ["1bit", "4bit"])
def test_the_cost_is_what_brute_force_says(open_catalogue: OpenCatalogue, precision: str) -> None:
    assert DEEP * K >= COUNT, "or the truth would not be seen whole"
    queries = [Query(vectors=vectors(1_000 + i)) for i in range(6)]
    collection, found = cost(open_catalogue, queries, precision=precision)
    shares = []
    for query in queries:
        assert query.vectors is not None
        scores = {f"d{i}": (unit(query.vectors) @ unit(vectors(i)).T).max(axis=1).sum() for i in range(COUNT)}
        best = sorted(scores, key=lambda name: -scores[name])[:K]
        hits = search(collection, Query(vectors=query.vectors, k=K, exact=True)).hits
        shares.append(len({hit.id for hit in hits} & set(best)) / K)
    assert found["recall_float32"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert found["recall_float32"] < (0.95 if precision == "1bit" else 1.01)
    assert (found["precision"], found["bytes_per_vector"]) == (precision, collection.spec.code.bytes_per_vector)


def test_float32_costs_nothing(open_catalogue: OpenCatalogue) -> None:
    assert cost(open_catalogue, 5, precision="float32")[1]["recall_float32"] == 1.0


def test_without_the_vectors_it_says_so(open_catalogue: OpenCatalogue) -> None:
    _, found = cost(open_catalogue, 5, precision="1bit", keep_vectors=False)
    assert found["recall_float32"] is None
    assert "keep_vectors" in found["note"]
