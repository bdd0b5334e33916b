"""Maximal marginal relevance (Carbonell and Goldstein, The Use of MMR, 1998): of some hits the first one is the most
relevant, and each next one that of the largest

    (1 - weight) * relevance - weight * largest similarity to those that were chosen,

equal ones in their former order. The similarity of two documents is a cosine; so that it can be set off against it, the
relevance of the hits is their score on a scale from 0, the least of them, to 1, the most. The order of all of them is
one list, whatever piece of it a page is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.types import F64

WEIGHT: Final = 0.3
AMONG: Final = 50
MOST: Final = 200
"""Hits that are ordered anew, at most: each is compared with all that are chosen before it."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """weight: of likeness; 0 leaves the order of scores. among: how many of the best are ordered anew."""

    weight: float = WEIGHT
    among: int = AMONG


@dataclass(frozen=True, slots=True)
class Choice:
    """place: of a hit in the former order, from 0. relevance: 0 to 1. similarity: the largest to one before it in the
    new order, and which that is, from 0; null of the first."""

    place: int
    relevance: float
    similarity: float | None = None
    nearest: int | None = None


def scaled(scores: Sequence[float]) -> F64:
    """(n,): from 0, the least, to 1, the most; 1 where all are equal.

    >>> scaled([5.0, 4.0, 3.0]).tolist()
    [1.0, 0.5, 0.0]
    """
    values = np.asarray(scores, np.float64)
    least, most = values.min(), values.max()
    found: F64 = (values - least) / (most - least) if most > least else np.ones(len(values))
    return found


def diverse(relevance: F64, similarities: Callable[[int], F64], weight: float, count: int) -> list[Choice]:
    """The first ``count`` of the new order. relevance: (n,). similarities: (n,) of each with one of them.

    >>> alike = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], np.float64)
    >>> [one.place for one in diverse(scaled([5.0, 4.9, 4.0]), lambda place: alike[place], 0.6, 3)]
    [0, 2, 1]
    """
    left = np.ones(len(relevance), bool)
    first = int(np.argmax(relevance))
    chosen, left[first] = [Choice(first, float(relevance[first]))], False
    largest, nearest = similarities(first), np.zeros(len(relevance), np.int64)
    while len(chosen) < min(count, len(relevance)):
        place = int(np.argmax(np.where(left, (1 - weight) * relevance - weight * largest, -np.inf)))
        left[place] = False
        chosen.append(Choice(place, float(relevance[place]), float(largest[place]), int(nearest[place])))
        own = similarities(place)
        nearest, largest = np.where(own > largest, len(chosen) - 1, nearest), np.maximum(own, largest)
    return chosen
