"""Measuring, tuning and looking."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from app.api.schemas.searches import MAX_CANDIDATES, Asked
from app.api.schemas.similarities import Scorer
from app.documents import Strict
from app.evaluation.judged import SET_NAME
from app.schema.faults import fault
from app.tuning.judged import PARTS, Part
from app.types import MAX_K
from app.vector_index.neighbours import LINKS, MOST_LINKS

MAX_QUERIES = 1_000
MAX_WORDS = 32
MAX_LENGTHS = 8
LEAST_LINKS = 4
_WAYS = ("query", "vector", "vectors", "scorer")


class Measured(Asked):
    """The subject of a search that is measured, by exactly one of query, vector, vectors, turns and scorer."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [way]} for way in (*_WAYS, "turns")]})

    scorer: Scorer | None = None
    """In a dense collection: a network, as of a search."""

    @model_validator(mode="after")
    def _one_of(self, info: ValidationInfo) -> Measured:
        self._hold_turns()
        if sum(getattr(self, way) is not None for way in _WAYS) != 1:
            raise fault("", "expected exactly one of query, vector, vectors, turns and scorer")
        self._hold(info)
        return self


class RecallRequest(Strict):
    """The queries to measure the approximate path with. Every query is also searched exactly, which takes its time."""

    k: int = Field(default=10, ge=1, le=MAX_K - 1)
    queries: (
        Annotated[int, Field(ge=1, le=MAX_QUERIES)]
        | Annotated[list[Measured], Field(min_length=1, max_length=MAX_QUERIES)]
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
    """The goal of the collection's first stage, by `target_recall`: it is chosen, built and measured while searches go
    on. Or a set of judged queries, `judgements`, by which fusion, width, the size of passages and
    the weights of turns are chosen."""

    target_recall: float | None = Field(default=None, gt=0, le=1)
    """Of the exact top k, the mean over queries."""
    judgements: str | None = Field(default=None, pattern=f"^{SET_NAME.pattern}$")
    """A set that the collection keeps, with ten queries or more, by text, that have a relevant document. What is chosen
    is tested on queries that the choice has not seen (five folds)."""
    measure: str = Field(default="nDCG@10", max_length=100)
    """Of `judgements`, what is to be better, as ir_measures names it."""
    parts: list[Part] = Field(default=["fusion", "width"], min_length=1, max_length=len(PARTS))
    """Of `judgements`, what is tuned. For `passages` and `turns` documents are cut, or their turns weighed, and encoded
    anew in collections of their own, of each choice one, which takes its time; the report tells what another choice
    gains, and nothing is changed."""
    documents: int = Field(default=2_000, ge=10, le=20_000)
    """Of `passages` and `turns`: documents that are encoded anew, judged ones first."""
    apply: bool = False
    """Of `judgements`: whether to set what gains more than chance explains, and nothing else."""
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

    @model_validator(mode="after")
    def _one_goal(self) -> TuneRequest:
        if self.target_recall is None and self.judgements is None:
            raise fault("/target_recall", "required, but missing; or `judgements`, to tune by judged queries")
        if self.target_recall is not None and self.judgements is not None:
            raise fault("/judgements", "expected target_recall or judgements, not both")
        of_other = _BY_RECALL if self.target_recall is None else _BY_JUDGEMENTS
        if others := sorted(self.model_fields_set & of_other):
            goal = "target_recall" if self.judgements is not None else "judgements"
            raise fault(f"/{others[0]}", f"it goes with {goal}")
        if len(set(self.parts)) < len(self.parts):
            raise fault("/parts", "expected each part once")
        return self


class NeighboursRequest(Strict):
    """A graph of neighbours, along which searches by a scorer go."""

    links: int = Field(default=LINKS, ge=0, le=MOST_LINKS)
    """Neighbours of each passage, 4 bytes each on disk; more find more, and take longer. 0 takes the graph away."""

    @model_validator(mode="after")
    def _enough(self) -> NeighboursRequest:
        if 0 < self.links < LEAST_LINKS:
            raise fault("/links", f"expected 0, or {LEAST_LINKS} to {MOST_LINKS}")
        return self


_BY_RECALL = frozenset({"k", "max_bytes_per_document", "max_memory_per_document", "queries"})
_BY_JUDGEMENTS = frozenset({"measure", "parts", "documents", "apply"})


class MapAnswer(BaseModel):
    """Documents of one moment as points: their pooled vectors, projected to the plane in which they vary most.

    Near in it is a hint of likeness alone: what other dimensions tell apart may lie at one place.
    """

    ids: list[str]
    """In the order in which they were written. Where there are more documents than points, they are spread over it."""
    titles: list[str]
    """Their first 80 characters."""
    x: str
    """Of each point, from -1 to 1: float32, little-endian, in base64."""
    y: str
    """The same, of the same scale as `x`."""
    variance: list[float]
    """The share of each axis of the variance of these vectors."""
    generation: int
    of: int
    """Documents of the collection."""


class QueriesAnswer(BaseModel):
    """Searched queries that the collection keeps. bytes: on disk."""

    kept: int
    bytes: int
