"""The inner product in float32 against its reference, and the reference against exact fractions."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.compute.rounding import norms_up
from app.errors import Invalid
from app.scoring import inner_product

lawful = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
dtypes = st.sampled_from([np.float16, np.float32])


@lawful
@given(seeds, st.integers(1, 60), dtypes)
def test_the_reference_is_the_real_inner_product_rounded(seed: int, dim: int, dtype: type) -> None:
    random = np.random.default_rng(seed)
    query = random.standard_normal(dim, np.float32)
    vector = random.standard_normal(dim).astype(dtype)
    exact = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(query, vector, strict=True)), Fraction(0))
    score = inner_product.reference(query, vector)
    assert score == float(np.float32(float(exact)))
    order = random.permutation(dim)
    assert inner_product.reference(query[order], vector[order]) == score


@lawful
@given(
    seeds,
    st.sampled_from([1, 3, 384, 16_384]),
    dtypes,
    st.sampled_from([1e-44, 1e-30, 1.0, 1e15, 1e30]),
    st.booleans(),
)
def test_fast_scores_are_within_the_bound(seed: int, dim: int, dtype: type, scale: float, one_sign: bool) -> None:
    random = np.random.default_rng(seed)
    query, vectors = random.standard_normal(dim, np.float32), random.standard_normal((20, dim)).astype(dtype)
    if one_sign:
        query, vectors = np.abs(query), np.abs(vectors)
    query *= np.float32(scale)
    scores = inner_product.fast_scores(query, vectors)
    assert scores.dtype == np.float32
    exact = np.array([inner_product.reference(query, vector) for vector in vectors])
    bounds = inner_product.error_bound(query, norms_up(vectors))
    assert (np.abs(scores.astype(np.float64) - exact) <= bounds).all()


def test_the_bound_is_narrow_and_infinite_where_float32_may_overflow() -> None:
    unit = np.full(384, 384**-0.5, np.float32)
    assert 0 < inner_product.error_bound(unit, np.ones(1, np.float32))[0] < 2.4e-5
    assert inner_product.error_bound(unit * np.float32(1e30), np.array([1e30], np.float32))[0] == np.inf
    assert inner_product.reference(unit * np.float32(1e30), unit * np.float32(1e30)) == np.inf


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_many_vectors(dtype: type) -> None:
    random = np.random.default_rng(0)
    query, vectors = random.standard_normal(300, np.float32), random.standard_normal((2_000, 300)).astype(dtype)
    exact = vectors.astype(np.float64) @ query.astype(np.float64)
    np.testing.assert_allclose(inner_product.fast_scores(query, vectors), exact, rtol=1e-4, atol=1e-4)
    assert inner_product.fast_scores(query, vectors[:0]).shape == (0,)


def test_vectors_of_float32_are_not_copied() -> None:
    query, vectors = np.ones(64, np.float32), np.ones((20_000, 64), np.float32)
    inner_product.fast_scores(query, vectors)
    tracemalloc.start()
    inner_product.fast_scores(query, vectors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The scores alone: 4 bytes each.
    assert peak < 8 * len(vectors) < vectors.nbytes // 30


def test_a_query_of_another_shape_is_refused() -> None:
    with pytest.raises(Invalid):
        inner_product.fast_scores(np.ones(3, np.float32), np.ones((2, 4), np.float32))
    with pytest.raises(Invalid):
        inner_product.fast_scores(np.ones((1, 4), np.float32), np.ones((2, 4), np.float32))
