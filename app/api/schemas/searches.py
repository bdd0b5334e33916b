"""Searches and their hits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)
from pydantic_core import core_schema

from app.api.schemas.documents import (
    FilterField,
    IncludeField,
    MetadataAnswer,
    SparseAnswer,
    VectorAnswer,
    VectorsAnswer,
    VectorsFormat,
    Warned,
)
from app.api.schemas.results import BoostsField, FacetAnswer, FacetsField, GroupField, SortField
from app.api.schemas.similarities import Scorer
from app.collection.spec import MAX_FIELD_WEIGHT, MAX_FIELDS
from app.diversity.order import AMONG, WEIGHT
from app.diversity.order import MOST as MAX_AMONG
from app.documents import SparseField, Strict, TurnsField, VectorField, VectorsField, turns_of
from app.highlights.fragments import Highlight
from app.hits.explanation import Explanation
from app.query.examples import MAX_SHARE, SHARE
from app.query.examples import MOST_EXAMPLES as MAX_EXAMPLES
from app.schema.faults import fault
from app.schema.ids import DocumentId, read_id
from app.search import Coverage, Mode, Reached, Total
from app.settings import DEFAULT, limits_of
from app.types import MAX_EXCERPTS, MAX_K, REACH, Side, spoken

MAX_CANDIDATES = DEFAULT.candidates
MAX_TIMEOUT_MS = 600_000
MAX_QUERY_CHARACTERS = 100_000
MAX_MARK = 100
"""Characters."""
MAX_FRAGMENT = 2_000
_WAYS = ("query", "vector", "vectors")
_NARROWED = ("filter", "ids", "sort")
_SOME_OF: Any = [
    *({"required": [way]} for way in (*_WAYS, "turns", "sparse_vector", "like", "scorer", *_NARROWED)),
    {"properties": {"mode": {"const": "browse"}}, "required": ["mode"]},
]
_ONE_OF: dict[str, Any] = {"oneOf": [{"required": [way]} for way in (*_WAYS, "turns")]}


class Asked(Strict):
    """The subject of a search, by exactly one of query, vector, vectors and turns."""

    model_config = ConfigDict(json_schema_extra=_ONE_OF)

    query: str | None = Field(default=None, max_length=MAX_QUERY_CHARACTERS, json_schema_extra={"pattern": r"\S"})
    """Text, which the collection's encoder encodes."""
    vector: VectorField = None
    """In a dense collection: the query's vector."""
    vectors: VectorsField = None
    """In a multi-vector collection: the query's vectors; in a sequence its segments, in their order."""
    turns: TurnsField | None = None
    """A conversation in the place of `query`, the latest turn last, in a collection that has turns."""

    @model_validator(mode="after")
    def _one_of(self, info: ValidationInfo) -> Asked:
        self._hold_turns()
        if sum(getattr(self, way) is not None for way in _WAYS) != 1:
            raise fault("", "expected exactly one of query, vector, vectors and turns")
        self._hold(info)
        return self

    def _hold_turns(self) -> None:
        """A conversation is a query, of the text that it makes."""
        if self.turns is None:
            return
        if self.query is not None:
            raise fault("/turns", "give query or turns, not both")
        text = spoken(turns_of(self.turns))
        if len(text) > MAX_QUERY_CHARACTERS:
            raise fault("/turns", f"expected at most {MAX_QUERY_CHARACTERS:,} characters in all; got {len(text):,}")
        self.__dict__["query"] = text

    def _hold(self, info: ValidationInfo) -> None:
        if self.query is not None and not self.query.strip():
            raise fault("/query", "the query is empty")
        most = limits_of(info.context).query_vectors
        if self.vectors is not None and len(self.vectors) > most:
            raise fault("/vectors", f"a query has at most {most:,} vectors here; got {len(self.vectors):,}")


def _example(value: object, asked: Callable[[object], Asked]) -> str | Asked:
    return read_id(value) if isinstance(value, str | int | float) else asked(value)


# No union of the two, whose names would stand in the pointers of faults.
_EXAMPLE = GetPydanticSchema(
    lambda _, handler: core_schema.no_info_wrap_validator_function(_example, handler(Asked)),
    lambda schema, handler: {"anyOf": [TypeAdapter(DocumentId).json_schema(), handler(schema)]},
)
Example = Annotated[str | Asked, _EXAMPLE]
"""A document of the collection by its id, or what a query could be."""


