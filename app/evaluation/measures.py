"""Measures of rankings, by the names that ir_measures gives them (MacAvaney, Macdonald and Ounis, ECIR 2022)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

import ir_measures

from app.errors import Invalid
from app.types import MAX_K

DEFAULT: Final = ("nDCG@10", "R@100", "RR@10", "AP@100")
LEAST_DEPTH: Final = 10
_NAME: Final = re.compile(
    r"(nDCG|AP|P|R|RR|Success)(?:\(rel=([1-9]\d{0,2})\))?@([1-9]\d{0,3})|Rprec(?:\(rel=[1-9]\d{0,2}\))?|Bpref"
)


def installed() -> bool:
    """Whether what computes the measures is there, without importing it."""
    try:
        return find_spec("pytrec_eval") is not None
    except (ImportError, ValueError):
        return False


def parsed(names: Sequence[str], at: str) -> list[Any]:
    """The measures. at: the pointer to their names. Raises Invalid for one that is none, and where nothing computes
    them."""
    if not installed():
        raise Invalid.at(
            at,
            "measures are computed by pytrec-eval-terrier, which is not installed here: there is no build of it for "
            "64-bit ARM, and pip makes one with a compiler and its source",
        )
    found = []
    for place, name in enumerate(names):
        match = _NAME.fullmatch(name)
        if match is None or int(match[3] or 1) > MAX_K:
            raise Invalid.at(
                f"{at}/{place}",
                "expected a measure as ir_measures names it: nDCG@10, AP@100, P@5, R@100, RR@10, Success@1, with "
                f"grades from 2 as in P(rel=2)@10, Rprec or Bpref, and at most @{MAX_K:,}; got {name[:100]!r}",
            )
        found.append(ir_measures.parse_measure(name))
    return found


def depth_of(measures: Sequence[Any]) -> int:
    """How many documents each search has to find."""
    cutoffs = [int(one.params.get("cutoff", 100)) for one in measures]
    return max([LEAST_DEPTH, *cutoffs])


def measured(
    measures: Sequence[Any], grades: Mapping[str, Mapping[str, int]], found: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """By measure and query. found: ids, best first, of each query; none is worth 0."""
    # Ranks as scores, so that no two are equal and the order is ours.
    run = {query: {name: -float(rank) for rank, name in enumerate(names)} for query, names in found.items() if names}
    values: dict[str, dict[str, float]] = {str(one): dict.fromkeys(grades, 0.0) for one in measures}
    for one in ir_measures.iter_calc(measures, grades, run):
        values[str(one.measure)][one.query_id] = float(one.value)
    return values
