"""The contract of every kind of index, held against brute force over the vectors that it stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from clustered_vectors import Sample, content_of
from numpy.typing import NDArray

import app.vector_index as vector_index
from app.errors import Invalid
from app.types import F32, I64, Mask
from app.vector_index import VectorIndex
from app.vector_index.ranking import SPARE, ranked

ALL = ("flat", *vector_index.NAMES)
KINDS = pytest.mark.parametrize("name", ALL)
EVERYTHING = 1e9  # breadth at which an approximate index reads all of its lists
FLOORS = {"pq1": 0.3, "pq2": 0.5, "hnsw": 0.99}
"""Recall@20 by codes alone, of few dimensions that are all alike: the hardest for codes."""


def built(name: str, vectors: F32) -> VectorIndex:
    if name == "flat":
        return vector_index.scan(np.ascontiguousarray(vectors, np.float32))
    return vector_index.build(name, vectors)


def brute_force(vectors: NDArray[Any], queries: F32, k: int, allowed: Mask | None = None) -> I64:
    """The rows of the k largest inner products, equal ones by row, -1 after the last."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    kept = np.flatnonzero(allowed) if allowed is not None else np.arange(len(vectors))
    order = np.argsort(-scores[:, kept], axis=1, kind="stable")[:, :k]
    rows = np.full((len(queries), k), -1, np.int64)
    rows[:, : order.shape[1]] = kept[order]
    return rows


def test_finds_the_largest_inner_products(small: Sample) -> None:
    found = built("flat", small.vectors).search(small.queries, 20)
    assert np.array_equal(found.rows, brute_force(small.vectors, small.queries, 20))
    products = np.einsum("qd,qkd->qk", small.queries, small.vectors[found.rows])
    np.testing.assert_allclose(found.scores, products, atol=1e-6)


@KINDS
def test_finds_most_of_the_largest_inner_products(name: str, small: Sample) -> None:
    index = built(name, small.vectors)
    found = index.search(small.queries, 20, breadth=EVERYTHING)
    truth = brute_force(small.vectors, small.queries, 20)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth, found.rows, strict=True)])
    assert recall >= FLOORS.get(name.removeprefix("ivf_"), 1.0)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert (index.name, index.size, index.dim) == (name, 700, 24)
    assert (found.rows.dtype, found.scores.dtype) == (np.int64, np.float32)


def test_half_precision_is_searched_where_it_lies(small: Sample) -> None:
    """The array itself, not a copy: an index sees what its array has."""
    array = small.vectors.astype(np.float16)
    index = vector_index.scan(array)
    assert np.array_equal(index.search(small.queries, 20).rows, brute_force(array, small.queries, 20))
    array[5] = 100 * small.queries[0]
    assert index.search(small.queries[:1], 1).rows[0, 0] == 5


@KINDS
@pytest.mark.parametrize("count", [0, 1, 7, 350, 699, 700])
def test_a_filter_is_exact_however_selective(name: str, count: int, small: Sample) -> None:
    allowed = np.zeros(700, np.bool_)
    allowed[np.random.default_rng(count).permutation(700)[:count]] = True
    index = built(name, small.vectors)
    found = index.search(small.queries, 30, allowed=allowed, breadth=EVERYTHING)
    assert np.array_equal(np.isneginf(found.scores), found.rows == -1)
    assert ((found.rows >= 0).sum(axis=1) == min(30, count)).all()
    assert allowed[found.rows[found.rows >= 0]].all()
    # By its own scores nothing better was left out.
    alone = index.search(small.queries, 700, breadth=EVERYTHING)
    for rows, every in zip(found.rows, alone.rows, strict=True):
        assert rows[rows >= 0].tolist() == every[allowed[every]][:30].tolist()
    if name == "flat":
        assert np.array_equal(found.rows, brute_force(small.vectors, small.queries, 30, allowed))


