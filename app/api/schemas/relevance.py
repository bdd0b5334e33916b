"""What a collection learned of how relevant its hits are."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from app.documents import Strict
from app.evaluation.judged import SET_NAME
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


class RelevanceAnswer(BaseModel):
    """One for each mode that was learned."""

    learned: list[Learned]
