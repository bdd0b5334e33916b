"""Documents: written, read, changed, deleted, counted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    GetPydanticSchema,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from app import filters
from app.documents import Strict
from app.errors import Invalid
from app.schema.faults import fault
from app.schema.ids import DocumentId
from app.schema.notices import Notice
from app.settings import limits_of
from app.types import Metadata

MAX_PAGE = 1_000


def _filter(value: object, info: ValidationInfo) -> filters.Filter:
    try:
        return filters.parse(value, "", limits_of(info.context))
    except Invalid as error:
        raise fault(error.problems[0].pointer, error.problems[0].message) from None


# Made without looking into the classes of a filter, which are nobody's schema.
_FILTER = GetPydanticSchema(lambda _source, _handler: core_schema.with_info_plain_validator_function(_filter))
FilterField = Annotated[filters.Filter | None, _FILTER, WithJsonSchema(filters.FILTER_SCHEMA)]
IncludeField = Annotated[list[Literal["text", "metadata", "vectors", "values"]], FailFast(), Field(max_length=16)]
VectorsFormat = Literal["numbers", "base64"]
MetadataAnswer = Annotated[Metadata, WithJsonSchema({"type": "object"})]


class DocumentIds(Strict):
    """Documents by id."""

    ids: Annotated[list[DocumentId], FailFast()]
    include: IncludeField = Field(["text", "metadata"])
    vectors_format: VectorsFormat = "numbers"


class Base64Answer(BaseModel):
    """Little-endian values, row after row; it may be sent back as it is."""

    base64: str
    dtype: Literal["float32"] = "float32"
    shape: list[int]


VectorAnswer = list[float] | Base64Answer
VectorsAnswer = list[list[float]] | Base64Answer


class SparseAnswer(BaseModel):
    """Indices, ascending, and the weight of each; it may be sent back as it is."""

    indices: list[int]
    values: list[float]


class TurnAnswer(BaseModel):
    """What somebody says."""

    role: str
    text: str


class DocumentAnswer(BaseModel):
    """A document, with what was to be included: its vectors as they were given, to the bit, where the collection keeps
    them, else as they are stored; `vector` in a dense collection, `vectors` in a multi-vector one."""

    id: str
    title: str
    text: str | None = None
    metadata: MetadataAnswer | None = None
    vector: VectorAnswer | None = None
    vectors: VectorsAnswer | None = None
    sparse_vector: SparseAnswer | None = None
    """Of those that callers bring; left out of a document that has none."""
    turns: list[TurnAnswer] | None = None
    """Of a conversation, beside its text."""
    summary: str | None = None
    """Of a conversation that has one, beside its text."""
    values: VectorsAnswer | None = None
    """Those that the document carries, where it carries some and they are included."""
    version: int | None = None
    """Where one document is asked for: grows with each write to the collection, and is the entity tag."""


class DocumentsAnswer(BaseModel):
    """The documents that are there, in the order asked for, and the ids that are not."""

    documents: list[DocumentAnswer]
    missing: list[str]


class Warned(BaseModel):
    """An answer to what may have a filter."""

    warnings: list[Notice] | None = None
    """Where the request asks for what is not there: a field that no document has, a value of another type than its
    values, an order of what has none, ids of no document. Left out where there is nothing to say."""


class ListingAnswer(Warned):
    """A page of documents by id (by its bytes). `next` is the cursor of the next page, null at the end."""

    documents: list[DocumentAnswer]
    next: str | None


class DeleteDocuments(Strict):
    """Documents to delete: by ids or by a filter. Absent or repeated ids are no error."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["ids"]}, {"required": ["filter"]}]})

    ids: list[DocumentId] | None = Field(default=None, fail_fast=True)
    filter: FilterField = None

    @model_validator(mode="after")
    def _one_of(self) -> DeleteDocuments:
        if (self.ids is None) == (self.filter is None):
            raise fault("", "expected exactly one of ids and filter")
        return self


class DeleteAnswer(Warned):
    deleted: int


class CountDocuments(Strict):
    """The documents to count; without a filter, all."""

    filter: FilterField = None


class CountAnswer(Warned):
    count: int
