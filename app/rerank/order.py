"""The order after reranking: the first documents by what the reranker gives, as many as the time allows; the others
behind them, as they were.

They are read in their order, so that what the time allows is the best of them. Of equal ones the former order decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.compute import deadline
from app.compute.deadline import Deadline
from app.query.ranking import Ranked


@dataclass(frozen=True, slots=True)
class Rerank:
    """The reranking that is asked for. model: that reranks, by name. top: documents that it is to read. budget_ms: the
    longest time that it reads; None: as long as it takes."""

    model: str
    top: int = 50
    budget_ms: float | None = None

    def limits(self, also: Deadline | None) -> list[Deadline]:
        """The deadlines of a reading that begins now. also: a time that ends it too."""
        own = None if self.budget_ms is None else Deadline(time.monotonic() + self.budget_ms / 1e3)
        return [limit for limit in (own, also) if limit is not None]


@dataclass(frozen=True, slots=True)
class Reranked:
    """ranked: reranked documents, with their new scores, before the others. former: by sequence number, the scores that
    the reranked ones had. of: how many were to be reranked."""

    ranked: list[Ranked]
    former: Mapping[int, float]
    of: int


def reorder(
    ranked: Sequence[Ranked],
    top: int,
    scores_of: Callable[[Sequence[Ranked]], list[float]],
    piece: int,
    limits: Sequence[Deadline],
) -> Reranked:
    """scores_of: reads documents, ``piece`` of them at a time. limits: none is read once one of them has passed.

    Raises TooSlow where the deadline that is set passes, and what ``scores_of`` raises."""
    first, scores = ranked[:top], list[float]()
    while len(scores) < len(first) and not any(limit.passed() for limit in limits):
        deadline.check(deadline.current())
        scores += scores_of(first[len(scores) : len(scores) + piece])
    read = [replace(item, score=new) for item, new in zip(first, scores, strict=False)]
    read.sort(key=lambda item: -item.score)
    former = {item.seq: item.score for item in first[: len(scores)]}
    return Reranked([*read, *ranked[len(scores) :]], former, len(first))
