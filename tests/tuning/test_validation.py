"""Choosing by cross-validation: what is planted is found, and what is chance is not called a gain."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tuning.validation import best, choose, folds_of, p_of_choosing, together


def values(random: np.random.Generator, ways: int, queries: int, planted: float = 0.0) -> np.ndarray:
    """Queries differ much, ways on one of them little; the last way is better by what is planted."""
    found = random.normal(0.5, 0.25, size=(1, queries)) + random.normal(0, 0.1, size=(ways, queries))
    found[-1] += planted
    return found


def test_of_ways_that_are_alike_none_is_called_better_more_often_than_it_may() -> None:
    """The best of twelve on the same queries looks better nearly always; on queries that it has not seen it is not."""
    random, called, flattered, parts = np.random.default_rng(21), 0, 0, folds_of(10, 5, 0)
    for _ in range(1_000):
        own = values(random, 12, 10)
        called += p_of_choosing(own - own[0], parts) < 0.05
        flattered += float((own.mean(axis=1) - own[0].mean()).max()) > 0.03
    assert 25 <= called <= 55
    assert flattered >= 600


def test_the_test_of_a_choice_tries_every_order_of_signs() -> None:
    """In plain loops: signs, folds, choice, gain."""
    random = np.random.default_rng(8)
    own = values(random, 3, 7, 0.05) - 0.5
    differences, parts = own - own[0], folds_of(7, 5, 0)

    def gain(signs: tuple[int, ...]) -> float:
        flipped, total = differences * np.array(signs), 0.0
        for part in parts:
            others = [query for query in range(7) if query not in part]
            means = [float(row[others].mean()) for row in flipped]
            total += float(flipped[means.index(max(means)), part].sum())
        return total

    seen = gain((1,) * 7)
    gains = [gain(signs) for signs in product((1, -1), repeat=7)]
    tails = [sum(one >= seen - 1e-9 for one in gains), sum(one <= seen + 1e-9 for one in gains)]
    assert p_of_choosing(differences, parts) == pytest.approx(min(1, 2 * min(tails) / 128))


def test_a_planted_way_is_found_and_its_gain_is_told() -> None:
    random = np.random.default_rng(4)
    for _ in range(20):
        found = choose(["now", "a", "b", "planted"], values(random, 4, 60, planted=0.1))
        assert (found.chosen, found.verdict, found.carried) == ("planted", "better", True)
        assert found.gain.low <= 0.1 <= found.gain.high or found.gain.mean == pytest.approx(0.1, abs=0.06)
        assert found.by_fold == ["planted"] * 5


def test_what_is_chosen_and_loses_is_said_to_lose() -> None:
    """Each fold has a way of its own that is bad there and good elsewhere, so that it is chosen where it loses."""
    own = np.full((6, 50), 0.5)
    for way, part in enumerate(folds_of(50, 5, 0), 1):
        own[way] = 0.6
        own[way, part] = 0.0
    found = choose(["now", "a", "b", "c", "d", "e"], own)
    assert found.gain.mean == pytest.approx(-0.5)
    assert (found.verdict, found.carried) == ("worse", False) if found.chosen != "now" else ("unchanged", False)


def test_the_current_way_stays_where_no_other_is_better() -> None:
    found = choose(["now", "same"], np.full((2, 12), 0.3))
    assert (found.chosen, found.verdict, found.p) == ("now", "unchanged", 1.0)


def test_several_parts_are_corrected_together() -> None:
    random = np.random.default_rng(2)
    weak = next(
        one for one in (choose(["now", "p"], values(random, 2, 12, 0.09)) for _ in range(200)) if 0.03 < one.p < 0.05
    )
    assert weak.carried
    again, other = together([weak, choose(["now", "same"], np.full((2, 12), 0.3))])
    assert (again.p_corrected, again.verdict) == (pytest.approx(2 * weak.p), "no_difference")
    assert other.verdict == "unchanged"


@given(st.integers(1, 60), st.integers(2, 8), st.integers(0, 3))
def test_each_query_is_in_one_fold(count: int, folds: int, seed: int) -> None:
    parts = folds_of(count, folds, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [part.tolist() for part in parts] == [part.tolist() for part in folds_of(count, folds, seed)]


def test_of_equal_ways_the_first_is_best() -> None:
    assert best(np.array([[0.2, 0.4], [0.4, 0.2], [0.1, 0.1]])) == 0
