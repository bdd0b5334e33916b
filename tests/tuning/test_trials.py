"""Ranks estimated from a sample are held to ranks counted over everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.tuning.trials import TrialSet, in_turn, narrowest, ranks, recall_at
from app.types import F32, I64, TokenVectors


def trial(n: int, sampled: int, size: int, truth: list[int], owner: int = -1) -> TrialSet:
    tokens = TokenVectors(np.ones((n, 1), np.float32), np.arange(n + 1))
    one = tokens.slice(0, 1)
    ones = np.ones((n, 1), np.float32)
    return TrialSet(tokens, ones, sampled, size, one, ones[:1], (np.array(truth, np.int64),), np.array([owner]))


def counted(scores: F32, truth: list[int], owner: int) -> list[float]:
    """The last place that a row can have in a list by score, the owner left out."""
    rows = [row for row in range(len(scores)) if row != owner]
    return [
        1.0
        + sum(
            scores[row] > scores[best] or (row not in truth and scores[row] == scores[best])
            for row in rows
            if row != best
        )
        for best in truth
    ]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_of_the_whole_collection_they_are_exact(data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 30))
    scores = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)), np.float32)
    chosen = data.draw(st.permutations(range(n)))
    truth, owner = list(chosen[:2]), data.draw(st.sampled_from([-1, chosen[2]]))
    assert ranks(trial(n, n, n, truth, owner), 0, scores).tolist() == counted(scores, truth, owner)


def test_of_a_sample_they_are_right_in_the_mean() -> None:
    random = np.random.default_rng(0)
    size, sampled, best = 400, 40, 5
    scores = random.normal(size=size).astype(np.float32)
    truth: I64 = np.argsort(-scores)[[0, 3, 20, 90, 300]]
    exact = counted(scores, truth.tolist(), -1)
    estimates = []
    for _ in range(1_500):
        drawn = random.permutation(size)[:sampled]
        extra = truth[~np.isin(truth, drawn)]
        rows = np.concatenate([drawn, extra])
        places = [int(np.flatnonzero(rows == row)[0]) for row in truth]
        estimates.append(ranks(trial(len(rows), sampled, size, places), 0, scores[rows]))
    means = np.mean(estimates, axis=0)
    errors = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert len(means) == best
    assert (np.abs(means - exact) <= 4 * errors + 1e-9).all()


def test_recall_is_a_mean_over_queries() -> None:
    found = [np.array([1.0, 2.0, 50.0, 7.0]), np.array([11.0])]
    assert recall_at(found, [1, 10, 11, 100]) == [0.125, 0.375, 0.875, 1.0]
    assert narrowest([0.1, 0.9, 0.95], [1, 2, 3], 0.9) == 2
    assert narrowest([0.1], [1], 0.2) is None


def test_two_lists_in_turn_find_no_later_than_said() -> None:
    random = np.random.default_rng(1)
    first, second = random.permutation(60), random.permutation(60)
    taken = list(dict.fromkeys(np.stack([first, second], axis=1).ravel().tolist()))
    place = np.array([taken.index(row) + 1 for row in range(60)])
    said = in_turn(np.argsort(first) + 1.0, np.argsort(second) + 1.0)
    assert (place <= said).all()
    assert (said <= 2 * place).all()


@pytest.mark.parametrize(("n", "sampled", "size"), [(3, 0, 5), (3, 4, 5), (3, 3, 2)])
def test_a_sample_that_cannot_be(n: int, sampled: int, size: int) -> None:
    with pytest.raises(Invalid, match="sampled passages"):
        trial(n, sampled, size, [0])
