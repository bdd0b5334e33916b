"""Searches and their hits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationInfo, model_validator

from app.api.schemas.documents import (
    FilterField,
    IncludeField,
    MetadataAnswer,
    VectorAnswer,
    VectorsAnswer,
    VectorsFormat,
    Warned,
)
from app.documents import Strict, VectorField, VectorsField, fault
from app.search import Coverage
from app.settings import DEFAULT, limits_of
from app.types import MAX_EXCERPTS, MAX_K, Excerpt

MAX_CANDIDATES = DEFAULT.candidates
MAX_TIMEOUT_MS = 600_000
MAX_QUERY_CHARACTERS = 100_000
_WAYS = ("query", "vector", "vectors")
_ONE_OF: dict[str, Any] = {"oneOf": [{"required": [way]} for way in _WAYS]}


class Asked(Strict):
    """What is searched for, by exactly one of query, vector and vectors."""

    model_config = ConfigDict(json_schema_extra=_ONE_OF)

    query: str | None = Field(default=None, max_length=MAX_QUERY_CHARACTERS, json_schema_extra={"pattern": r"\S"})
    """Text, which the collection's encoder encodes."""
    vector: VectorField = None
    """In a dense collection: the query's vector."""
    vectors: VectorsField = None
    """In a multi-vector collection: the query's vectors."""

    @model_validator(mode="after")
    def _one_of(self, info: ValidationInfo) -> Asked:
        if sum(getattr(self, way) is not None for way in _WAYS) != 1:
            raise fault("", "expected exactly one of query, vector and vectors")
        if self.query is not None and not self.query.strip():
            raise fault("/query", "the query is empty")
        most = limits_of(info.context).query_vectors
        if self.vectors is not None and len(self.vectors) > most:
            raise fault("/vectors", f"a query has at most {most:,} vectors here; got {len(self.vectors):,}")
        return self


class SearchRequest(Asked):
    """One search, by exactly one of query, vector and vectors."""

    k: int = Field(default=10, ge=1, le=MAX_K)
    """How many documents to return."""
    mode: Literal["semantic"] = "semantic"
    filter: FilterField = None
    exact: bool = False
    """Score every document instead of candidates only: the truth, at its price."""
    candidates: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Passages that the first stage hands to exact scoring; by default the collection's own width."""
    include: IncludeField = Field(["text", "metadata"])
    """What each hit carries beside id, score and title."""
    passages: int = Field(default=0, ge=0, le=MAX_EXCERPTS)
    """How many of its best passages each hit carries, with their places in its text."""
    vectors_format: VectorsFormat = "numbers"
    """How: lists of numbers, or base64 as in a document that is written."""
    timeout_ms: int | None = Field(default=None, ge=1, le=MAX_TIMEOUT_MS)
    """The longest time of the request, which then ends in 504 (but see `partial`); the server has a limit of its own.
    Of several searches in one request the shortest time holds for all."""
    partial: bool = False
    """Answer what was found when the time is over, and say how much was looked at: the hits are the best, in their
    exact order, of the candidates that were scored by then, the likeliest first. 504 only where there were none."""

    @model_validator(mode="after")
    def _within_limits(self, info: ValidationInfo) -> SearchRequest:
        limits = limits_of(info.context)
        for field, most in (("k", limits.k), ("candidates", limits.candidates)):
            if (getattr(self, field) or 0) > most:
                raise fault(f"/{field}", f"expected at most {most:,}, the limit of this server")
        return self


class HitAnswer(BaseModel):
    """A document that was found, with what was to be included, as in a DocumentAnswer."""

    id: str
    score: float
    title: str | None = None
    text: str | None = None
    metadata: MetadataAnswer | None = None
    vector: VectorAnswer | None = None
    vectors: VectorsAnswer | None = None
    passages: list[Excerpt] | None = None


class SearchAnswer(Warned):
    """Hits, best first; times in milliseconds."""

    hits: list[HitAnswer]
    took_ms: float
    stages: dict[str, float] = Field(examples=[{"encode_ms": 8.1, "candidates_ms": 1.2, "rescore_ms": 3.4}])
    exact: bool
    """Whether every document was scored."""
    generation: int
    partial: bool | None = None
    """Where the search allows it: whether the time was over before all was scored that was to be."""
    coverage: Coverage | None = None
    """There too: how much was scored."""


class SearchBatch(Strict):
    """Several searches in one request; answered in order."""

    searches: Annotated[list[SearchRequest], FailFast()] = Field(min_length=1)


class BatchAnswer(BaseModel):
    """One answer a search, in order."""

    results: list[SearchAnswer]
