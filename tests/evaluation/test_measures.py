"""Measures by their names, against those of trec_eval as ir_measures gives them, and against plain loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log2

import ir_measures
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.evaluation.measures import depth_of, mean, measured, parsed
from app.evaluation.runs import read_run

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


def dcg_of_shapes(grades: Grades, found: Sequence[str], cut: int) -> float:
    """As the Princeton Shape Benchmark adds it up, list by list."""
    total = 0.0
    for rank, one in enumerate(found[:cut], 1):
        total += (grades.get(one, 0) >= 1) * (1 if rank == 1 else 1 / log2(rank))
    relevant = min(cut, sum(grade >= 1 for grade in grades.values()))
    return total / (1 + sum(1 / log2(rank) for rank in range(2, relevant + 1))) if relevant else 0.0


def e_measure(grades: Grades, found: Sequence[str], cut: int) -> float:
    precise, whole = precision(grades, found, cut), recall(grades, found, cut)
    return 2 / (1 / precise + 1 / whole) if precise and whole else 0.0


def tier(grades: Grades, found: Sequence[str], times: int) -> float:
    relevant = sum(grade >= 1 for grade in grades.values())
    return recall(grades, found, times * relevant)


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
    "RBP(p=0.5,rel=2)": lambda grades, found: sum(
        0.5**rank for rank, one in enumerate(found, 1) if grades.get(one, 0) >= 2
    ),
    "RBP(rel=1)@3": lambda grades, found: sum(
        0.2 * 0.8**place for place, one in enumerate(found[:3]) if grades.get(one, 0) >= 1
    ),
    "NN": lambda grades, found: precision(grades, found, 1),
    "NN(rel=3)": lambda grades, found: precision(grades, found, 1, 3),
    "FT": lambda grades, found: tier(grades, found, 1),
    "ST": lambda grades, found: tier(grades, found, 2),
    "E": lambda grades, found: e_measure(grades, found, 32),
    "E@3": lambda grades, found: e_measure(grades, found, 3),
    "DCG": lambda grades, found: dcg_of_shapes(grades, found, 100),
    "DCG@3": lambda grades, found: dcg_of_shapes(grades, found, 3),
    "nDCG(dcg='exp-log2')@10": lambda grades, found: ndcg(
        {one: 2**grade - 1 for one, grade in grades.items()}, found, 10
    ),
}
THEIRS = [
    *("nDCG@1", "nDCG@3", "nDCG", "nDCG(judged_only=True)@4", "AP", "AP@3", "AP(rel=2)@5", "AP(judged_only=True)"),
    *("RR", "RR@2", "RR(rel=2)", "RR(judged_only=True)", "P@1", "P@5", "P(rel=2)@4", "P(judged_only=True)@3"),
    *("R@2", "R(rel=2)@100", "R(judged_only=True)@3", "Success@1", "Success(rel=2)@3", "Judged", "Judged@3"),
    *("Rprec", "Rprec(rel=2)", "Rprec(judged_only=True)", "Bpref", "Bpref(rel=2)", "infAP", "infAP(rel=2)"),
    *("SetP", "SetP(rel=2)", "SetP(relative=True)", "SetP(judged_only=True)", "SetR", "SetR(rel=2)", "SetF"),
    *("SetF(beta=0.5)", "SetF(beta=2.0,rel=2)", "SetAP", "SetAP(rel=2)"),
]


@settings(derandomize=True, deadline=None)
@given(
    # trec_eval reads beyond its counts where no document has the grade that is asked for.
    grades=st.dictionaries(st.sampled_from(IDS), st.integers(-2, 3), min_size=1).filter(lambda own: 2 in own.values()),
    found=st.lists(st.sampled_from(f"{IDS}xyz"), unique=True),
)
@example(grades={"a": 2, "b": 0, "c": -1, "d": 1}, found=[])
@example(grades={"a": 2, "b": 0, "c": -1, "d": 1}, found=list("xyz"))
@example(grades={"a": 2, "b": 0, "c": -1, "d": 1}, found=list("cxbad"))
@example(grades={"a": 2, "b": 3, "c": 1}, found=list("cab"))
@example(grades={"a": 2}, found=list("ba"))
def test_each_is_that_of_trec_eval(grades: dict[str, int], found: list[str]) -> None:
    ours = measured(parsed(THEIRS, "/measures"), {"q": grades}, {"q": found})
    # A query of which nothing was found ends the process there.
    run = {"q": {name: -float(rank) for rank, name in enumerate(found)}} if found else {}
    theirs = dict.fromkeys(THEIRS, 0.0)
    for one in ir_measures.iter_calc([ir_measures.parse_measure(name) for name in THEIRS], {"q": grades}, run):
        theirs[str(one.measure)] = float(one.value)
    assert set(theirs) == set(THEIRS)
    for name, value in theirs.items():
        assert ours[name]["q"] == pytest.approx(value, rel=0, abs=1e-12), name


@settings(derandomize=True, deadline=None)
@given(
    scores=st.dictionaries(st.sampled_from([*IDS, "é", "B"]), st.sampled_from([0.0, 1.0, 2.5]), min_size=1),
    grades=st.dictionaries(st.sampled_from([*IDS, "é", "B"]), st.integers(0, 3)).map(lambda own: {**own, "a": 2}),
)
def test_ties_of_a_run_are_in_the_order_of_trec_eval(scores: dict[str, float], grades: dict[str, int]) -> None:
    # RR@2 and Judged break ties the other way there.
    names = [name for name in THEIRS if name not in ("RR@2", "Judged@3")]
    lines = (f"q Q0 {name} 1 {score} t".encode() for name, score in scores.items())
    ours = measured(parsed(names, ""), {"q": grades}, read_run(enumerate(lines, 1), "run"))
    for one in ir_measures.iter_calc([ir_measures.parse_measure(name) for name in names], {"q": grades}, {"q": scores}):
        assert ours[str(one.measure)]["q"] == pytest.approx(float(one.value), rel=0, abs=1e-12), one.measure


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
            assert by_query[query] == pytest.approx(plain(own, found.get(query, [])), rel=0, abs=1e-12), name


def test_a_mean_is_over_the_queries_that_are_judged() -> None:
    grades = {"a": {"x": 1}, "b": {"y": 1}}
    assert mean("P@1", grades, {"a": ["x"], "c": ["x"]}) == 0.5
    assert mean("P@1", {}, {"a": ["x"]}) == 0.0


@pytest.mark.parametrize("name", ["", "nDCG@", "ndcg@10", "nDCG@0", "nDCG@1001", "nDCG@10 ", "ERR@10", "__import__('os')", "P(rel=0)@5"])  # fmt: skip  # noqa: E501
def test_what_is_none_is_refused_with_its_place(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        parsed(["nDCG@10", name], "/measures")
    assert [one.pointer for one in refused.value.problems] == ["/measures/1"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ERR@10", "one of nDCG, AP, RR, P, .*; got 'ERR@10'"),
        ("P", "expected the rank to which P looks, such as P@10; got 'P'"),
        ("Bpref@10", "takes no rank; got 'Bpref@10'"),
        ("NN@1", "NN looks as far as its name says and takes no rank; got 'NN@1'"),
        ("ST(rel=0)", "expected a grade from 1 to 999 as rel of ST"),
        ("P@1001", "at most @1,000"),
        ("P(beta=2)@10", "P takes rel, judged_only; got 'beta=2'"),
        ("Judged(rel=1)@10", "Judged has no parameters"),
        ("P(rel=two)@10", "expected a grade from 1 to 999 as rel of P; got 'two'"),
        ("P(judged_only=1)@10", "expected True or False as judged_only of P; got '1'"),
        ("nDCG(dcg=log2)@10", "expected 'log2' or 'exp-log2' as dcg of nDCG; got 'log2'"),
        ("RBP", r"expected rel, as in RBP\(rel=1\)"),
        ("RBP(p=1,rel=1)", "expected a number between 0 and 1 as p of RBP; got '1'"),
        ("SetF(beta=.)", "expected a number above 0 as beta of SetF; got '.'"),
        ("P(rel)@10", "got ''"),
    ],
)
def test_what_is_wrong_with_a_name_is_told(name: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        parsed([name], "/measures")


def test_a_search_finds_as_many_as_the_measures_look_at() -> None:
    assert depth_of(parsed(["nDCG@10", "R@200"], "")) == 200
    assert depth_of(parsed(["RR@3"], "")) == 10
    assert depth_of(parsed(["Bpref"], "")) == 100
    assert depth_of(parsed(["nDCG"], "")) == 100
    assert depth_of(parsed(["E", "NN"], ""), relevant=500) == 32
    assert depth_of(parsed(["FT"], ""), relevant=70) == 70
    assert depth_of(parsed(["ST"], ""), relevant=700) == 1_000
    assert depth_of(parsed(["AP", "ST"], ""), relevant=700, whole=5_000, most=5_000) == 5_000
