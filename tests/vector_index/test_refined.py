"""Codes find many, the vectors order them."""

from __future__ import annotations

import tracemalloc
from functools import partial
from typing import Any

import numpy as np
import pytest
from clustered_vectors import Sample
from numpy.typing import NDArray

import app.vector_index as vector_index
from app.compute.rounding import norms_up
from app.scoring import inner_product
from app.types import I64
from app.vector_index import refined
from app.vector_index.refined import Refined, products, reached

NAMES = pytest.mark.parametrize("name", vector_index.NAMES)


class Array:
    """Counts what is read of it."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        self.vectors, self.read = vectors, 0

    def at(self, rows: I64) -> NDArray[Any]:
        self.read += len(rows)
        return self.vectors


@NAMES
def test_the_list_of_the_codes_is_ordered_by_the_vectors(name: str, large: Sample) -> None:
    index = vector_index.build(name, large.vectors)
    array = Array(large.vectors)
    for query in large.queries[:8]:
        found = Refined(index, array.at).search(query, 20, allowed=None, wide=150)
        listed = np.sort(index.search(query[None], 150).rows[0])
        scores = large.vectors[listed].astype(np.float64) @ query
        best = np.argsort(-scores, kind="stable")[:20]
        assert found.rows.tolist() == listed[best].tolist()
        np.testing.assert_allclose(found.scores, scores[best], atol=1e-6)
    assert array.read == 8 * 150


@NAMES
def test_a_wider_list_finds_more(name: str, large: Sample) -> None:
    index = vector_index.build(name, large.vectors)
    exact = vector_index.scan(large.vectors).search(large.queries, 20).rows

    def recall(wide: int) -> float:
        cascade = Refined(index, Array(large.vectors).at)
        found = [cascade.search(query, 20, allowed=None, wide=wide, breadth=1e9).rows for query in large.queries]
        return float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))

    curve = [recall(wide) for wide in (20, 300, 12_000)]
    assert curve == sorted(curve)
    assert curve[0] < 1.0
    assert curve[1] > curve[0]
    assert curve[2] == 1.0


@NAMES
@pytest.mark.parametrize("count", [0, 1, 19, 400, 6_000])
def test_under_a_filter_the_page_is_full(name: str, count: int, large: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly min(k, allowed) rows, whether codes are asked (many rows) or not (few)."""
    monkeypatch.setattr(refined, "DIRECT", 500)
    allowed = np.zeros(12_000, np.bool_)
    allowed[np.random.default_rng(count).permutation(12_000)[:count]] = True
    cascade = Refined(vector_index.build(name, large.vectors), Array(large.vectors).at)
    for query in large.queries[:4]:
        found = cascade.search(query, 40, allowed=allowed, wide=60)
        assert len(found.rows) == len(set(found.rows.tolist())) == min(40, count)
        assert allowed[found.rows].all()
        if count <= 500:
            kept = np.flatnonzero(allowed)
            best = np.argsort(-(large.vectors[kept].astype(np.float64) @ query), kind="stable")[:40]
            assert found.rows.tolist() == kept[best].tolist()


def test_equal_vectors_come_by_row() -> None:
    vectors = np.tile(np.eye(16, dtype=np.float32), (40, 1))
    cascade = Refined(vector_index.build("pq2", vectors), Array(vectors).at)
    query = np.arange(16, dtype=np.float32)
    assert cascade.search(query, 5, allowed=None, wide=100).rows.tolist() == [15, 31, 47, 63, 79]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_products_are_of_the_rows_asked_for_and_copy_no_vector(dtype: type) -> None:
    random = np.random.default_rng(5)
    vectors, query = random.normal(size=(5_000, 96)).astype(dtype), random.normal(size=96).astype(np.float32)
    vectors.flags.writeable = False
    for rows in (np.arange(0), np.array([4_999]), np.sort(random.permutation(5_000)[:4_000])):
        tracemalloc.start()
        found = products(query, vectors, rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        off = np.abs(found - vectors[rows].astype(np.float64) @ query)
        assert (off <= inner_product.error_bound(query, norms_up(vectors[rows]))).all()
        assert dtype == np.float16 or peak < 8 * len(rows) + 2**16, "a float32 vector was copied"
    for rows in ([5_000], [-1]):
        with pytest.raises(IndexError):
            products(query, vectors, np.array(rows))


def test_codes_are_asked_for_no_fewer_rows_than_the_least(large: Sample) -> None:
    index, array = vector_index.build("pq1", large.vectors), Array(large.vectors)
    cascade = Refined(index, array.at, partial(reached, "pq2"))
    for wide, read in ((60, 400), (700, 700)):
        array.read = 0
        assert len(cascade.search(large.queries[0], 20, allowed=None, wide=wide).rows) == 20
        assert array.read == read
