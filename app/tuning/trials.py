"""The recall of a first stage over a collection, estimated from a part of it.

Recall of candidates is decided by ranks: an exact neighbour is found at width w when its rank under the first stage is
at most w. So for some queries the exact best are taken from the whole collection, with a uniform sample of the other
passages; the share of the sample that scores above a neighbour, times the collection's size, estimates its rank
without bias. A trial encodes neighbours and sample alone, so a collection of any size can try many first stages.

Useful for: choosing among encodings and codes before anything is built. Not useful for: what an inverted file misses,
which is measured on the collection once it is built (``app.tuning.tune``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.errors import Invalid
from app.types import F32, F64, I64, TokenVectors

WIDTHS: Final = (10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000)
"""Widths that are tried: about as many steps for each doubling."""


@dataclass(frozen=True)
class TrialSet:
    """Passages and queries to try first stages on, with the exact answers.

    passages: token vectors of the sample (its first ``sampled`` rows, drawn evenly from a collection of ``size``
    passages) and of the exact best that are not among them; pooled: (n, dim) float32, their dense vectors. queries,
    query_pooled: the same of the queries. truth: for each query the rows of its exact best, best first. owners: for
    each query the row of the passage that it was drawn from, which counts for nothing; -1 for none.
    """

    passages: TokenVectors
    pooled: F32
    sampled: int
    size: int
    queries: TokenVectors
    query_pooled: F32
    truth: tuple[I64, ...]
    owners: I64

    def __post_init__(self) -> None:
        if not 0 < self.sampled <= min(len(self.passages), self.size):
            raise Invalid(f"expected 1 to {min(len(self.passages), self.size)} sampled passages, got {self.sampled}")
        if not len(self.truth) == len(self.owners) == len(self.queries) > 0:
            raise Invalid("expected the exact best and an owner for each query, and at least one query")


def ranks(trial: TrialSet, query: int, scores: F32) -> F64:
    """The estimated rank of each exact neighbour of a query in the whole collection, from 1; (neighbours,).

    scores: (n,) of every row of ``trial.passages`` under the first stage. Where the sample is the whole collection,
    the ranks are exact. Equal scores count as above: a neighbour is found for sure only before them.

    >>> tokens = TokenVectors.join([np.ones((1, 2), np.float32)] * 4)
    >>> trial = TrialSet(tokens, np.ones((4, 2), np.float32), 4, 4, tokens.slice(0, 1), np.ones((1, 2), np.float32),
    ...                  (np.array([2, 0]),), np.array([3]))
    >>> ranks(trial, 0, np.array([5, 7, 6, 9], np.float32)).tolist()
    [2.0, 3.0]
    """
    best = trial.truth[query]
    wanted = scores[best]
    others = np.ones(trial.sampled, bool)
    others[best[best < trial.sampled]] = False
    owner = int(trial.owners[query])
    if 0 <= owner < trial.sampled:
        others[owner] = False
    known = len(best) + (owner >= 0)
    scale = max(0, trial.size - known) / max(1, int(others.sum()))
    ordered = np.sort(scores[: trial.sampled][others])
    above = len(ordered) - np.searchsorted(ordered, wanted, side="left")
    among = (wanted[None, :] > wanted[:, None]).sum(axis=1)
    estimated: F64 = 1.0 + among + above * scale
    return estimated


def recall_at(found: Sequence[F64], widths: Sequence[int]) -> list[float]:
    """The mean share, over queries, of the neighbours whose rank is within each width. A query without a neighbour, of
    the one document that there is, says nothing; where all are so, nothing is missed.

    >>> recall_at([np.array([1.0, 12.0]), np.array([3.0, 8.0]), np.array([])], [10, 20])
    [0.75, 1.0]
    """
    telling = [each for each in found if len(each)]
    return [float(np.mean([(each <= width).mean() for each in telling])) if telling else 1.0 for width in widths]


def in_turn(first: F64, second: F64) -> F64:
    """Ranks in a list that takes two lists in turn, at the latest: their overlap only makes it earlier.

    >>> in_turn(np.array([1.0, 9.0]), np.array([4.0, 2.0])).tolist()
    [1.0, 4.0]
    """
    ranked: F64 = np.minimum(2 * first - 1, 2 * second)
    return ranked


def narrowest(recalls: Sequence[float], widths: Sequence[int], target: float) -> int | None:
    """The smallest width that reaches the target; None where none does."""
    return next((width for width, recall in zip(widths, recalls, strict=True) if recall >= target), None)