@KINDS
@pytest.mark.parametrize("breadth", [1e-9, 0.01, 1.0])
@pytest.mark.parametrize("count", [1, 40, 6_000, 12_000])
def test_a_page_is_never_short(name: str, breadth: float, count: int, large: Sample) -> None:
    allowed = np.zeros(12_000, np.bool_)
    allowed[np.random.default_rng(count).permutation(12_000)[:count]] = True
    index = _LARGE.get(name) or _LARGE.setdefault(name, built(name, large.vectors))
    for k in (1, 50, 7_000):
        rows = index.search(large.queries[:3], k, allowed=allowed, breadth=breadth).rows
        assert ((rows >= 0).sum(axis=1) == min(k, count)).all()
        for found in rows:
            found = found[found >= 0]
            assert len(np.unique(found)) == len(found)
            assert allowed[found].all()


_LARGE: dict[str, VectorIndex] = {}


@KINDS
def test_more_than_there_is(name: str, small: Sample) -> None:
    found = built(name, small.vectors[:5]).search(small.queries, 8)
    assert np.array_equal(np.sort(found.rows[:, :5]), np.tile(np.arange(5), (len(small.queries), 1)))
    assert (found.rows[:, 5:] == -1).all()


@KINDS
def test_equal_scores_come_by_row(name: str) -> None:
    """Every vector is there forty times, in places apart, so that ties reach over the last wanted row."""
    vectors = np.tile(np.eye(16, dtype=np.float32), (40, 1))
    queries = np.arange(32, dtype=np.float32).reshape(2, 16)
    index = built(name, vectors)
    for k in (1, 39, 40, 41, 100, 640):
        found = index.search(queries, k, breadth=EVERYTHING)
        if name == "flat":
            assert np.array_equal(found.rows, brute_force(vectors, queries, k))
        for rows, scores in zip(found.rows, found.scores, strict=True):
            assert np.lexsort((rows, -scores)).tolist() == list(range(k))
            # Of equal vectors the first ones, whatever their code.
            for vector in range(16):
                same = np.sort(rows[rows % 16 == vector])
                assert same.tolist() == [vector + 16 * i for i in range(len(same))]


@KINDS
def test_a_query_of_zeros_ties_with_all(name: str, small: Sample) -> None:
    found = built(name, small.vectors).search(np.zeros((1, 24), np.float32), 10, breadth=EVERYTHING)
    assert len(set(found.rows[0].tolist())) == 10
    assert found.rows[0].tolist() == list(range(10))
    assert len(set(found.scores[0].tolist())) == 1


@KINDS
def test_the_same_question_has_the_same_answer_to_the_bit(name: str, large: Sample) -> None:
    """Alone or in a batch, filtered or not, with one thread or two, from several threads at once, built again."""
    index = built(name, large.vectors)
    rows, scores = index.search(large.queries, 60)
    for other in (index, built(name, large.vectors)):
        again = other.search(large.queries, 60)
        assert np.array_equal(again.rows, rows)
        assert np.array_equal(again.scores, scores)

    def one(i: int) -> tuple[I64, F32]:
        vector_index.set_threads(1 + i % 2)
        return index.search(large.queries[i : i + 1], 60, allowed=np.ones(12_000, np.bool_))

    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(one, range(len(large.queries))))
    assert np.array_equal(np.concatenate([a for a, _ in alone]), rows)
    assert np.array_equal(np.concatenate([b for _, b in alone]), scores)


@pytest.mark.parametrize("growth", [1.0, 1e3, 1e9])
def test_vectors_of_any_length_keep_their_order(growth: float, small: Sample) -> None:
    """Even where half precision cannot hold the largest without a scale."""
    vectors = small.vectors * np.geomspace(1 / growth, growth, 700, dtype=np.float32)[:, None]
    found = built("flat", vectors).search(small.queries, 30)
    np.testing.assert_allclose(
        found.scores, np.einsum("qd,qkd->qk", small.queries, vectors[found.rows]), rtol=1e-2, atol=1e-3 * growth
    )


