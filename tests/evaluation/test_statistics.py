"""Intervals, tests and overlaps against their definitions, and against what they promise of chance."""

from __future__ import annotations

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.evaluation.statistics import RESAMPLES, corrected, interval, overlap, p_value

RANKING = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8)


def test_an_interval_is_that_of_means_of_resamples() -> None:
    """A value of 0 or 1 has resamples whose sums are binomial, so that their quantiles are known."""
    values = np.array([1.0] * 30 + [0.0] * 20)
    found = interval(values)
    chances = np.cumsum([comb(50, k) * 0.6**k * 0.4 ** (50 - k) for k in range(51)])
    low, high = (float(np.searchsorted(chances, share)) / 50 for share in (0.025, 0.975))
    assert found.mean == pytest.approx(0.6)
    assert found.low == pytest.approx(low, abs=0.021)
    assert found.high == pytest.approx(high, abs=0.021)
    assert interval(values) == found


def test_an_interval_holds_the_mean_that_queries_were_drawn_of_as_often_as_it_says() -> None:
    random, held, rounds = np.random.default_rng(5), 0, 300
    for _ in range(rounds):
        found = interval(random.beta(2, 3, size=60))
        held += found.low <= 0.4 <= found.high
    # .95, and what the percentile bootstrap is known to lack of it at 60.
    assert 0.90 <= held / rounds <= 0.98


@pytest.mark.parametrize("values", [[0.5], [0.25] * 7])
def test_an_interval_of_values_that_do_not_differ_is_one_of_them(values: list[float]) -> None:
    found = interval(np.array(values))
    assert found.mean == found.low == found.high == pytest.approx(values[0])


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=9))
def test_a_p_value_counts_every_order_of_signs(numbers: list[int]) -> None:
    differences = np.array(numbers) / 16
    told = [abs(sum(sign * one for sign, one in zip(signs, numbers, strict=True))) for signs in product((1, -1), repeat=len(numbers))]  # fmt: skip  # noqa: E501
    expected = sum(one >= abs(sum(numbers)) for one in told) / len(told)
    assert p_value(differences) == pytest.approx(expected)


def test_drawn_signs_agree_with_all_of_them() -> None:
    random = np.random.default_rng(2)
    differences = random.normal(0.3, 1.0, size=14)
    exact = p_value(differences)
    # With queries that do not differ much beside them, signs are drawn.
    drawn = p_value(np.concatenate([differences, np.full(8, 1e-9)]))
    assert drawn == pytest.approx(exact, abs=0.015)


def test_settings_that_do_not_differ_are_seldom_called_different_and_one_that_does_is() -> None:
    random = np.random.default_rng(11)
    false = sum(p_value(random.normal(0, 0.2, size=40) * random.random(40)) < 0.05 for _ in range(1_000))
    assert 25 <= false <= 55
    found = sum(p_value(random.normal(0.1, 0.2, size=100)) < 0.05 for _ in range(100))
    assert found >= 95


def test_what_never_differs_has_no_chance_of_being_called_different() -> None:
    assert p_value(np.zeros(20)) == 1.0


def test_of_many_comparisons_that_do_not_differ_hardly_any_report_has_one_that_is_called_different() -> None:
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(1_000):
        wrong += min(corrected([p_value(random.normal(size=10)) for _ in range(6)])) < 0.05
    assert 25 <= wrong <= 55


def test_of_settings_compared_in_pairs_only_the_one_that_is_better_is_called_different() -> None:
    """Pairs share their settings, and values their queries, as in every report: what is called different among those
    that are alike is false, and of one that is better each of its pairs is to be found."""
    random, false, missed = np.random.default_rng(7), 0, 0
    pairs = list(combinations(range(4), 2))
    for planted in (0.0, 0.5):
        for _ in range(1_000 if not planted else 100):
            values = random.normal(0.5, 0.25, size=(1, 10)) + random.normal(0, 0.1, size=(4, 10))
            values[3] += planted
            told = corrected([p_value(values[other] - values[one]) for one, other in pairs])
            called = {pair for pair, p in zip(pairs, told, strict=True) if p < 0.05}
            if not planted:
                false += bool(called)
            else:
                missed += len({(0, 3), (1, 3), (2, 3)} - called)
    assert 15 <= false <= 55
    assert missed == 0


@given(st.lists(st.floats(0, 1), max_size=8))
def test_corrected_values_are_holms(values: list[float]) -> None:
    found = corrected(values)
    order = sorted(range(len(values)), key=lambda place: (values[place], place))
    for rank, place in enumerate(order):
        expected = max(min(1.0, values[other] * (len(values) - i)) for i, other in enumerate(order[: rank + 1]))
        assert found[place] == expected


@given(one=RANKING, other=RANKING, p=st.sampled_from([0.5, 0.9, 0.98]))
def test_an_overlap_is_between_what_its_beginning_leaves_open(one: list[str], other: list[str], p: float) -> None:
    """Webber's bounds: the agreement of what is seen, with all or nothing of the rest in common."""
    found = overlap(one, other, p)
    assert found == pytest.approx(overlap(other, one, p))
    if one == other:
        assert found == pytest.approx(1.0)
    if not set(one) & set(other) and (one or other):
        assert found == 0.0
    depth = min(len(one), len(other))
    if depth:
        seen = (1 - p) * sum(p ** (d - 1) * len(set(one[:d]) & set(other[:d])) / d for d in range(1, depth + 1))
        assert seen - 1e-12 <= found <= 1


def test_resamples_are_enough_for_the_third_digit() -> None:
    values = np.random.default_rng(9).random(300)
    one, other = interval(values, seed=1), interval(values, seed=2)
    assert RESAMPLES >= 10_000
    assert one.low == pytest.approx(other.low, abs=2e-3)
    assert one.high == pytest.approx(other.high, abs=2e-3)
