"""Hits are read as far as the time allows, best first, and stand before the rest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest

from app.compute.deadline import Deadline, deadline
from app.errors import TooSlow
from app.query.ranking import Ranked
from app.rerank.order import Rerank, reorder

FOUND = [Ranked(0, row, 100 + row, 10.0 - row) for row in range(6)]


class Reading:
    """Gives the score of each row, and remembers which it was asked for."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.read = scores, list[int]()

    def __call__(self, items: Sequence[Ranked]) -> list[float]:
        self.read += [item.row for item in items]
        return [self.scores[item.row] for item in items]


def after(looks: int) -> Deadline:
    """Passes when it was looked at so many times."""
    ticks = count(1)
    return Deadline(looks, lambda: float(next(ticks)))


def test_the_first_are_ordered_by_the_new_scores_and_the_rest_stays_behind_them() -> None:
    by = Reading(0.1, 0.9, 0.5, 7.0, 7.0, 7.0)
    made = reorder(FOUND, 3, by, 1, [])
    assert by.read == [0, 1, 2]
    assert [(item.row, item.score) for item in made.ranked] == [
        (1, 0.9), (2, 0.5), (0, 0.1), (3, 7.0), (4, 6.0), (5, 5.0)
    ]  # fmt: skip
    assert made.former == {100: 10.0, 101: 9.0, 102: 8.0}
    assert made.of == 3


@pytest.mark.parametrize("looks", range(8))
def test_what_the_time_allows_is_read_first_n_first(looks: int) -> None:
    by = Reading(0, 1, 2, 3, 4, 5)
    made = reorder(FOUND, 5, by, 1, [after(looks)])
    read = min(looks, 5)
    assert by.read == list(range(read))
    assert [item.row for item in made.ranked] == [*reversed(range(read)), *range(read, 6)]
    assert (len(made.former), made.of) == (read, 5)
    assert [item.score for item in made.ranked[read:]] == [item.score for item in FOUND[read:]]


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 100])
def test_the_answer_is_the_same_in_any_pieces(piece: int) -> None:
    by, once = Reading(3, 1, 2, 9, 5, 4), Reading(3, 1, 2, 9, 5, 4)
    assert reorder(FOUND, 5, by, piece, []) == reorder(FOUND, 5, once, 6, [])
    assert by.read == once.read == list(range(5))
    some = reorder(FOUND, 5, Reading(3, 1, 2, 9, 5, 4), piece, [after(1)])
    assert len(some.former) == min(piece, 5)


def test_of_several_limits_the_first_that_passes_ends_it() -> None:
    by = Reading(*range(6))
    assert len(reorder(FOUND, 6, by, 1, [after(5), after(2), after(9)]).former) == 2


def test_equal_scores_keep_the_former_order() -> None:
    assert [item.row for item in reorder(FOUND, 6, Reading(1, 2, 1, 2, 1, 2), 1, []).ranked] == [1, 3, 5, 0, 2, 4]


def test_the_time_of_the_search_holds_too() -> None:
    by = Reading(*range(6))
    with pytest.raises(TooSlow), deadline(after(3)):
        reorder(FOUND, 6, by, 1, [])
    assert 0 < len(by.read) < 6


def test_nothing_found_is_nothing_reranked() -> None:
    made = reorder([], 10, Reading(), 1, [])
    assert (made.ranked, made.former, made.of) == ([], {}, 0)


def test_limits_are_those_that_there_are() -> None:
    given = after(1)
    assert Rerank("m").limits(None) == []
    assert Rerank("m").limits(given) == [given]
    own, other = Rerank("m", budget_ms=60_000).limits(given)
    assert other is given
    assert 50 < own.left() <= 60
