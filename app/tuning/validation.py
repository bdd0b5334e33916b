"""Choosing a way to search by judged queries, and what that choice is worth on queries it has not seen.

The best of many ways on some queries is in part the luckiest. So queries are parted into folds: of each fold the way is
chosen by all the others and measured on it (cross-validation; Stone 1974). What these choices gain together over the
way that holds now is what choosing gains; its interval is of those values. The way that is proposed is the best on all
queries. It is carried only where that gain is more than chance.

Folds share the queries that they choose by, so a test of these values as if each stood alone calls too many different:
92 of 1,000 where nothing differs. The randomisation test therefore chooses anew. Were the ways alike, all differences
to the current way on a query might as well have the other sign; under each order of signs the whole is done again, and
p is how often it gains, or loses, as much.

Folds and signs come of a seed, so the same values give the same choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from app.evaluation.statistics import ALL_SIGNS, LEVEL, SIGNS, Interval, corrected, interval
from app.types import F64, I64

FOLDS: Final = 5
SEED: Final = 0
LEAST: Final = 10
"""Queries below which nothing is chosen."""

_AT_ONCE: Final = 2_048
"""Orders of signs in memory at a time."""

Verdict: TypeAlias = Literal["better", "no_difference", "worse", "unchanged"]


@dataclass(frozen=True, slots=True)
class Tried:
    """A way on all queries. difference: to the one that holds now, over the same queries; of the best of many ways it
    flatters."""

    name: str
    mean: float
    difference: Interval


@dataclass(frozen=True, slots=True)
class Choice:
    """current: the way that holds now. chosen: the best on all queries. by_fold: the way that each fold was measured
    with. gain: of choosing, on queries that the choice had not seen. p: of a two-sided randomisation test; p_corrected:
    among all that was chosen together (Holm). verdict: better, where that is below .05 and the gain above 0; worse,
    where choosing loses; unchanged, where the current way is the best."""

    current: str
    chosen: str
    by_fold: list[str]
    gain: Interval
    p: float
    p_corrected: float
    verdict: Verdict
    tried: list[Tried]

    @property
    def carried(self) -> bool:
        return self.verdict == "better"


def choose(names: Sequence[str], values: F64, folds: int = FOLDS, seed: int = SEED) -> Choice:
    """names: the current way first. values: (ways, queries), of one measure.

    >>> found = choose(["now", "other"], np.array([[0.1] * 10, [0.3] * 10]))
    >>> found.chosen, found.verdict, round(found.gain.mean, 3)
    ('other', 'better', 0.2)
    """
    count = values.shape[1]
    parts = folds_of(count, folds, seed)
    seen, by_fold = np.empty(count), list[str]()
    for part in parts:
        others = np.setdiff1d(np.arange(count), part)
        way = best(values[:, others])
        by_fold.append(names[way])
        seen[part] = values[way, part] - values[0, part]
    whole = best(values)
    tried = [Tried(name, float(own.mean()), interval(own - values[0])) for name, own in zip(names, values, strict=True)]
    p = p_of_choosing(values - values[0], parts, seed)
    found = Choice(names[0], names[whole], by_fold, interval(seen), p, p, "no_difference", tried)
    return replace(found, verdict=_verdict(found))


def together(choices: Sequence[Choice]) -> list[Choice]:
    """Several choices made by the same queries, their p-values corrected."""
    strict = corrected([one.p for one in choices])
    found = [replace(one, p_corrected=p) for one, p in zip(choices, strict, strict=True)]
    return [replace(one, verdict=_verdict(one)) for one in found]


def p_of_choosing(differences: F64, parts: Sequence[I64], seed: int = SEED) -> float:
    """How often choosing by folds gains or loses as much where the differences of each query have either sign,
    two-sided (twice the smaller tail). differences: (ways, queries), to the first way. Exact for few queries."""
    count = differences.shape[1]
    observed = float(_gains(differences, parts, np.ones((1, count)))[0])
    # As far as it is, but for rounding.
    slack = 1e-9 * max(1.0, abs(observed))
    exact = count <= ALL_SIGNS
    random = np.random.default_rng(seed)
    above = below = drawn = 0
    for start in range(0, 2**count if exact else SIGNS, _AT_ONCE):
        if exact:
            numbers = np.arange(start, min(start + _AT_ONCE, 2**count))[:, None]
            minus = (numbers >> np.arange(count)) & 1
        else:
            minus = random.integers(2, size=(min(_AT_ONCE, SIGNS - start), count))
        gains = _gains(differences, parts, (1 - 2 * minus).astype(np.float64))
        above += int(np.count_nonzero(gains >= observed - slack))
        below += int(np.count_nonzero(gains <= observed + slack))
        drawn += len(minus)
    if not exact:
        # With the order that was seen, so that it is never 0 (Phipson and Smyth 2010).
        above, below, drawn = above + 1, below + 1, drawn + 1
    return min(1.0, 2 * min(above, below) / drawn)


def _gains(differences: F64, parts: Sequence[I64], signs: F64) -> F64:
    """(orders,): the sum that choosing by folds gains under each order of signs, (orders, queries)."""
    sums = np.stack([signs[:, part] @ differences[:, part].T for part in parts])
    whole, rows, gained = sums.sum(axis=0), np.arange(len(signs)), np.zeros(len(signs))
    for own in sums:
        others = whole - own
        chosen = others.argmax(axis=1)
        chosen[others[rows, chosen] <= 1e-12] = 0
        gained += own[rows, chosen]
    return gained


def folds_of(count: int, folds: int, seed: int) -> list[I64]:
    """The queries of each fold, by their places; sizes differ by one at most."""
    return np.array_split(np.random.default_rng(seed).permutation(count), min(folds, count))


def best(values: F64) -> int:
    """The way with the best mean over (ways, queries); of equal ones the first, so the current one stays."""
    means = values.mean(axis=1)
    return int(np.flatnonzero(means >= means.max() - 1e-12)[0])


def _verdict(found: Choice) -> Verdict:
    if found.chosen == found.current:
        return "unchanged"
    if found.p_corrected >= LEVEL or not found.gain.mean:
        return "no_difference"
    return "better" if found.gain.mean > 0 else "worse"