class LikeField(Strict):
    """Examples of what is to be found, and of what is not."""

    positive: list[Example] = Field(min_length=1, max_length=MAX_EXAMPLES)
    """Examples that hits are to be like: ids of documents of the collection, each a string, and texts and vectors as of
    a query: `["id1", {"query": "read a zip archive"}]`. A document counts by its opening passage. An id that is not
    there is 422."""
    negative: list[Example] = Field(default=[], max_length=MAX_EXAMPLES)
    """Likewise what they are not to be like."""
    weight: float = Field(default=SHARE, ge=0, le=MAX_SHARE)
    """The share of the negative examples' mean that is taken off the mean of the positive ones (Rocchio 1971): of the
    pooled and sparse vectors, of how often words stand, and with token vectors of MaxSim."""
    include_examples: bool = False
    """Whether the documents that are named here may be among the hits."""


class SideWeights(Strict):
    """The weight of each score in a hybrid search, standardised over the candidates."""

    words: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    """BM25."""
    tokens: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    """MaxSim, in a multi-vector collection."""
    sparse: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    """The inner product of the sparse vectors."""
    pooled: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    """The inner product of the pooled vectors; in a dense collection of its vectors, in a sequence of its segments, as
    they are aligned."""

    @property
    def given(self) -> dict[Side, float]:
        return {"words": self.words, "sparse": self.sparse, "tokens": self.tokens, "pooled": self.pooled}


class Highlighting(Strict):
    """How hits show what of them answers the query."""

    marks: list[Annotated[str, Field(max_length=MAX_MARK)]] = Field(["<mark>", "</mark>"], min_length=2, max_length=2)
    """The text before and after what is marked, as it is: all else is escaped."""
    length: int = Field(default=240, ge=16, le=MAX_FRAGMENT)
    """Characters of a fragment, at most."""


class RerankField(Strict):
    """The model that reads the first documents once more."""

    model: str = Field(min_length=1, max_length=63)
    """A cross encoder, or a multi-vector encoder (by MaxSim), of those that `GET /v1/info` says rerank."""
    top: int = Field(default=50, ge=1, le=MAX_K)
    """How many of the documents that were found it reads, the best first."""
    budget_ms: int | None = Field(default=None, ge=1, le=MAX_TIMEOUT_MS)
    """The longest time that it reads; a text that is begun is read to its end. By default all are read."""


class DiversityField(Strict):
    """Maximal marginal relevance (Carbonell and Goldstein 1998)."""

    weight: float = Field(default=WEIGHT, ge=0, le=1, allow_inf_nan=False)
    """Of likeness beside relevance: each next hit is that of the largest (1 - weight) * relevance - weight * its
    largest similarity to a hit before it. Relevance is the score, from 0, the least of these hits, to 1, the most;
    similarity the cosine of the pooled vectors of the passages that were found."""
    among: int = Field(default=AMONG, ge=2, le=MAX_AMONG)
    """How many of the best hits are ordered so; the others come after them as they were."""


