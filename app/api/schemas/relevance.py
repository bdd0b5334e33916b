"""What a collection learned of how relevant its hits are."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.documents import Strict
from app.evaluation.judged import SET_NAME
from app.query.asked import Mode
from app.relevance.kept import Learned

MOST_QUERIES = 500


class LearnRequest(Strict):
    """Which judgements to learn from, and of which searches."""

    judgements: str = Field(pattern=f"^{SET_NAME.pattern}$")
    """The name of a set that the collection keeps."""
    mode: Literal["hybrid", "semantic", "dense", "lexical"] | None = None
    """Of the searches that will ask; by default that of a search by text which does not say."""
    depth: int = Field(default=20, ge=2, le=100)
    """First hits of each query that are learned from. One that nobody judged counts as not relevant."""
    queries: int = Field(default=300, ge=1, le=MOST_QUERIES)
    """Of the set, at most: spread over it evenly, where it has more."""


class LearnedAnswer(BaseModel):
    """A curve that hits' `relevance` is read from, and how it did on queries that it was not learned from. queries,
    hits, relevant: that it was learned from. error: how far chances were from the share that was relevant, on average
    over ten bins of hits. area: how often a relevant hit was likelier than another. squared_error: the mean square of
    chance less truth; squared_error_of_share: of one number for all. weights: of each feature, in log-odds for a
    standard deviation."""

    model_config = ConfigDict(from_attributes=True)

    mode: Mode
    judgements: str
    queries: int
    hits: int
    relevant: int
    error: float
    area: float
    squared_error: float
    squared_error_of_share: float
    weights: dict[str, float]

    @classmethod
    def of(cls, learned: Learned) -> LearnedAnswer:
        own = {name: getattr(learned, name) for name in cls.model_fields if name != "weights"}
        return cls(**own, weights=dict(zip(learned.curve.names, learned.curve.weights, strict=True)))


class RelevanceAnswer(BaseModel):
    """One for each mode that was learned."""

    learned: list[LearnedAnswer]
