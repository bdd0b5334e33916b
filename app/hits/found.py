"""The findings of a search, before a byte of them is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.boosts.values import Boosts
from app.diversity.order import Choice
from app.fusion.hybrid import Fused
from app.query.asked import Coverage
from app.query.listed import WordScores
from app.query.ranking import Ranked
from app.query.scores import Scores
from app.query.sparse import SparseScores
from app.rerank.order import Reranked
from app.types import Mask


@dataclass(frozen=True)
class Found:
    """The order of the documents, which match in all, for each view, and what the order was made of."""

    ranked: list[Ranked]
    matching: Sequence[Mask]
    coverage: Coverage | None = None
    words: WordScores | None = None
    fused: Fused | None = None
    scores: Scores | None = None
    sparse: SparseScores | None = None
    approximate: frozenset[int] | None = None
    """Sequence numbers of what an approximate search finds, where that is known."""
    boosts: Boosts | None = None
    """The additions to scores; ``scores``, ``words`` and ``sparse`` are without them."""
    reranked: Reranked | None = None
    chosen: Mapping[int, Choice] = field(default_factory=dict)
    """Of the documents that were diversified, by sequence number: why they are where they are."""
    chances: Mapping[int, float] = field(default_factory=dict)
    """That a document is relevant, by sequence number, where that was asked for (app.relevance)."""
    more: bool = False
    """Whether more documents may match than is known."""
