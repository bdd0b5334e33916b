"""Measuring and tuning."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from app.api.schemas.searches import MAX_CANDIDATES, Asked
from app.documents import Strict
from app.types import MAX_K

MAX_QUERIES = 1_000
MAX_WORDS = 32
MAX_LENGTHS = 8


class RecallRequest(Strict):
    """The queries to measure the approximate path with. Every query is also searched exactly, which takes its time."""

    k: int = Field(default=10, ge=1, le=MAX_K - 1)
    queries: (
        Annotated[int, Field(ge=1, le=MAX_QUERIES)]
        | Annotated[list[Asked], Field(min_length=1, max_length=MAX_QUERIES)]
    ) = 20
    """Queries, or how many to take: of those that were searched, where the server keeps them; else of the collection's
    own documents."""
    candidates: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """The width to measure; by default the collection's own."""
    float32: bool = False
    """Whether to measure against vectors before they were coded, too. It reads callers' vectors as they were kept, or
    encodes every text anew, which takes as long as it did at first."""
    lengths: list[Annotated[int, Field(ge=1, le=MAX_WORDS)]] | None = Field(default=None, max_length=MAX_LENGTHS)
    """Words of queries that are drawn from titles and texts, to measure by length, as many of each as there are
    `queries`. By default 1, 3 and 12 where queries are taken and texts encoded, else none, as `[]` says."""


class TuneRequest(Strict):
    """The goal of the collection's first stage. It is chosen, built and measured while searches go on."""

    target_recall: float = Field(gt=0, le=1)
    """Of the exact top k, the mean over queries."""
    k: int = Field(default=10, ge=1, le=MAX_K - 1)
    max_bytes_per_document: int | None = Field(default=None, ge=1)
    """Of the files that queries read, token vectors included; by default no bound."""
    max_memory_per_document: int | None = Field(default=None, ge=1)
    """Of what each search reads whole and memory should hold: the first stage's codes, or its vectors; no bound."""
    queries: (
        Annotated[int, Field(ge=1, le=MAX_QUERIES)]
        | Annotated[list[Asked], Field(min_length=1, max_length=MAX_QUERIES)]
    ) = 100
    """Queries like those to come, or how many to take, as for a recall."""


class QueriesAnswer(BaseModel):
    """Searched queries that the collection keeps. bytes: on disk."""

    kept: int
    bytes: int
