"""How sure a mean over queries is, and whether two settings differ.

Queries are the sample: a mean's interval is that of means over queries drawn again with replacement (the percentile
bootstrap; Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), and two settings are compared on
the same queries. Their difference is tested by randomisation: where both were alike, each query's difference might as
well have the other sign (Fisher 1935; for retrieval Smucker, Allan and Carterette, CIKM 2007). Of many comparisons some
look different by chance, so their p-values are corrected together (Holm 1979).

Draws come of a seed, so the same values give the same report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from app.types import F64

RESAMPLES: Final = 10_000
SIGNS: Final = 20_000
"""Draws of signs, where not all of them are tried."""
ALL_SIGNS: Final = 14
"""Queries that differ up to which all signs are tried: 16,384."""
LEVEL: Final = 0.05
_AT_ONCE: Final = 2**22
"""Numbers in memory at a time."""
_KEPT: Final = 2**21
"""Signs that are kept for the next pair: 16 MiB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """mean: over queries. low, high: its 95 % interval, by resampling the queries."""

    mean: float
    low: float
    high: float


def interval(values: F64, seed: int = 0) -> Interval:
    """values: (queries,). Of one query the interval is the value, since nothing is known of others."""
    mean = float(values.mean())
    if len(values) == 1 or not np.ptp(values):
        return Interval(mean, mean, mean)
    random, count = np.random.default_rng(seed), len(values)
    step = max(1, _AT_ONCE // count)
    means = np.concatenate(
        [
            values[random.integers(count, size=(min(step, RESAMPLES - start), count))].mean(axis=1)
            for start in range(0, RESAMPLES, step)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    # A resample's mean is rounded in another order.
    return Interval(mean, min(low, mean), max(high, mean))


def p_value(differences: F64, seed: int = 0) -> float:
    """How often a mean at least as far from 0 comes about where each difference has either sign, two-sided.

    differences: (queries,), of the same queries by both settings. Exact where at most ``ALL_SIGNS`` are not 0.
    """
    told = differences[differences != 0]
    if not len(told):
        return 1.0
    # As far as it is, but for rounding.
    least = abs(float(told.sum())) * (1 - 1e-12)
    if len(told) <= ALL_SIGNS:
        return float(np.mean(np.abs(_every(len(told)) @ told) >= least))
    reached = 0
    for signs in [_drawn(seed, len(told))] if SIGNS * len(told) <= _KEPT else _pieces(seed, len(told)):
        reached += int(np.count_nonzero(np.abs(signs @ told) >= least))
    # With the order that was seen, so that it is never 0 (Phipson and Smyth 2010).
    return (reached + 1) / (SIGNS + 1)


@lru_cache(maxsize=ALL_SIGNS)
def _every(count: int) -> F64:
    """All signs of so many differences, (2^count, count): the same for every pair of settings."""
    return (1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)).astype(np.float64)


@lru_cache(maxsize=1)
def _drawn(seed: int, count: int) -> F64:
    """Drawn ones, (SIGNS, count): the pairs of a report have the same queries, so they are drawn once."""
    return np.concatenate(list(_pieces(seed, count)))


def _pieces(seed: int, count: int) -> Iterator[F64]:
    """The same, some at a time."""
    random, step = np.random.default_rng(seed), max(1, _AT_ONCE // count)
    for start in range(0, SIGNS, step):
        yield (1 - 2 * random.integers(2, size=(min(step, SIGNS - start), count))).astype(np.float64)


def corrected(values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, so that the chance of any false one among them is at most the level.

    >>> corrected([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    found, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
        found[place] = largest
    return found


def overlap(one: Sequence[str], other: Sequence[str], p: float = 0.9) -> float:
    """Rank-biased overlap of two rankings, extrapolated (Webber, Moffat and Zobel, TOIS 2010, equation 32): 1 for equal
    ones, 0 for such without anything in common. p: how far down a reader goes on; of .9 the first ten have .86 of the
    weight.

    >>> overlap(["a", "b"], ["a", "b"]), overlap(["a"], ["b"]), round(overlap(["a", "b"], ["b", "a"]), 3)
    (1.0, 0.0, 0.9)
    """
    short, long = sorted((one, other), key=len)
    if not short:
        return 0.0 if long else 1.0
    s, n = len(short), len(long)
    common, seen = [0], Counter[str]()
    for depth in range(n):
        # Each in a list once: it is in both as soon as it was seen twice.
        now = [*short[depth : depth + 1], long[depth]]
        seen.update(now)
        common.append(common[-1] + sum(seen[one] == 2 for one in set(now)))
    total = sum(common[depth] / depth * p**depth for depth in range(1, n + 1))
    # Behind the end of the shorter one, as many of it are taken to be common as before.
    total += sum(common[s] * (depth - s) / (s * depth) * p**depth for depth in range(s + 1, n + 1))
    return min(1.0, (1 - p) / p * total + ((common[n] - common[s]) / n + common[s] / s) * p**n)
