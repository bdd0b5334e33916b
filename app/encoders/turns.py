"""How a collection reads conversations: what a turn weighs, and what their summaries taught.

The latest turns say what is asked now, the ones before them what it is about. So a conversation is encoded as far back
as the encoder reads, and its token vectors count by the turn that they stand in: those of turns that weigh nothing are
no vectors of it, though the others were made beside them (docs/decisions.md has what else was measured).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from app.errors import Invalid
from app.scoring.similarities.measures import Matrix
from app.types import F32, Turn

MAX_LAST: Final = 1_000
MAX_ROLES: Final = 16
MAX_ROLE_WEIGHT: Final = 10.0


@dataclass(frozen=True, slots=True)
class SummaryMap:
    """A ridge map from a conversation's vector, the mean of its token vectors of length 1, to its summary's, both less
    their means. matrix: (dim, dim). mean: (1, dim), of conversations. documents: that it was learned from. ridge: of
    their mean variance. held_out: the mean reciprocal rank of a conversation's own summary by the maps of the other
    four fifths of the documents; unmapped: by its vector as it is."""

    matrix: Matrix
    mean: Matrix
    documents: int
    ridge: float
    held_out: float
    unmapped: float

    def of(self, vectors: F32) -> F32:
        """(n, dim) of conversations -> (n, dim), whose inner products with summaries' vectors order these; of length
        1, where they can be."""
        return mapped(vectors, self.mean.array, self.matrix.array)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], dim: int) -> SummaryMap:
        """Raises KeyError, TypeError, ValueError."""
        found = cls(**{**value, "matrix": Matrix(**value["matrix"]), "mean": Matrix(**value["mean"])})
        for matrix, shape in ((found.matrix, (dim, dim)), (found.mean, (1, dim))):
            if (matrix.rows, matrix.columns) != shape or not np.isfinite(matrix.array).all():
                raise ValueError(f"a map of summaries of another shape than {shape}, or not finite")
        return found


def mapped(vectors: F32, mean: F32, matrix: F32) -> F32:
    """As ``SummaryMap.of``. One row at a time, for BLAS adds up in an order that hangs on how many there are."""
    wide = np.array([row @ matrix.astype(np.float64) for row in vectors.astype(np.float64) - mean])
    return directed(wide.reshape(vectors.shape))


def conversed(vectors: F32) -> F32:
    """(1, dim): the mean of token vectors of length 1, (tokens, dim), of length 1: what a map is of.

    >>> conversed(np.array([[2, 0], [1, 0]], np.float32)).tolist()
    [[1.0, 0.0]]
    """
    return directed(directed(vectors.astype(np.float64)).astype(np.float64).mean(axis=0, keepdims=True))


def directed(wide: Any) -> F32:
    """Rows of length 1; of those without a direction, as they are."""
    sizes = np.linalg.norm(wide, axis=1, keepdims=True)
    found: F32 = (wide / np.where(sizes > 0, sizes, 1)).astype(np.float32)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnsSpec:
    """last: turns that count, the latest. decay: what a turn weighs beside the one after it. roles: what a turn weighs
    by who speaks, where that is not 1. summaries: whether the pooled vector of a conversation that has a summary is the
    summary's. map: to these, of conversations that search, once there are enough."""

    last: int = 2
    decay: float = 1.0
    roles: Mapping[str, float] = field(default_factory=dict)
    summaries: bool = True
    map: SummaryMap | None = None

    def __post_init__(self) -> None:
        if type(self.last) is not int or not 1 <= self.last <= MAX_LAST:
            raise Invalid.at("/turns/last", f"expected 1 to {MAX_LAST:,} turns, got {self.last!r}")
        if isinstance(self.decay, bool) or not isinstance(self.decay, int | float) or not 0 < self.decay <= 1:
            raise Invalid.at("/turns/decay", f"expected more than 0, at most 1, got {self.decay!r}")
        if len(self.roles) > MAX_ROLES:
            raise Invalid.at("/turns/roles", f"expected at most {MAX_ROLES} roles, got {len(self.roles)}")
        for role, weight in self.roles.items():
            fits = not isinstance(weight, bool) and isinstance(weight, int | float) and math.isfinite(weight)
            if not fits or not 0 <= weight <= MAX_ROLE_WEIGHT:
                raise Invalid.at(f"/turns/roles/{role}", f"expected 0 to {MAX_ROLE_WEIGHT:g}, got {weight!r}")

    def weights(self, turns: Sequence[Turn]) -> list[float]:
        """Of each turn; the latest alone, where none would count.

        >>> told = [Turn("user", "Hello."), Turn("system", "Where?"), Turn("user", "In Delhi.")]
        >>> TurnsSpec(last=2, decay=0.5).weights(told)
        [0.0, 0.5, 1.0]
        """
        ages = range(len(turns) - 1, -1, -1)
        found = [
            self.decay**age * self.roles.get(turn.role, 1.0) if age < self.last else 0.0
            for turn, age in zip(turns, ages, strict=True)
        ]
        return found if any(found) else [*found[:-1], 1.0]

    def counting(self, turns: Sequence[Turn]) -> list[Turn]:
        """Those of a weight above 0."""
        return [turn for turn, weight in zip(turns, self.weights(turns), strict=True) if weight]

    def heard(self, turns: Sequence[Turn]) -> str:
        """What is said in the turns that count, as one text, without the roles: what words are of.

        >>> TurnsSpec(last=1).heard([Turn("user", "Hello."), Turn("user", "In Delhi.")])
        'In Delhi.'
        """
        return "\n".join(turn.text for turn in self.counting(turns))

    @classmethod
    def from_json(cls, value: Mapping[str, Any], dim: int) -> TurnsSpec:
        """Raises Invalid, KeyError, TypeError, ValueError."""
        own = value["map"]
        return cls(**{**value, "map": None if own is None else SummaryMap.from_json(own, dim)})