@KINDS
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_any_scale_ranks_alike(name: str, scale: float, small: Sample) -> None:
    """Float16 alone would overflow at 65,504, and a sum in float32 at 3e38."""
    factor = np.float32(2.0 ** np.round(np.log2(scale)))
    index = built(name, small.vectors * factor)
    found = index.search(small.queries * factor, 20)
    plain = built(name, small.vectors).search(small.queries, 20)
    assert np.array_equal(found.rows, plain.rows)
    if 1e-10 < scale < 1e10:
        np.testing.assert_allclose(found.scores, plain.scores * factor * factor, rtol=1e-5)


@KINDS
def test_strided_and_wider_input_is_taken_as_it_reads(name: str, small: Sample) -> None:
    index = built(name, small.vectors)
    doubled = np.repeat(small.queries, 2, axis=1)[:, ::2].astype(np.float64)
    assert np.array_equal(index.search(doubled, 5).rows, index.search(small.queries, 5).rows)


@KINDS
def test_empty(name: str) -> None:
    index = built(name, np.empty((0, 4), np.float32))
    again_of = [index] if name == "flat" else [index, vector_index.load(name, content_of(index), size=0, dim=4)]
    for again in again_of:
        found = again.search(np.ones((2, 4), np.float32), 3, allowed=np.zeros(0, np.bool_))
        assert found.rows.tolist() == [[-1] * 3] * 2
        assert again.search(np.ones((2, 4), np.float32), 3).rows.tolist() == [[-1] * 3] * 2
        assert again.search(np.ones((0, 4), np.float32), 3).rows.shape == (0, 3)
        assert again.size == 0


@KINDS
def test_no_queries(name: str, small: Sample) -> None:
    assert built(name, small.vectors).search(np.zeros((0, 24), np.float32), 3).rows.shape == (0, 3)


@KINDS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(name: str, value: float, small: Sample) -> None:
    index = built(name, small.vectors)
    bad = small.vectors.copy()
    bad[650, 3] = value
    if name != "flat":  # whose vectors were checked when they were written
        with pytest.raises(Invalid, match="not finite"):
            built(name, bad)
    with pytest.raises(Invalid, match="not finite"):
        index.search(bad[640:660], 3)


@KINDS
def test_wrong_shapes_are_refused(name: str, small: Sample) -> None:
    index = built(name, small.vectors)
    with pytest.raises(Invalid, match=r"\(n, 24\)"):
        index.search(small.queries[:, :23], 3)
    with pytest.raises(Invalid, match=r"\(n, 24\)"):
        index.search(small.queries[0], 3)
    with pytest.raises(Invalid, match=r"\(700,\) bool"):
        index.search(small.queries, 3, allowed=np.ones(699, np.bool_))
    with pytest.raises(Invalid, match="k must be"):
        index.search(small.queries, 0)


def test_an_unknown_kind_is_refused() -> None:
    for name in ("lsh", "flat"):
        with pytest.raises(Invalid, match="ivf_pq2"):
            vector_index.build(name, np.empty((0, 4), np.float32))
        with pytest.raises(Invalid, match="ivf_pq2"):
            vector_index.load(name, b"")


def test_codes_are_read_once_where_scores_tie_at_the_last_wanted_row(large: Sample) -> None:
    """Codes have few different scores: half of these searches have a tie there."""
    scans: list[int] = []
    scores = np.floor(np.linspace(3_000, 0, 12_000)).astype(np.float32)

    def search(queries: F32, depth: int) -> tuple[F32, I64]:
        scans.append(depth)
        return np.tile(scores[:depth], (len(queries), 1)), np.tile(np.arange(depth), (len(queries), 1))

    for k in range(50, 90):
        found = ranked(search, large.queries[:1], k=k, available=12_000, exponent=0)
        assert found.rows[0].tolist() == list(range(k))
    assert len(scans) == 40
    assert max(scans) <= 90 + 90 // SPARE
