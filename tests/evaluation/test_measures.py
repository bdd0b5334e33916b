"""Measures by their names, against a second implementation of each on cases with ties, gaps and grades."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.evaluation.measures import depth_of, measured, parsed

Grades = Mapping[str, int]
IDS = "abcdefgh"


def dcg(grades: Sequence[int]) -> float:
    return sum(grade / log2(rank + 1) for rank, grade in enumerate(grades, 1))


def ndcg(grades: Grades, found: Sequence[str], cut: int) -> float:
    best = dcg(sorted(grades.values(), reverse=True)[:cut])
    return dcg([grades.get(one, 0) for one in found[:cut]]) / best if best else 0.0


def precision(grades: Grades, found: Sequence[str], cut: int, rel: int = 1) -> float:
    return sum(grades.get(one, 0) >= rel for one in found[:cut]) / cut


def recall(grades: Grades, found: Sequence[str], cut: int, rel: int = 1) -> float:
    relevant = sum(grade >= rel for grade in grades.values())
    return sum(grades.get(one, 0) >= rel for one in found[:cut]) / relevant if relevant else 0.0


def average_precision(grades: Grades, found: Sequence[str], cut: int) -> float:
    relevant = sum(grade >= 1 for grade in grades.values())
    total = sum(precision(grades, found, rank) for rank, one in enumerate(found[:cut], 1) if grades.get(one, 0) >= 1)
    return total / relevant if relevant else 0.0


def reciprocal_rank(grades: Grades, found: Sequence[str], cut: int) -> float:
    return next((1 / rank for rank, one in enumerate(found[:cut], 1) if grades.get(one, 0) >= 1), 0.0)


def success(grades: Grades, found: Sequence[str], cut: int) -> float:
    return float(any(grades.get(one, 0) >= 1 for one in found[:cut]))


PLAIN: dict[str, Callable[[Grades, Sequence[str]], float]] = {
    "nDCG@3": lambda grades, found: ndcg(grades, found, 3),
    "nDCG@10": lambda grades, found: ndcg(grades, found, 10),
    "P@5": lambda grades, found: precision(grades, found, 5),
    "P(rel=2)@4": lambda grades, found: precision(grades, found, 4, 2),
    "R@2": lambda grades, found: recall(grades, found, 2),
    "R(rel=2)@100": lambda grades, found: recall(grades, found, 100, 2),
    "AP@4": lambda grades, found: average_precision(grades, found, 4),
    "RR@3": lambda grades, found: reciprocal_rank(grades, found, 3),
    "Success@1": lambda grades, found: success(grades, found, 1),
}


@given(
    grades=st.dictionaries(
        st.sampled_from(["q1", "q2", "q3"]),
        st.dictionaries(st.sampled_from(IDS), st.integers(0, 3), min_size=1),
        min_size=1,
    ),
    found=st.fixed_dictionaries(
        {}, optional={one: st.lists(st.sampled_from(IDS), unique=True) for one in ("q1", "q2", "q3")}
    ),
)
def test_each_is_what_its_definition_gives(grades: dict[str, dict[str, int]], found: dict[str, list[str]]) -> None:
    found = {query: names for query, names in found.items() if query in grades}
    values = measured(parsed(list(PLAIN), "/measures"), grades, found)
    assert {measure: set(by_query) for measure, by_query in values.items()} == {
        measure: set(grades) for measure in values
    }
    for (name, plain), by_query in zip(PLAIN.items(), values.values(), strict=True):
        for query, own in grades.items():
            assert by_query[query] == pytest.approx(plain(own, found.get(query, [])), abs=1e-9), name


@pytest.mark.parametrize("name", ["", "nDCG", "ndcg@10", "nDCG@0", "nDCG@1001", "nDCG@10 ", "ERR@10", "__import__('os')", "P(rel=0)@5"])  # fmt: skip  # noqa: E501
def test_what_is_none_is_refused_with_its_place(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        parsed(["nDCG@10", name], "/measures")
    assert [one.pointer for one in refused.value.problems] == ["/measures/1"]


def test_a_search_finds_as_many_as_the_measures_look_at() -> None:
    assert depth_of(parsed(["nDCG@10", "R@200"], "")) == 200
    assert depth_of(parsed(["RR@3"], "")) == 10
    assert depth_of(parsed(["Bpref"], "")) == 100


def test_without_what_computes_them_measures_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytrec_eval", None)
    with pytest.raises(Invalid, match=r"/measures: .*pytrec-eval-terrier, which is not installed here"):
        parsed(["nDCG@10"], "/measures")
