"""MaxSim in float32 against its reference, and the reference against the formula."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.compute.rounding import norms_up
from app.errors import Invalid
from app.scoring import maxsim
from app.types import F32, TokenVectors

lawful = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)


def draw(
    seed: int, lengths: list[int], dim: int, dtype: type = np.float16, queries: int = 5
) -> tuple[F32, TokenVectors]:
    random = np.random.default_rng(seed)
    matrices = [random.standard_normal((n, dim)).astype(dtype) for n in lengths]
    return random.standard_normal((queries, dim), np.float32), TokenVectors.join(matrices)


def largest_norms(tokens: TokenVectors) -> F32:
    largest: F32 = np.maximum.reduceat(norms_up(tokens.values), tokens.offsets[:-1])
    return largest


def references(query: F32, tokens: TokenVectors) -> NDArray[np.float64]:
    return np.array([maxsim.reference(query, passage) for passage in tokens])


def assert_within_bound(query: F32, tokens: TokenVectors, scores: F32) -> None:
    assert scores.dtype == np.float32
    bounds = maxsim.error_bound(query, largest_norms(tokens))
    assert (np.abs(scores.astype(np.float64) - references(query, tokens)) <= bounds).all()


@lawful
@given(seeds, st.integers(1, 12), st.integers(1, 9), st.integers(1, 20))
def test_the_reference_is_the_formula(seed: int, dim: int, passage: int, queries: int) -> None:
    query, tokens = draw(seed, [passage], dim, queries=queries)
    total = math.fsum(
        max(math.fsum(float(a) * float(b) for a, b in zip(q, d, strict=True)) for d in tokens[0]) for q in query
    )
    assert maxsim.reference(query, tokens[0]) == pytest.approx(float(np.float32(total)), rel=1e-6, abs=1e-30)


def test_the_reference_is_a_float32() -> None:
    query, tokens = draw(0, [50], 384)
    score = maxsim.reference(query, tokens[0])
    assert isinstance(score, float)
    assert float(np.float32(score)) == score


def test_the_reference_forgets_the_order_of_query_vectors() -> None:
    """Their sum is exact. The columns of the product move, so sizes are such that no inner product is rounded."""
    random = np.random.default_rng(0)
    query = random.integers(-9, 9, (40, 16)).astype(np.float32) * np.float32(2.0) ** random.integers(-40, 40, (40, 1))
    passage = random.integers(-9, 9, (7, 16)).astype(np.float16)
    expected = maxsim.reference(query, passage)
    assert all(maxsim.reference(random.permutation(query), passage) == expected for _ in range(20))


@lawful
@given(
    seeds,
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.sampled_from([1, 2, 7, 64, 384]),
    st.integers(1, 33),
    st.sampled_from([np.float16, np.float32]),
    st.sampled_from([1e-42, 1e-30, 1e-8, 1.0, 1e4, 1e18, 1e30]),
)
def test_fast_scores_are_within_the_bound(
    seed: int, lengths: list[int], dim: int, queries: int, dtype: type, scale: float
) -> None:
    query, tokens = draw(seed, lengths, dim, dtype, queries)
    query *= np.float32(scale)
    assert_within_bound(query, tokens, maxsim.fast_scores(query, tokens))


@lawful
@given(seeds, st.sampled_from([1e-30, 1e-20, 1e-10, 1.0, 1e8, 1e15]), st.sampled_from([1e-25, 1e-12, 1.0, 1e12]))
def test_the_bound_holds_where_all_terms_have_one_sign(seed: int, scale: float, other: float) -> None:
    """Rounding errors then lean one way, and nothing cancels: the largest errors for their norms."""
    random = np.random.default_rng(seed)
    dim = int(random.integers(1, 3_000))
    query = (random.random((9, dim)) + 0.9).astype(np.float32) * np.float32(scale)
    matrices = [(random.random((3, dim)) + 0.9).astype(np.float32) * np.float32(other) for _ in range(6)]
    tokens = TokenVectors.join(matrices)
    assert_within_bound(query, tokens, maxsim.fast_scores(query, tokens))


@lawful
@given(seeds)
def test_the_bound_holds_for_vectors_of_very_different_norms(seed: int) -> None:
    random = np.random.default_rng(seed)
    query, tokens = draw(seed, [20] * 8, 48, np.float32, 16)
    query *= np.float32(10) ** random.integers(-12, 12, (16, 1)).astype(np.float32)
    values = tokens.values * np.float32(10) ** random.integers(-12, 12, (160, 1)).astype(np.float32)
    tokens = TokenVectors(values, tokens.offsets)
    assert_within_bound(query, tokens, maxsim.fast_scores(query, tokens))


def test_the_bound_holds_for_subnormal_halves() -> None:
    random = np.random.default_rng(0)
    halves = random.integers(0, 0x400, (300, 64)).astype(np.uint16).view(np.float16)
    tokens = TokenVectors(halves, np.arange(0, 301, 10))
    query = random.standard_normal((8, 64), np.float32)
    assert_within_bound(query, tokens, maxsim.fast_scores(query, tokens))


def test_the_bound_is_narrow() -> None:
    """Of 20 query vectors of length 1 and 384 dimensions: a few ten-thousandths, so few passages stay in question."""
    query, _ = draw(0, [30], 384, queries=20)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    bound = maxsim.error_bound(query, np.ones(1, np.float32))[0]
    assert 0 < bound < 20 * 2.4e-5


def test_the_bound_is_infinite_where_float32_may_overflow() -> None:
    query, tokens = draw(0, [3, 3], 8, np.float32)
    huge = TokenVectors(tokens.values * np.float32(1e30), tokens.offsets)
    scores = maxsim.fast_scores(query * np.float32(1e10), huge)
    assert np.isinf(maxsim.error_bound(query * np.float32(1e10), largest_norms(huge))).all()
    assert len(scores) == 2
    assert maxsim.reference(query * np.float32(1e10), huge[0]) == np.inf
    assert np.isinf(maxsim.error_bound(query * 0, np.array([np.inf], np.float32))).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("dim", [64, 500, 16_384])
def test_passages_across_chunks(dtype: type, dim: int) -> None:
    """Chunks end inside passages and at their ends, and hold many passages or a part of one."""
    rows = (1 << 17) // dim
    lengths = [1, rows - 1, rows, 1, 1, 2 * rows + 3, rows - 4, *[1] * 50, rows // 2, rows * 3, 2]
    query, tokens = draw(0, lengths, dim, dtype, 3)
    assert_within_bound(query, tokens, maxsim.fast_scores(query, tokens))
    picked = np.random.default_rng(1).permutation(len(lengths))[:40]
    assert_within_bound(query, tokens.take(picked), maxsim.FloatScorer(query).scores(tokens, picked))


def test_a_long_passage_takes_no_more_memory_than_a_chunk() -> None:
    peaks = []
    for lengths in ([30_000, 1, 20_000], [120_000, 1, 80_000]):
        query, tokens = draw(0, lengths, 64)
        tracemalloc.start()
        scores = maxsim.fast_scores(query, tokens)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert_within_bound(query, tokens, scores)
    assert peaks[1] < 1.1 * peaks[0]


def test_vectors_of_float32_are_not_copied() -> None:
    """Halves are, to float32."""
    peaks = {}
    for dtype in (np.float16, np.float32):
        query, tokens = draw(0, [300] * 200, 64, dtype)
        maxsim.fast_scores(query, tokens)
        tracemalloc.start()
        maxsim.fast_scores(query, tokens)
        peaks[dtype] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[np.float32] < peaks[np.float16]


def test_more_passages_than_are_kept_at_a_time() -> None:
    query, tokens = draw(0, [1, 2] * 1_500, 4, queries=200)
    expected = np.concatenate([maxsim.fast_scores(query, tokens.slice(i, i + 1)) for i in range(3_000)])
    np.testing.assert_allclose(maxsim.fast_scores(query, tokens), expected, rtol=1e-5, atol=1e-4)


@lawful
@given(seeds, st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_given_rows_score_as_the_passages_they_name(seed: int, lengths: list[int]) -> None:
    query, tokens = draw(seed, lengths, 24)
    everything = maxsim.fast_scores(query, tokens)
    rows = np.random.default_rng(seed).integers(0, len(lengths), 25)  # repeated, in any order
    for picked in (rows, np.sort(rows), np.arange(len(lengths)), rows[:0]):
        found = maxsim.FloatScorer(query).scores(tokens, picked)
        np.testing.assert_allclose(found, everything[picked], rtol=1e-5, atol=1e-5)


def test_a_memory_mapped_file_is_read_in_place(tmp_path: Path) -> None:
    query, tokens = draw(0, [7, 300, 1, 40] * 20, 96)
    file = tmp_path / "tokens"
    tokens.values.tofile(file)
    mapped = TokenVectors(np.memmap(file, np.float16, "r", shape=tokens.values.shape), tokens.offsets)
    rows = np.array([3, 70, 5, 6, 7])
    assert np.array_equal(maxsim.fast_scores(query, mapped), maxsim.fast_scores(query, tokens))
    by = maxsim.FloatScorer(query)
    assert np.array_equal(by.scores(mapped, rows), by.scores(tokens, rows))
    assert type(maxsim.fast_scores(query, mapped)) is np.ndarray


def test_no_passages() -> None:
    query, tokens = draw(0, [3], 4)
    assert maxsim.fast_scores(query, tokens.slice(0, 0)).shape == (0,)


def test_a_passage_without_vectors_is_refused() -> None:
    query, tokens = draw(0, [3, 0, 2], 4)
    with pytest.raises(Invalid, match="passage 1 has no vectors"):
        maxsim.fast_scores(query, tokens)
    with pytest.raises(Invalid, match="passage 1 has no vectors"):
        maxsim.FloatScorer(query).scores(tokens, np.array([2, 1]))
    assert len(maxsim.FloatScorer(query).scores(tokens, np.array([2, 0]))) == 2
    with pytest.raises(Invalid):
        maxsim.reference(query, tokens[1])


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 5)])
def test_a_query_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    _, tokens = draw(0, [3], 4)
    with pytest.raises(Invalid):
        maxsim.fast_scores(np.ones(shape, np.float32), tokens)


@lawful
@given(seeds, st.sampled_from([np.float16, np.float32]), st.sampled_from([1e-40, 1e-4, 1.0, 1e25]))
def test_norms_are_never_below_the_real_ones(seed: int, dtype: type, scale: float) -> None:
    _, tokens = draw(seed, [3, 1, 900, 700], 12, np.float32)
    with np.errstate(over="ignore"):
        values = (tokens.values * np.float32(scale)).astype(dtype)
    values[~np.isfinite(values)] = 1
    norms = norms_up(values)
    exact = np.array([math.sqrt(math.fsum(float(x) ** 2 for x in row)) for row in values])
    assert (norms.astype(np.float64) >= exact).all()
    np.testing.assert_allclose(norms, exact, rtol=1e-6, atol=1e-44)
