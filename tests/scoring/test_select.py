"""The rows that keep_for_top keeps are exactly those that could be in the top k."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.scoring.select import keep_for_top

lawful = settings(max_examples=200, deadline=None, derandomize=True)
# Few and coarse values, so that ties and touching intervals come often.
cases = st.lists(st.tuples(st.integers(-6, 6), st.integers(0, 4)), min_size=1, max_size=12)


@lawful
@given(cases, st.integers(1, 14))
def test_a_row_is_kept_if_and_only_if_some_true_scores_put_it_in_the_top(case: list[tuple[int, int]], k: int) -> None:
    """The adversary's best for a row: itself at its highest, all others at their lowest."""
    scores = np.array([score for score, _ in case], np.float32)
    bounds = np.array([bound for _, bound in case], np.float64)
    possible = []
    for row in range(len(case)):
        true = scores - bounds
        true[row] = scores[row] + bounds[row]
        better = int((true > true[row]).sum())  # a tie may go to either
        if better < k:
            possible.append(row)
    assert keep_for_top(scores, bounds, k).tolist() == possible


@lawful
@given(cases, st.integers(1, 14), st.integers(0, 1_000))
def test_no_perturbation_puts_another_row_into_the_top(case: list[tuple[int, int]], k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.array([score for score, _ in case], np.float32)
    bounds = np.array([bound for _, bound in case], np.float64)
    kept = set(keep_for_top(scores, bounds, k).tolist())
    for _ in range(20):
        true = scores + bounds * random.choice([-1.0, 1.0, 0.0, 0.5], len(case))
        ranked = sorted(range(len(case)), key=lambda i: (-true[i], random.random()))
        assert set(ranked[:k]) <= kept


def test_without_doubt_only_the_top_and_its_ties_are_kept() -> None:
    scores = np.array([1, 5, 3, 3, 2, 4], np.float32)
    assert keep_for_top(scores, np.zeros(6), 3).tolist() == [1, 2, 3, 5]
    assert keep_for_top(scores, np.zeros(6), 2).tolist() == [1, 5]


def test_a_bound_below_the_spacing_of_floats_still_counts() -> None:
    """1e8 +- 1e-9 rounds to 1e8: a row one rounding below the cut is kept."""
    scores = np.array([1e8, np.nextafter(1e8, 0)])
    bounds = np.array([1e-9, 1.5e-8])
    assert keep_for_top(scores, bounds, 1).tolist() == [0, 1]


def test_infinite_bounds_and_nan_are_kept_and_push_nothing_out() -> None:
    scores = np.array([np.inf, 3, np.nan, 1, 2], np.float32)
    bounds = np.array([np.inf, 0, 0, 0, 0])
    assert keep_for_top(scores, bounds, 1).tolist() == [0, 1, 2]
    assert keep_for_top(np.array([-np.inf, 1], np.float32), np.array([np.inf, 0]), 1).tolist() == [0, 1]


def test_few_rows_and_wrong_k() -> None:
    kept = keep_for_top(np.array([1, 2], np.float32), np.zeros(2), 5)
    assert kept.tolist() == [0, 1]
    assert kept.dtype == np.int64
    assert keep_for_top(np.empty(0, np.float32), np.empty(0), 1).tolist() == []
    with pytest.raises(Invalid):
        keep_for_top(np.ones(2, np.float32), np.zeros(2), 0)