class Way(Strict):
    """All of a search but what it asks for and what of it is answered: what searches can be compared by."""

    mode: Mode | None = None
    """`hybrid`: by words, sparse vectors (each where the search has them) and meaning, fused, which is the default
    where there is a text or a sparse vector, and meaning too; `semantic`: by the collection's vectors, the default of
    vectors alone; `dense`: by pooled vectors; `lexical`: by words (BM25), the default where a text cannot be encoded;
    `sparse`: by sparse vectors, the default of a `sparse_vector` alone; `browse`: all documents that match, by the
    bytes of their ids, scored 0, the default without a query."""
    syntax: Literal["plain", "query"] = "plain"
    """How the words of the text are taken: as they are, which is never an error, or as `+required -excluded "exact
    phrases" field:word prefix* fuzzy~1`, which narrows a hybrid search too.
    The words that are asked for, without signs and without what is excluded, are encoded then."""
    field_weights: dict[str, Annotated[float, Field(ge=0, le=MAX_FIELD_WEIGHT)]] | None = Field(
        default=None, min_length=1, max_length=MAX_FIELDS, examples=[{"title": 3}]
    )
    """What a word of an indexed field counts in a search by words (BM25F: counts and lengths are weighted before they
    are saturated): a field of 3 is as if it were written three times, in one of 0 nothing is found. Fields that are not
    named count what the collection says, 1 by default."""
    fusion: Literal["weighted", "reciprocal_rank"] | None = None
    """How a hybrid search makes one order: by a weighted sum of scores, whose weights are those that are given, or else
    suit the queries that the collection has seen; or by ranks alone. By default as the collection's `fusion` says, and
    weighted where it says nothing."""
    weights: SideWeights | None = None
    """The weights of the scores, as an answer names them: the same weights give the same answer."""
    diversity: DiversityField | None = None
    """Order the first hits so that they are unlike each other, without ones that say the same. Not with `sort` or
    `rerank`, and not of several collections."""
    rerank: RerankField | None = None
    """Order the first documents by a model that reads each with the query: its title and text, or the best passage of a
    text that was split. Their `score` is what that model gives, and `former_score` what they were found by; those that
    the time did not allow keep their scores and their order, behind them."""
    filter: FilterField = None
    ids: list[DocumentId] | None = Field(default=None, fail_fast=True)
    """The only documents that are searched, beside the filter; those that are not there are no error."""
    sort: SortField = None
    boosts: BoostsField = None
    min_score: float | None = Field(default=None, allow_inf_nan=False)
    """Only documents whose score is at least this, in the unit of the mode (BM25, a sum of cosines or one of them, a
    fused score, each with its boosts). In a `lexical` or `sparse` search `total`, `facets` and groups are of all that
    reach it; in any other the list ends before the first document that does not, and they are of its best 1,000 where
    it is sorted, counted or grouped, else of the page and one more. What reranks reads only these. Of several
    collections each has its own list end there (`own_score`)."""
    exact: bool = False
    """Score every document instead of candidates only: the truth, at its price."""
    candidates: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Passages that the first stage hands to exact scoring; by default the collection's own width. A hybrid search
    takes those of 100 documents at least."""

    @model_validator(mode="after")
    def _hold_weights(self) -> Way:
        if self.weights is not None and not any(self.weights.given.values()):
            raise fault("/weights", "expected at least one weight above 0")
        if self.weights is not None and self.fusion == "reciprocal_rank":
            raise fault("/weights", "ranks have no weights")
        return self


class SearchRequest(Way, Asked):
    """One search: by a text, by vectors, by a sparse vector, in a hybrid search by several; by examples (`like`); or by
    `filter`, `ids` or `sort` alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": _SOME_OF,
            "not": {"anyOf": [{"required": ["vector", "vectors"]}, {"required": ["query", "turns"]}]},
        }
    )

    sparse_vector: SparseField = None
    """In a collection of sparse vectors that callers bring: the query's own."""
    like: LikeField | None = None
    """Find more like these, in the place of `query`, `vector` and `vectors`. By words it asks for the 25 most telling
    ones of the examples (the largest tf * idf), by meaning with their vectors, of 64 clusters of their token vectors at
    most, and by sparse vectors, where the collection has some, with the 64 largest weights of theirs."""
    scorer: Scorer | None = None
    """In a dense collection, in the place of all these, a network whose number of a document's vector is its score. It
    has at most 8,388,608 weights and biases, in 16 layers. Without `exact` it is asked along the collection's neighbour
    graph, where there is one (`POST .../neighbours`), else of every document."""
    k: int = Field(default=10, ge=1, le=MAX_K)
    """How many documents to return."""
    offset: int = Field(default=0, ge=0, le=REACH)
    """How many of the best are passed over: a page is that piece of the one list, which reaches 10,000 documents."""
    cursor: str | None = Field(default=None, max_length=1_000)
    """The `next` of the page before, with the same search: the page after it, of the list as it was. Once the
    collection has changed it is 409 (`cursor_expired`)."""
    explain: bool = False
    """Each hit with what made its score: the sides of a hybrid search and the ranks in each, BM25 by terms, MaxSim by
    tokens, and whether an approximate search finds it; of a hit that was reranked, of its `former_score`."""
    highlights: Highlighting | None = None
    """Each hit with a piece of its title and of its text around the words of the query, where it was found by words,
    and with the sentence of its best passage that is nearest to it, where by meaning: as places and as HTML. `{}` takes
    the defaults. Where token vectors do not tell sentences apart (a dense collection, pooled tokens) it is the best
    passage of a document that has several."""
    relevance: bool = False
    """Each hit with the chance that it is relevant, from 0 to 1, the same number for every query: as judgements of this
    collection taught (`PUT .../relevance`), else it is 409 (`relevance_not_learned`). Of a plain list by score: without
    `sort`, `boosts`, `rerank`, `diversity`, `like`, `weights` and `fusion`."""
    facets: FacetsField = None
    group_by: GroupField = None
    include: IncludeField = Field(["text", "metadata"])
    """The parts of each hit beside id, score and title."""
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
    def _one_of(self, info: ValidationInfo) -> SearchRequest:
        self._hold_turns()
        if self.turns is not None and self.syntax == "query":
            raise fault("/syntax", "a conversation is no text of the query language")
        ways = [way for way in _WAYS if getattr(self, way) is not None]
        if ways[-2:] == ["vector", "vectors"]:
            raise fault("", "expected a query, and instead of it or beside it vector or vectors")
        if self.sparse_vector is not None:
            ways.append("sparse_vector")
        if self.like is not None:
            if ways:
                raise fault("/like", "a search is by examples, or by query, vector, vectors or sparse_vector")
            ways = ["like"]
        if self.scorer is not None:
            if ways:
                raise fault("/scorer", f"a search is by a scorer, or by {ways[0]}")
            ways = ["scorer"]
        if not ways and not (self.mode == "browse" or any(getattr(self, way) is not None for way in _NARROWED)):
            raise fault("", f"expected a query or vectors, or to browse one of {', '.join(_NARROWED)}")
        if (not ways) != (self.mode == "browse") and self.mode is not None:
            raise fault("/mode", "browse is of a search without a query, and the only mode there")
        if len(ways) > 1 and self.mode not in (None, "hybrid"):
            raise fault("/mode", f"a {self.mode} search is by exactly one of query, vector, vectors and sparse_vector")
        self._hold_mode()
        if self.query is None and self.rerank is not None:
            raise fault("/rerank", "what reranks reads a query in words")
        if self.like is not None and self.syntax == "query":
            raise fault("/syntax", "a search by examples is by no text, which the language is of")
        if self.boosts is not None and not ways:
            raise fault("/boosts", "without a query no document has a score to add to; sort instead")
        if self.relevance:
            self._hold_relevance(bool(ways))
        if self.min_score is not None and not ways:
            raise fault("/min_score", "without a query no document has a score to reach")
        self._hold(info)
        return self

    def _hold_relevance(self, asked: bool) -> None:
        if self.scorer is not None:
            raise fault("/relevance", "it was learned of the scores of the collection, not of a scorer's")
        if not asked or self.mode == "sparse":
            raise fault("/relevance", "a hit by sparse vectors alone, or without a query, has no chance to be relevant")
        for name in ("sort", "boosts", "rerank", "diversity", "like", "weights", "fusion"):
            if getattr(self, name) is not None:
                raise fault("/relevance", f"it was learned of lists by score alone, without `{name}`")

    def _hold_mode(self) -> None:
        if self.scorer is not None and self.mode not in (None, "semantic"):
            raise fault("/mode", f"a scorer is of a semantic search, not of a {self.mode} one")
        vectors = self.vector is not None or self.vectors is not None
        if self.mode == "lexical" and self.query is None and self.like is None:
            raise fault("/query", "a lexical search needs a query in words")
        if self.mode == "hybrid" and self.query is None and self.like is None:
            if self.sparse_vector is None:
                raise fault("/query", "a hybrid search needs a query in words, or a sparse vector")
            if not vectors:
                raise fault("/vector", "a hybrid search by a sparse vector needs a query, vector or vectors beside it")
        if self.mode == "sparse" and vectors:
            raise fault("/mode", "a sparse search is by a query, a sparse_vector or examples")
        if self.sparse_vector is not None and self.mode in ("semantic", "dense", "lexical"):
            raise fault("/sparse_vector", f"a {self.mode} search is by no sparse vector")

    @model_validator(mode="after")
    def _within_limits(self, info: ValidationInfo) -> SearchRequest:
        limits = limits_of(info.context)
        for field, most in (("k", limits.k), ("candidates", limits.candidates)):
            if (getattr(self, field) or 0) > most:
                raise fault(f"/{field}", f"expected at most {most:,}, the limit of this server")
        if self.offset and self.cursor is not None:
            raise fault("/offset", "a cursor has a place of its own")
        if self.offset + self.k > REACH:
            raise fault("/offset", f"offset and k reach {REACH:,} documents together, at most")
        if self.group_by is not None and self.k * self.group_by.size > REACH:
            raise fault("/group_by/size", f"k groups of this size hold more than {REACH:,} documents")
        if len(self.ids or ()) > limits.filter_conditions:
            raise fault("/ids", f"a search is among at most {limits.filter_conditions:,} ids here")
        return self


