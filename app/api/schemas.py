"""What comes in and what goes out: each body is one of these models, in the code and in OpenAPI.

Bodies that come in are ``Strict``: nothing unknown, nothing guessed. Answers are built from these models too, so the
schema cannot promise another shape than is sent; fields that are None are left out.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, FailFast, Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from app import filters
from app.documents import (
    DocumentBody,
    DocumentContent,
    DocumentId,
    Strict,
    VectorField,
    VectorsField,
    fault,
    read_key,
    read_metadata,
)
from app.errors import Invalid
from app.settings import DEFAULT, limits_of
from app.store.layout import NAME
from app.types import MAX_DIM, MAX_K, MAX_TOKEN_POOLING, Kind, Metadata, MetadataValue, Precision, Similarity

MAX_CANDIDATES = DEFAULT.candidates
MAX_TIMEOUT_MS = 600_000
MAX_QUERY_CHARACTERS = 100_000
MAX_PAGE = 1_000


def _filter(value: object, info: ValidationInfo) -> filters.Filter:
    try:
        return filters.parse(value, "", limits_of(info.context))
    except Invalid as error:
        raise fault(error.problems[0].pointer, error.problems[0].message) from None


def _changes(value: object) -> dict[str, MetadataValue | None]:
    if not isinstance(value, dict):
        raise fault("", "expected an object")
    removed = [key for key, item in value.items() if item is None]
    for key in removed:
        read_key(key)
    return {**read_metadata({k: v for k, v in value.items() if v is not None}), **dict.fromkeys(removed)}


FilterField = Annotated[filters.Filter | None, PlainValidator(_filter), WithJsonSchema(filters.FILTER_SCHEMA)]
ChangesField = Annotated[
    dict[str, MetadataValue | None],
    PlainValidator(_changes),
    WithJsonSchema({"type": "object", "description": "A JSON merge patch (RFC 7396): null removes a key."}),
]

# Requests


class EncoderChoice(Strict):
    """What encodes the collection's texts."""

    nullable: ClassVar[frozenset[str]] = frozenset({"model"})

    model: str | None = "builtin"
    """`builtin`, a model that the operator configured (`GET /v1/info` lists them), or null: callers bring vectors."""
    kind: Kind = "multi_vector"
    """`multi_vector`: one vector a token, scored by MaxSim. `dense`: one vector a document."""
    dim: int | None = Field(default=None, ge=1, le=MAX_DIM)
    """Dimensions of the callers' vectors; given where model is null, and only there."""

    @model_validator(mode="after")
    def _dim_where_needed(self) -> EncoderChoice:
        if self.model is None and self.dim is None:
            raise fault("/dim", "required where model is null")
        if self.model is not None and self.dim is not None:
            raise fault("/dim", "the model decides it; leave it out")
        return self


class CreateCollection(Strict):
    """A new collection. All of it is decided now and does not change."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    encoder: EncoderChoice = EncoderChoice()
    similarity: Similarity = "cosine"
    """`cosine` normalises every vector; a zero vector is refused then."""
    keep_vectors: bool = True
    """Whether callers' own vectors are also kept as they came."""
    precision: Precision | None = None
    """How stored token vectors are kept: numbers, or codes of so many bits a dimension. Scores are exact for what is
    stored. Dense vectors are float32. float16 is for cosine alone. By default float32 for inner_product; for cosine the
    most bits that take no more than 64 bytes a vector: 8 to 64 dimensions, 4 to 128, 2 to 256; then 1.25."""
    token_pooling: int = Field(default=1, ge=1, le=MAX_TOKEN_POOLING)
    """Keep a fraction of the token vectors: a document of t is stored as t / token_pooling means of like ones (but 8 at
    least, if it has them). 1 keeps all. For long documents, such as pages as images; costs some quality."""


class WriteDocuments(Strict):
    """Documents to insert, or to replace where the id is there. All are written, or none."""

    documents: Annotated[list[DocumentBody], FailFast()] = Field(min_length=1)


class PutDocument(DocumentContent):
    """A document under the id of the path."""

    id: DocumentId | None = None
    """May be left out; otherwise it equals the id of the path."""
    version: int | None = Field(default=None, ge=0, le=2**62)
    """May be left out; given, as the document was read, it is a condition like If-Match."""


class PatchDocument(Strict):
    """A change of a document's metadata; its text and vectors stay."""

    metadata: ChangesField


class DocumentIds(Strict):
    """Documents by id."""

    ids: Annotated[list[DocumentId], FailFast()]


class DeleteDocuments(Strict):
    """Documents to delete: by ids or by a filter. Absent or repeated ids are no error."""

    ids: list[DocumentId] | None = Field(default=None, fail_fast=True)
    filter: FilterField = None

    @model_validator(mode="after")
    def _one_of(self) -> DeleteDocuments:
        if (self.ids is None) == (self.filter is None):
            raise fault("", "expected exactly one of ids and filter")
        return self


class CountDocuments(Strict):
    """What to count; without a filter, everything."""

    filter: FilterField = None


