"""Runs of TREC's form: what is written is read in the same order, and a foreign one as trec_eval reads it."""

from __future__ import annotations

from collections.abc import Iterator

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.evaluation.measures import measured, parsed
from app.evaluation.runs import read_run, run_lines

NAMED = ("nDCG@10", "R@3", "RR", "AP@100")
MEASURES, THEIRS = parsed(NAMED, ""), [ir_measures.parse_measure(name) for name in NAMED]
LAWS = settings(derandomize=True, deadline=None, max_examples=60)
NAMES = [f"d{i}" for i in range(12)] + ["D1", "é", "10", "9"]
SCORES = st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-12, 1.0000001, 7.25, -3.0, 1e30, 1e-30])


def lines(content: str) -> Iterator[tuple[int, bytes]]:
    return enumerate(content.encode().splitlines(), 1)


@LAWS
@given(st.dictionaries(st.sampled_from(NAMES), SCORES, min_size=1))
def test_what_is_written_is_read_in_the_same_order(scores: dict[str, float]) -> None:
    # Ties are in no order of ids.
    names = sorted(scores, key=lambda name: (-scores[name], name[::-1]))
    written = "".join(run_lines({"q": names}, {"q": [scores[name] for name in names]}, "t"))
    assert read_run(lines(written), "r") == {"q": names}
    # And by the evaluators of others, which see scores alone.
    found = {line.split()[2]: float(line.split()[4]) for line in written.splitlines()}
    qrels = {"q": {name: i % 3 for i, name in enumerate(NAMES)}}
    theirs = ir_measures.calc_aggregate(THEIRS, qrels, {"q": found})
    ours = measured(MEASURES, qrels, {"q": names})
    for measure, value in theirs.items():
        assert ours[str(measure)]["q"] == pytest.approx(value)


@LAWS
@given(st.dictionaries(st.sampled_from(NAMES), SCORES, min_size=1))
def test_a_foreign_run_with_ties_is_worth_what_trec_eval_says(scores: dict[str, float]) -> None:
    content = "".join(f"q\tQ0  {name} 1 {score!r} bm25\n" for name, score in scores.items())
    qrels = {"q": {name: i % 3 for i, name in enumerate(NAMES)}}
    ours = measured(MEASURES, qrels, read_run(lines(content), "r"))
    for measure, value in ir_measures.calc_aggregate(THEIRS, qrels, {"q": scores}).items():
        assert ours[str(measure)]["q"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q Q0 d 1\n", "line 1: expected query, Q0, document, rank, score and tag; got 4 columns"),
        ("\nq Q0 d 1 high t\n", "line 2: expected a number as the score, got 'high'"),
        ("q Q0 d 1 nan t\n", "expected a number"),
        ("q Q0 d 1 1 t\nq Q0 d 2 0 t\n", "line 2: document 'd' is there twice for query 'q'"),
    ],
)
def test_what_is_no_run_is_told_by_line(content: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        read_run(lines(content), "other.run")
    with pytest.raises(Invalid, match="line 1: not UTF-8"):
        read_run([(1, b"\xff Q0 d 1 1 t")], "other.run")


def test_ids_with_white_space_are_in_no_run() -> None:
    with pytest.raises(Invalid, match="document 'a b'"):
        list(run_lines({"q": ["a b"]}, {"q": [1.0]}, "t"))