class PassageAnswer(BaseModel):
    """A passage of a document that was found: text[start:stop], in characters, under its headings, the outermost first;
    score: its own."""

    text: str
    start: int
    stop: int
    headings: list[str]
    score: float
    pages: list[int] | None = None
    """Its first and its last page, from 1: of a text whose pages are parted by form feeds, as a PDF's are."""


class AlignmentAnswer(BaseModel):
    """The place of a query in a sequence, at which the sum of the products of segments that lie on each other is
    largest."""

    offset: int
    """The segment of the document, from 0, that the query's first one lies at; below 0 where the query begins before
    the document does."""
    segments: int
    """How many of the query's segments lie on one of the document's."""
    seconds: float | None = None
    """The offset, where the collection says how many segments a second has."""


class HitAnswer(BaseModel):
    """A document that was found, with what was to be included, as in a DocumentAnswer."""

    id: str
    score: float
    title: str | None = None
    text: str | None = None
    metadata: MetadataAnswer | None = None
    vector: VectorAnswer | None = None
    vectors: VectorsAnswer | None = None
    sparse_vector: SparseAnswer | None = None
    values: VectorsAnswer | None = None
    """Those that the document carries, where they were to be included."""
    passages: list[PassageAnswer] | None = None
    highlights: list[Highlight] | None = None
    explanation: Explanation | None = None
    former_score: float | None = None
    """Of a hit that was reranked: its score before."""
    relevance: float | None = None
    """The chance that it is relevant, where that was asked for."""
    alignment: AlignmentAnswer | None = None
    """Of a sequence that was found by its segments: where the query lies in it."""


