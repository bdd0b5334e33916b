"""One search in several collections."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, FailFast, Field, ValidationInfo, model_validator

from app.api.schemas.documents import Warned
from app.api.schemas.results import FacetAnswer
from app.api.schemas.searches import HitAnswer, SearchRequest
from app.documents import Strict
from app.results.merging import Merge
from app.schema.faults import fault
from app.search import Coverage, Mode, Reached, Total
from app.types import MAX_K, Side

MAX_COLLECTIONS = 16
_OF_ONE: dict[str, str] = {
    "cursor": "a list of several collections is of no one moment: use offset",
    "like": "a document is one of a single collection: search by its text",
    "rerank": "reranking is of one collection",
    "group_by": "groups are of one collection",
    "diversity": "similarities are of the vectors of one collection",
}


class MultiSearchRequest(SearchRequest):
    """The same search in several collections, whose hits are one list."""

    collections: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        min_length=1, max_length=MAX_COLLECTIONS
    )
    """Names or aliases, no collection twice. One that is not there is 404."""
    merge: Merge | None = None
    """How lists become one: `score` compares the scores as they are, which is allowed, and the default, where all
    collections have one encoder, kind, number of dimensions and similarity, and the mode is `semantic` or `dense`;
    `reciprocal_rank`, else the default, gives each hit 1 / (60 + its rank in its own list). Hits that are sorted by
    fields, and those of no query, are merged by what they are sorted by."""

    @model_validator(mode="after")
    def _of_several(self, info: ValidationInfo) -> MultiSearchRequest:
        for name, why in _OF_ONE.items():
            if getattr(self, name) is not None:
                raise fault(f"/{name}", why)
        if self.offset + self.k > MAX_K:
            raise fault("/offset", f"offset and k reach {MAX_K:,} documents of several collections together, at most")
        if self.merge is not None and self.sort is not None:
            raise fault("/merge", "hits that are sorted by fields are merged by these")
        return self


class MultiHitAnswer(HitAnswer):
    """A hit, and where it is from. Its score is what the list of all is ordered by."""

    collection: str
    """As it was asked for: a name or an alias."""
    own_score: float
    """In its collection, which is what `explanation` explains."""
    own_rank: int
    """In the list of its collection, from 1."""


class SearchedAnswer(Warned):
    """The search of one collection; fields as of a search of it alone."""

    collection: str
    mode: Mode
    took_ms: float
    stages: dict[str, float]
    exact: bool
    generation: int
    total: Total | None = None
    weights: dict[Side, float] | None = None
    partial: bool | None = None
    coverage: Coverage | Reached | None = None


class MultiSearchAnswer(BaseModel):
    """Hits of all collections, best first, equal ones by the names of their collections, then by the bytes of their
    ids."""

    hits: list[MultiHitAnswer]
    took_ms: float
    merge: Merge | None = None
    """How they were merged; left out where by fields, or by ids."""
    exact: bool
    total: Total | None = None
    """The sum."""
    facets: dict[str, FacetAnswer] | None = None
    """Sums, exact for a field that has at most 1,000 values in each collection."""
    collections: list[SearchedAnswer]
    """In the order in which they were asked for."""


class MultiSearchBatch(Strict):
    """Several searches, each in several collections; answered in order."""

    searches: Annotated[list[MultiSearchRequest], FailFast()] = Field(min_length=1)


class MultiBatchAnswer(BaseModel):
    """One answer a search, in order."""

    results: list[MultiSearchAnswer]


def given(**fields: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
