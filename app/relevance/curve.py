"""A chance from 0 to 1 out of what is known of a hit: a logistic curve over a few features, and how well it holds.

A score means something else for every query, and nothing in a query tells how many of its hits will be relevant
(docs/decisions.md, where curves of other collections failed), so the curve is learned from the collection's own
judgements. Held out, by queries: whoever judged some queries wants to know of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.types import F64

FOLDS: Final = 5
RIDGE: Final = 1.0
"""Half the square of every weight, of features in standard deviations, beside the log-likelihood of the hits."""
_STEPS: Final = 100
_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """names: of the features. means, scales: of them, where it was learned. weights: of standardised features; with
    ``intercept`` they add up to the log-odds."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def chances(self, features: F64) -> F64:
        """(n,): of hits of any queries. features: (n, names)."""
        odds = self.intercept + (features - np.array(self.means)) / np.array(self.scales) @ np.array(self.weights)
        found: F64 = _logistic(odds)
        return found

    def along(self, features: F64) -> list[float]:
        """Of the hits of one list, from its first on: none is likelier than one before it.

        >>> rising = Curve(("score",), (0.0,), (1.0,), (1.0,), 0.0)
        >>> [round(one, 3) for one in rising.along(np.array([[0.0], [-1.0], [2.0]]))]
        [0.5, 0.269, 0.269]
        """
        found: list[float] = np.minimum.accumulate(self.chances(features)).tolist()
        return found


def fitted(names: Sequence[str], features: F64, relevant: F64) -> Curve:
    """The likeliest curve (Newton's method). features: (n, names). relevant: (n,), 0 or 1, of both some."""
    means, scales = features.mean(axis=0), features.std(axis=0)
    scales = np.where(scales > 0, scales, 1.0)
    inputs = np.column_stack([np.ones(len(features)), (features - means) / scales])
    # The intercept is held by nothing but what the hits say, and by so much that the sum has a solution.
    ridge = np.array([1e-9, *[RIDGE] * len(names)])
    weights = np.zeros(len(ridge))
    for _ in range(_STEPS):
        made = _logistic(inputs @ weights)
        slope = inputs.T @ (relevant - made) - ridge * weights
        bend = (inputs * (made * (1 - made))[:, None]).T @ inputs + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return Curve(
        tuple(names), tuple(means.tolist()), tuple(scales.tolist()), tuple(weights[1:].tolist()), float(weights[0])
    )


def held_out(names: Sequence[str], features: F64, relevant: F64, queries: Sequence[int]) -> F64:
    """(n,): the chance of each hit by a curve that was learned from other queries. queries: (n,), from 0 on, of each
    hit. Queries are dealt out by their number, so the same hits give the same chances."""
    fold = np.asarray(queries) % FOLDS
    found = np.zeros(len(relevant))
    for number in range(FOLDS):
        out = fold == number
        if out.any():
            # Where all others are of one kind there is nothing to learn but that.
            own = relevant[~out]
            both = 0 < own.sum() < len(own)
            found[out] = (
                fitted(names, features[~out], own).chances(features[out]) if both else own.mean() if len(own) else 0.5
            )
    return found


def calibration_error(chances: F64, relevant: F64) -> float:
    """How far chances are from the share that is relevant, on average over ten bins of equally many hits, the likeliest
    together (expected calibration error; Naeini, Cooper, Hauskrecht 2015, with equal mass).

    >>> calibration_error(np.array([0.5] * 4), np.array([0.0, 1.0, 0.0, 1.0]))
    0.0
    """
    order = np.argsort(chances, kind="stable")
    bins = [own for own in np.array_split(order, min(_BINS, max(1, len(order) // 2))) if len(own)]
    off = [len(own) * abs(float(chances[own].mean() - relevant[own].mean())) for own in bins]
    return float(sum(off) / len(order))


def squared_error(chances: F64, relevant: F64) -> float:
    """The mean of the squared differences (Brier 1950)."""
    return float(np.mean((chances - relevant) ** 2))


def area(chances: F64, relevant: F64) -> float:
    """Under the ROC curve: how often a relevant hit is likelier than another; half where equal. Of both some.

    >>> area(np.array([0.9, 0.2, 0.2]), np.array([1.0, 1.0, 0.0]))
    0.75
    """
    order = np.sort(chances[relevant == 0])
    more = chances[relevant > 0]
    below, upto = (np.searchsorted(order, more, side=side) for side in ("left", "right"))
    return float(np.mean(below + upto) / 2 / len(order))


def _logistic(odds: F64) -> F64:
    found: F64 = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
    return found