class GroupAnswer(BaseModel):
    """Documents that have one value of the field that was grouped by, best first."""

    value: bool | int | float | str | None = None
    """Left out of a document that has none, which stands alone."""
    hits: list[HitAnswer]


class RerankAnswer(BaseModel):
    """How far the reranking came."""

    model: str
    reranked: int
    """Documents that were read: the first hits, as far as `k` shows them."""
    of: int
    """Those that were to be: `top`, or as many as were found."""


class SearchAnswer(Warned):
    """Hits, best first; times in milliseconds."""

    hits: list[HitAnswer]
    """None where they are grouped."""
    groups: list[GroupAnswer] | None = None
    """Where they are: in the order of their best hits."""
    total_groups: int | None = None
    """There too: how many groups the documents make that `total` counts; those whose best one is not among the best
    10,000 are on no page."""
    took_ms: float
    stages: dict[str, float] = Field(examples=[{"encode_ms": 8.1, "candidates_ms": 1.2, "rescore_ms": 3.4}])
    exact: bool
    """Whether every document was scored."""
    generation: int
    partial: bool | None = None
    """Where the search allows it: whether the time was over before all was scored that was to be. Also where a
    collection's segments lie on several machines, and for some none answered."""
    coverage: Coverage | Reached | None = None
    """There too: how much was scored, or how many of the segments were answered for."""
    mode: Mode
    """The mode that was taken, where the search did not say."""
    total: Total | None = None
    """How many documents match: all that pass, in a `lexical` search those with a word; where a search by meaning is
    sorted, the best 1,000; with a `min_score` those that reach it, by meaning as far as was looked (else `exact` is
    false: there are that many at least). Left out where the time was over before they were counted."""
    facets: dict[str, FacetAnswer] | None = None
    """By field, where they were asked for, of the documents that `total` counts."""
    next: str | None = None
    """The cursor of the next page; left out where there is none, and where the search may be partial."""
    weights: dict[Side, float] | None = None
    """Of a hybrid search: what the scores counted for."""
    rerank: RerankAnswer | None = None
    """Where it was asked for."""


class SearchBatch(Strict):
    """Several searches in one request; answered in order."""

    searches: Annotated[list[SearchRequest], FailFast()] = Field(min_length=1)


class BatchAnswer(BaseModel):
    """One answer a search, in order."""

    results: list[SearchAnswer]
