"""Measures of rankings, by the names and parameters that ir_measures gives them (MacAvaney, Macdonald and Ounis, ECIR
2022), and those of class labels by the names of the Princeton Shape Benchmark. What each is, app.evaluation.formulas
says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from app.errors import Invalid
from app.evaluation import formulas
from app.evaluation.formulas import UNKNOWN, Ranking
from app.types import MAX_K

DEFAULT: Final = ("nDCG@10", "R@100", "RR@10", "AP@100")
LEAST_DEPTH: Final = 10
WHOLE_DEPTH: Final = 100
"""Hits of a search for a measure of all that was found."""

Value: TypeAlias = str | int | float | bool
Formula: TypeAlias = Callable[[Ranking, Mapping[str, Any]], float]


@dataclass(frozen=True, slots=True)
class _Family:
    """Measures of one formula. takes: parameters with what they are where they are not given, None where they must be.
    cut: whether a rank must follow its name; None: that it cannot. at: the rank where none follows; None: all that was
    found. tiers: how many times as many documents as are relevant it looks at, where it is that which says it."""

    formula: Formula
    takes: Mapping[str, Value | None]
    cut: bool | None = None
    at: int | None = None
    tiers: int | None = None


_REL: Final[dict[str, Value | None]] = {"rel": 1}
_SETS: Final[dict[str, Value | None]] = {"rel": 1, "judged_only": False}
_FAMILIES: Final[dict[str, _Family]] = {
    "nDCG": _Family(
        lambda own, of: formulas.ndcg(own, of["cutoff"], exponential=of["dcg"] == "exp-log2"),
        {"dcg": "log2", "judged_only": False},
        cut=False,
    ),
    "AP": _Family(lambda own, of: formulas.average_precision(own, of["cutoff"], of["rel"]), _SETS, cut=False),
    "RR": _Family(lambda own, of: formulas.reciprocal_rank(own, of["cutoff"], of["rel"]), _SETS, cut=False),
    "P": _Family(lambda own, of: formulas.precision(own, of["cutoff"], of["rel"]), _SETS, cut=True),
    "R": _Family(lambda own, of: formulas.recall(own, of["cutoff"], of["rel"]), _SETS, cut=True),
    "Success": _Family(lambda own, of: formulas.success(own, of["cutoff"], of["rel"]), _SETS, cut=True),
    "Judged": _Family(lambda own, of: formulas.judged_share(own, of["cutoff"]), {}, cut=False),
    "RBP": _Family(
        lambda own, of: formulas.rank_biased_precision(own, of["cutoff"], of["p"], of["rel"]),
        # A grade is no gain between 0 and 1, so which ones are relevant is to be said.
        {"p": 0.8, "rel": None},
        cut=False,
    ),
    "Rprec": _Family(lambda own, of: formulas.r_precision(own, of["rel"]), _SETS),
    "Bpref": _Family(lambda own, of: formulas.binary_preference(own, of["rel"]), _REL),
    "infAP": _Family(lambda own, of: formulas.inferred_average_precision(own, of["rel"]), _REL),
    "SetP": _Family(
        lambda own, of: formulas.set_precision(own, of["rel"], relative=of["relative"]), {**_SETS, "relative": False}
    ),
    "SetR": _Family(lambda own, of: formulas.set_recall(own, of["rel"]), _REL),
    "SetF": _Family(lambda own, of: formulas.set_f(own, of["rel"], of["beta"]), {**_SETS, "beta": 1.0}),
    "SetAP": _Family(lambda own, of: formulas.set_average_precision(own, of["rel"]), _SETS),
    "NN": _Family(lambda own, of: formulas.precision(own, 1, of["rel"]), _REL, at=1),
    "FT": _Family(lambda own, of: formulas.tier(own, 1, of["rel"]), _REL, tiers=1),
    "ST": _Family(lambda own, of: formulas.tier(own, 2, of["rel"]), _REL, tiers=2),
    "E": _Family(lambda own, of: formulas.e_measure(own, of["cutoff"], of["rel"]), _REL, cut=False, at=32),
    "DCG": _Family(lambda own, of: formulas.discounted_gain(own, of["cutoff"], of["rel"]), _REL, cut=False),
}
_NAME: Final = re.compile(r"([A-Za-z]{1,20})(?:\(([^()]{1,80})\))?(?:@([1-9]\d{0,3}))?")
_WHOLE: Final = re.compile(r"[1-9]\d{0,2}")
_DECIMAL: Final = re.compile(r"\d{0,3}(?:\.\d{1,9})?(?<=\d)")


@dataclass(frozen=True, slots=True)
class Measure:
    """One that is asked for. name: as it was written, by which answers have it. of: its parameters, cutoff among
    them, which is None for all that was found. tiers: as its family has it."""

    name: str
    formula: Formula = field(repr=False)
    of: Mapping[str, Any]
    tiers: int | None = None

    def __str__(self) -> str:
        return self.name

    def value(self, ranking: Ranking) -> float:
        return self.formula(ranking.judged() if self.of.get("judged_only") else ranking, self.of)


def measure(name: str) -> Measure:
    """Raises Invalid for a name that is none.

    >>> measure("P(rel=2)@5").value(Ranking(np.array([2, 1]), np.array([2, 1])))
    0.2
    """
    match = _NAME.fullmatch(name)
    family = _FAMILIES.get(match[1]) if match is not None else None
    if match is None or family is None:
        raise Invalid(
            "expected a measure as ir_measures names it, such as nDCG@10, AP@100, P(rel=2)@10 or Bpref: one of "
            f"{', '.join(_FAMILIES)}; got {name[:100]!r}"
        )
    kind, inside, cut = match.groups()
    if cut is None and family.cut:
        raise Invalid(f"expected the rank to which {kind} looks, such as {kind}@10; got {name[:100]!r}")
    if cut is not None and family.cut is None:
        looks = "at all that was found" if family.at is None and family.tiers is None else "as far as its name says"
        raise Invalid(f"{kind} looks {looks} and takes no rank; got {name[:100]!r}")
    if int(cut or 1) > MAX_K:
        raise Invalid(f"expected at most @{MAX_K:,}; got {name[:100]!r}")
    of: dict[str, Any] = {**family.takes, "cutoff": family.at if cut is None else int(cut)}
    for one in inside.split(",") if inside else ():
        key, _, said = (part.strip() for part in one.partition("="))
        if key not in family.takes:
            takes = f"takes {', '.join(family.takes)}" if family.takes else "has no parameters"
            raise Invalid(f"{kind} {takes}; got {one.strip()[:100]!r}")
        of[key] = _said(kind, key, said)
    missing = [key for key, value in of.items() if value is None and key != "cutoff"]
    if missing:
        raise Invalid(f"expected {missing[0]}, as in {kind}({missing[0]}=1): the least grade that is relevant")
    return Measure(name, family.formula, of, family.tiers)


def _said(kind: str, key: str, said: str) -> Value:
    """The value of a parameter. Raises Invalid."""
    if key == "rel":
        expected = "a grade from 1 to 999"
        if _WHOLE.fullmatch(said):
            return int(said)
    elif key in ("judged_only", "relative"):
        expected = "True or False"
        if said in ("True", "False"):
            return said == "True"
    elif key == "dcg":
        expected = "'log2' or 'exp-log2'"
        if said[:1] in ("'", '"') and said[-1:] == said[:1] and said[1:-1] in ("log2", "exp-log2"):
            return said[1:-1]
    else:
        expected = "a number between 0 and 1" if key == "p" else "a number above 0"
        if _DECIMAL.fullmatch(said) and 0 < float(said) < (1 if key == "p" else 1_000):
            return float(said)
    raise Invalid(f"expected {expected} as {key} of {kind}; got {said[:100]!r}")


def parsed(names: Sequence[str], at: str) -> list[Measure]:
    """The measures. at: the pointer to their names. Raises Invalid for one that is none."""
    return [parsed_one(name, f"{at}/{place}") for place, name in enumerate(names)]


def parsed_one(name: str, at: str) -> Measure:
    """at: the pointer to its name. Raises Invalid where it is none."""
    try:
        return measure(name)
    except Invalid as error:
        raise Invalid.at(at, error.message) from error


def depth_of(measures: Sequence[Measure], relevant: int = 0, whole: int = WHOLE_DEPTH, most: int = MAX_K) -> int:
    """How many documents each search has to find, ``most`` at most. relevant: documents of the query that has the most.
    whole: for a measure of all that was found."""
    reach = [relevant * one.tiers if one.tiers else one.of["cutoff"] or whole for one in measures]
    return max(LEAST_DEPTH, min(most, max(reach, default=0)))


def measured(
    measures: Sequence[Measure], grades: Mapping[str, Mapping[str, int]], found: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """By measure and query. found: ids, best first, of each query; none is worth 0."""
    rankings = {query: ranked(own, found.get(query, ())) for query, own in grades.items()}
    return {one.name: {query: one.value(own) for query, own in rankings.items()} for one in measures}


def ranked(grades: Mapping[str, int], found: Sequence[str]) -> Ranking:
    """By their grades."""
    return Ranking(
        np.array([grades.get(name, UNKNOWN) for name in found], np.int64),
        np.array(sorted(grades.values(), reverse=True), np.int64),
    )


def mean(name: str, grades: Mapping[str, Mapping[str, int]], found: Mapping[str, Sequence[str]]) -> float:
    """Of one measure, over all queries that have grades. Raises Invalid."""
    own = measured([measure(name)], grades, found)[name]
    return float(np.mean([*own.values()])) if own else 0.0
