"""Fusion: one order of several scores that have nothing in common.

Each score of the candidates of a query is standardised over them, z = (score - mean) / deviation, and a document is
worth a weighted sum. No fixed weight is right: on some collections words find what meaning does not, on others they
mislead. They are told apart by how far the best document by words stands out from the candidates, beside how far the
best by the pooled vector does. Over the queries that a collection was asked,

    rho = sum of max z(words) / sum of max z(pooled),   w = clip(3/2 (rho - 1.15), 0, .4)

which app.lexical.asked adds up. docs/decisions.md has the measurement. Sums are exact (``math.fsum``), so that a score
does not depend on the order in which parts hold the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.types import Side, Weights

LEAST: Final = 1.15
SLOPE: Final = 1.5
MOST: Final = 0.4
RANK_CONSTANT: Final = 60
"""Of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009)."""


@dataclass(frozen=True, slots=True)
class Standard:
    """A score over the candidates of one query. values: of each, standardised."""

    mean: float
    deviation: float
    values: list[float]

    @classmethod
    def of(cls, scores: Sequence[float], base: int) -> Standard:
        """base: how many of the candidates, from the first on, mean and deviation are of. Equal scores are all 0.

        >>> Standard.of([1, 3, 5], 2)
        Standard(mean=2.0, deviation=1.0, values=[-1.0, 1.0, 3.0])
        """
        mean = math.fsum(scores[:base]) / base
        deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores[:base]) / base)
        if not deviation:
            return cls(mean, 0.0, [0.0] * len(scores))
        return cls(mean, deviation, [(score - mean) / deviation for score in scores])

    @property
    def best(self) -> float:
        return max(self.values)


def weights_at(rho: float, sides: Sequence[Side]) -> dict[Side, float]:
    """The weight of each side, 1 in all; what words leave, or where there are none all, is shared equally.

    >>> weights_at(1.3, ["words", "tokens", "pooled"])
    {'words': 0.225, 'tokens': 0.3875, 'pooled': 0.3875}
    """
    others = [side for side in sides if side != "words"]
    words = min(max(SLOPE * (rho - LEAST), 0.0), MOST) if len(others) < len(sides) else 0.0
    words = round(words, 6)
    return {side: words if side == "words" else (1 - words) / len(others) for side in sides}


def weights_of(
    pinned: Weights | Literal["reciprocal_rank"] | None, sides: Sequence[Side]
) -> Weights | Literal["reciprocal_rank"] | None:
    """A collection's own weights for a query that has these sides alone: as they are to each other, with the same sum.
    None where there are none, or none of these weighs anything.

    >>> weights_of({"words": 0.25, "sparse": 0.5, "pooled": 0.25}, ["words", "pooled"])
    {'words': 0.5, 'pooled': 0.5}
    """
    if pinned is None or isinstance(pinned, str):
        return pinned
    there = math.fsum(pinned[side] for side in sides)
    if not there:
        return None
    scale = math.fsum(pinned.values()) / there
    return {side: pinned[side] * scale for side in sides}


def weighted(standards: Mapping[Side, Standard], weights: Mapping[Side, float]) -> list[float]:
    """The fused score of each candidate."""
    sides = [(weights[side], standard.values) for side, standard in standards.items()]
    return [math.fsum(weight * values[i] for weight, values in sides) for i in range(len(sides[0][1]))]


def ranks_of(scores: Sequence[float], found: Sequence[bool]) -> list[int | None]:
    """The rank of each candidate in the list of one side, from 1; equal scores have the best of their ranks. found:
    whether it is in the list.

    >>> ranks_of([0.5, 2.0, 0.5, 1.0], [True, True, True, False])
    [2, 1, 2, None]
    """
    ranks: list[int | None] = [None] * len(scores)
    rank, last = 0, math.inf
    ordered = sorted((i for i in range(len(scores)) if found[i]), key=lambda i: -scores[i])
    for place, i in enumerate(ordered, 1):
        if scores[i] != last:
            rank, last = place, scores[i]
        ranks[i] = rank
    return ranks


def reciprocal_ranks(ranks: Mapping[Side, Sequence[int | None]]) -> list[float]:
    """The sum of 1 / (60 + rank) over the sides that found a candidate. ranks: of each, by side."""
    return [
        math.fsum(1 / (RANK_CONSTANT + rank) for rank in of_one if rank is not None)
        for of_one in zip(*ranks.values(), strict=True)
    ]