class Asked(Strict):
    """What is searched for, by exactly one of query, vector and vectors."""

    query: str | None = Field(default=None, max_length=MAX_QUERY_CHARACTERS)
    """Text, which the collection's encoder encodes."""
    vector: VectorField = None
    """In a dense collection: the query's vector."""
    vectors: VectorsField = None
    """In a multi-vector collection: the query's vectors."""

    @model_validator(mode="after")
    def _one_of(self, info: ValidationInfo) -> Asked:
        if sum(given is not None for given in (self.query, self.vector, self.vectors)) != 1:
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
    include: Annotated[list[Literal["text", "metadata", "vectors"]], FailFast()] = Field(
        ["text", "metadata"], max_length=16
    )
    """What each hit carries beside id and score."""
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


class SearchBatch(Strict):
    """Several searches in one request; answered in order."""

    searches: Annotated[list[SearchRequest], FailFast()] = Field(min_length=1)


# Answers


class ProblemAnswer(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(examples=["urn:sheaf:problem:collection_not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["collection_not_found"])
    """The stable name of the error."""
    request_id: str
    errors: list[Fault] | None = None


class Fault(BaseModel):
    """One fault: where (JSON pointer into the body, or the name of a parameter) and what."""

    pointer: str = Field(examples=["/documents/0/metadata/year"])
    message: str


class EncoderAnswer(BaseModel):
    model: str | None
    kind: Kind
    dim: int


class CollectionAnswer(BaseModel):
    """A collection. `documents` counts what a search finds now."""

    name: str
    encoder: EncoderAnswer
    similarity: Similarity
    precision: Precision
    token_pooling: int
    keep_vectors: bool
    documents: int
    passages: int
    bytes: int
    """On disk."""
    generation: int
    tail: int
    """Documents that are searched but not yet in the generation."""
    first_stage: dict[str, Any]
    """What finds candidates in the generation: its sources, encoding and width; where it was learned, on what
    (`fitted`), what was tried and measured (`report`), and how many documents came since (`documents_since`)."""
    state: Literal["ready", "quarantined"]
    read_only: str | None = None
    """Why it takes no writes or text queries now."""
    error: str | None = None
    """Why it is quarantined."""


class CollectionsAnswer(BaseModel):
    collections: list[CollectionAnswer]


class WriteAnswer(BaseModel):
    """Durable and searchable."""

    written: int
    duplicates: list[str]
    """Ids that came more than once in the request; the last one won."""
    truncated: list[str]
    """Ids whose text was longer than the model reads."""
    version: int | None = None
    """Of the one document of a PUT."""


class DeleteAnswer(BaseModel):
    deleted: int


class CountAnswer(BaseModel):
    count: int


class DocumentAnswer(BaseModel):
    id: str
    title: str
    text: str
    metadata: Annotated[Metadata, WithJsonSchema({"type": "object"})]
    version: int | None = None
    """Where one document is asked for: grows with each write to the collection, and is the entity tag."""


class DocumentsAnswer(BaseModel):
    """The documents that are there, in the order asked for, and the ids that are not."""

    documents: list[DocumentAnswer]
    missing: list[str]


class ListingAnswer(BaseModel):
    """A page of documents by id (by its bytes). `next` is the cursor of the next page, null at the end."""

    documents: list[DocumentAnswer]
    next: str | None


class HitAnswer(BaseModel):
    id: str
    score: float
    title: str | None = None
    text: str | None = None
    metadata: Annotated[Metadata | None, WithJsonSchema({"type": "object"})] = None
    vector: list[float] | None = None
    vectors: list[list[float]] | None = None


class SearchAnswer(BaseModel):
    """Hits, best first; times in milliseconds."""

    hits: list[HitAnswer]
    took_ms: float
    stages: dict[str, float] = Field(examples=[{"encode_ms": 8.1, "candidates_ms": 1.2, "rescore_ms": 3.4}])
    exact: bool
    """Whether every document was scored."""
    generation: int
    partial: bool | None = None
    """Where the search allows it: whether the time was over before all was scored that was to be."""
    coverage: CoverageAnswer | None = None
    """There too: how much was scored."""


class CoverageAnswer(BaseModel):
    """Passages that were scored, of those that were to be; null where the time was over before they were known."""

    scored: int
    of: int | None


class BatchAnswer(BaseModel):
    """One answer a search, in order."""

    results: list[SearchAnswer]


class LineFault(BaseModel):
    """A line of an import that was not applied."""

    line: int
    code: str
    message: str


class TaskAnswer(BaseModel):
    """Work that goes on after its request was answered; it survives a restart."""

    id: str
    collection: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    phase: str
    done: int
    total: int | None
    rate: float
    """Of `done`, a second."""
    eta_s: float | None
    errors: list[LineFault]
    errors_total: int
    created: str
    finished: str | None
    result: dict[str, Any] | None
    """What came out, where there is more to tell: of a tuning, what was tried, measured and chosen."""


class TasksAnswer(BaseModel):
    tasks: list[TaskAnswer]
