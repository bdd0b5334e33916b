"""Every scorer against plain NumPy: fast scores within their bound, references to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codes.choose import code_for
from app.codes.grid import GridCode
from app.codes.protocol import Code
from app.compute.native import byte_instructions, prepare
from app.errors import Invalid
from app.reference import maxsim
from app.scoring.choose import loops, scorer
from app.scoring.maxsim_codes import CodeScorer
from app.scoring.protocol import Scorer
from app.types import F32, Precision, TokenVectors

PRECISIONS: list[Precision] = ["float32", "float16", "8bit", "4bit", "2bit", "1.25bit", "1bit"]
GRIDS = PRECISIONS[2:]
DIMS = [1, 2, 3, 4, 5, 8, 31, 63, 64, 65, 100, 128, 384]
lawful = settings(max_examples=50, deadline=None, derandomize=True)


def draw(code: Code, seed: int, lengths: list[int], queries: int = 5) -> tuple[F32, TokenVectors]:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((sum(lengths), code.dim)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return random.standard_normal((queries, code.dim), np.float32), TokenVectors(code.encode(vectors), offsets)


def passage_norms(code: Code, tokens: TokenVectors) -> F32:
    return np.maximum.reduceat(code.norms(tokens.values), tokens.offsets[:-1])


def assert_right(made: Scorer, query: F32, tokens: TokenVectors, code: Code) -> None:
    norms, rows = passage_norms(code, tokens), np.arange(len(tokens))
    truth = [maxsim(query, passage, code.precision) for passage in tokens]
    assert made.references(tokens, rows, norms) == truth
    scores = made.scores(tokens)
    assert scores.dtype == np.float32
    assert (np.abs(scores.astype(np.float64) - np.array(truth)) <= made.error_bound(norms)).all()
    each = TokenVectors(tokens.values, np.arange(len(tokens.values) + 1))
    places, values = made.best(tokens, made.maxima(each), norms)
    for passage, own, products, whole in zip(tokens, places, values, truth, strict=True):
        # The sum over the first tokens that are best, each as if it were the passage.
        assert [float(np.float32(math.fsum(products)))] == [whole]
        alone = [maxsim(query[i : i + 1], passage[[place]], code.precision) for i, place in enumerate(own)]
        assert alone == products.astype(np.float32).tolist()


@lawful
@given(
    st.sampled_from(PRECISIONS),
    st.sampled_from(DIMS),
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.integers(1, 70),
    st.integers(0, 10_000),
    st.sampled_from([1e-42, 1e-20, 1.0, 1e10]),
)
def test_scores_are_within_the_bound_and_references_exact(
    precision: Precision, dim: int, lengths: list[int], queries: int, seed: int, scale: float
) -> None:
    code = code_for(precision, dim)
    query, tokens = draw(code, seed, lengths, queries)
    query *= np.float32(scale)
    assert_right(scorer(query, code), query, tokens, code)


@lawful
@given(st.sampled_from(GRIDS), st.sampled_from([1, 2]), st.integers(0, 10_000))
def test_vectors_of_very_different_lengths(precision: Precision, planes: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    code = code_for(precision, 48)
    vectors = random.standard_normal((160, 48)) * 10.0 ** random.integers(-30, 14, (160, 1))
    tokens = TokenVectors(code.encode(vectors.astype(np.float32)), np.arange(0, 161, 20))
    query = (random.standard_normal((16, 48)) * 10.0 ** random.integers(-12, 12, (16, 1))).astype(np.float32)
    assert_right(CodeScorer(query, code, planes=planes), query, tokens, code)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_equal_tokens_and_zero_vectors(precision: Precision) -> None:
    """Ties everywhere, and inner products of exactly 0."""
    code = code_for(precision, 24)
    query, tokens = draw(code, 0, [3, 5], 6)
    query[2:4] = 0
    same = TokenVectors(
        np.concatenate([tokens.values] * 9 + [code.encode(np.zeros((4, 24), np.float32))]), np.array([0, 40, 76])
    )
    made = scorer(query, code)
    assert_right(made, query, same, code)
    each = TokenVectors(same.values, np.arange(len(same.values) + 1))
    (places, _), _ = made.best(same, made.maxima(each), passage_norms(code, same))
    assert places.max() < 8, "the first of equal ones"


@pytest.mark.skipif(byte_instructions() is None, reason="this CPU has one path only")
@pytest.mark.parametrize("precision", GRIDS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("planes", [1, 2])
def test_both_paths_give_the_same_bits(precision: Precision, dim: int, planes: Any) -> None:
    code = code_for(precision, dim)
    for queries in (1, 8, 9, 16, 17, 24, 25, 32, 33, 70):
        query, tokens = draw(code, queries, [1, 24, 25, 3, 60, 11], queries)
        fast, plain = (CodeScorer(query, code, planes=planes, native=native) for native in (True, False))
        assert fast.maxima(tokens).tobytes() == plain.maxima(tokens).tobytes()
        assert fast.scores(tokens).tobytes() == plain.scores(tokens).tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("queries", [3, 300])
def test_maxima_are_the_largest_inner_products(precision: Precision, queries: int) -> None:
    code = code_for(precision, 96)
    query, tokens = draw(code, 1, [4, 1, 30], queries)
    truth = np.stack([(code.decode(p).astype(np.float64) @ query.T).max(axis=0) for p in tokens])
    np.testing.assert_allclose(scorer(query, code).maxima(tokens), truth, rtol=1e-3, atol=2e-2)
    if isinstance(code, GridCode):
        np.testing.assert_allclose(CodeScorer(query, code, planes=1).maxima(tokens), truth, atol=1.5)
        np.testing.assert_allclose(CodeScorer(query, code, planes=1, full=True).maxima(tokens), truth, atol=0.75)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_given_rows_and_batches_change_no_bit(precision: Precision) -> None:
    code = code_for(precision, 64)
    query, tokens = draw(code, 2, [7, 1, 30, 2, 55, 24, 23], 20)
    made = scorer(query, code)
    norms = passage_norms(code, tokens)
    rows = np.array([4, 4, 0, 6, 1])
    whole, alone = made.references(tokens, np.arange(7), norms), made.references(tokens, rows, norms[rows])
    assert alone == [whole[row] for row in rows]
    # A larger norm than needed computes more, and changes nothing.
    assert made.references(tokens, rows, norms[rows] * np.float32(50)) == alone
    if isinstance(code, GridCode):
        assert made.scores(tokens, rows).tobytes() == made.scores(tokens)[rows].tobytes()
    np.testing.assert_allclose(made.scores(tokens, rows), made.scores(tokens)[rows], rtol=1e-5)
    assert made.scores(tokens, rows[:0]).shape == (0,)
    assert made.maxima(tokens, rows[:0]).shape == (0, 20)
    assert made.references(tokens, rows[:0], norms[:0]) == []


@pytest.mark.parametrize("precision", GRIDS)
def test_the_bound_is_narrow(precision: Precision) -> None:
    """Of 20 query vectors of length 1: a thousandth or two of a score of about 10, so few passages stay in question."""
    query, _ = draw(code_for(precision, 384), 0, [1], 20)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    assert 0 < scorer(query, code_for(precision, 384)).error_bound(np.array([1.25], np.float32))[0] < 3e-3


@pytest.mark.parametrize("precision", GRIDS)
def test_what_does_not_fit_is_refused(precision: Precision) -> None:
    code = code_for(precision, 16)
    query, tokens = draw(code, 0, [3, 0, 2])
    with pytest.raises(Invalid, match="passage 1 has no vectors"):
        scorer(query, code).scores(tokens)
    with pytest.raises(Invalid, match="expected rows of"):
        scorer(query, code).scores(TokenVectors(tokens.values[:, :-1], tokens.offsets), np.array([0]))
    with pytest.raises(Invalid, match="expected a query"):
        scorer(query[:, :-1], code)


def test_dimensions_at_their_limit() -> None:
    """Sums stay within 32 bits: everything at its largest, all of one sign."""
    for precision in GRIDS:
        code = code_for(precision, 16_384)
        vectors = np.ones((2, 16_384), np.float32)
        tokens = TokenVectors(code.encode(vectors), np.array([0, 2]))
        query = code.decode(tokens.values[:1])
        assert_right(scorer(query, code), query, tokens, code)


def test_what_is_compiled_ahead_ends_between_two_loops_where_it_is_told_to() -> None:
    asked: list[bool] = []

    def going() -> bool:
        asked.append(len(asked) < 3)
        return asked[-1]

    prepare(loops(), going)
    assert asked == [True, True, True, False]
