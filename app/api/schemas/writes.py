"""Documents as they are written: one, several, or one a line."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.api.edge.bodies import JSON, NDJSON
from app.api.schemas.documents import DocumentAnswer
from app.changes.patch import Patch
from app.documents import (
    MAX_PROBLEMS,
    DocumentBody,
    DocumentContent,
    SparseField,
    Strict,
    TurnsField,
    VectorField,
    VectorsField,
    hold_vectors,
    invalid,
    of_a_line,
    of_kind,
    read_metadata,
    turns_of,
)
from app.errors import Invalid, Problem
from app.schema.faults import fault
from app.schema.ids import DocumentId
from app.settings import Limits
from app.types import Kind, Metadata, spoken

_Form: TypeAlias = Literal["object", "one", "array", "lines"]
_PLACE: Final = re.compile(r"/documents(?:/([0-9]+)(.*))?", re.DOTALL)


class WriteDocuments(DocumentBody):
    """Documents to insert, or to replace where the id is there: an object with `documents`, an array of them, or one.
    As NDJSON one a line. All are written, or none."""

    media = (*JSON, *NDJSON)

    documents: list[DocumentBody] | None = Field(default=None, min_length=1, fail_fast=True)

    _form: _Form = PrivateAttr("object")
    _lines: list[int] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _something_to_find(self, info: ValidationInfo) -> WriteDocuments:
        if not self.model_fields_set:
            raise fault("/documents", "required, but missing; or send one document, or an array of them")
        if self.documents is None:
            DocumentContent._something_to_find(self, info)  # type: ignore[operator]
        elif others := sorted(self.model_fields_set - {"documents"}):
            raise fault(f"/{others[0]}", "beside documents there is no other field: each document has its own")
        return self

    @classmethod
    def of_body(cls, content: bytes | bytearray, media: str, limits: Limits) -> Self:
        if media in NDJSON:
            return cls._of_lines(content, limits)
        if content[:64].lstrip()[:1] == b"[":
            try:
                return cls._of(_ARRAY.validate_json(content, context=limits), "array")
            except ValidationError as error:
                raise invalid(error, cls) from None
        body = super().of_body(content, media, limits)
        if body.documents is None:
            body._form = "one"
        return body

    @classmethod
    def _of_lines(cls, content: bytes | bytearray, limits: Limits) -> Self:
        """Raises Invalid with the faults of all lines, up to 100."""
        documents, numbers, problems = list[DocumentBody](), list[int](), list[Problem]()
        start, number = len(BOM_UTF8) if content.startswith(BOM_UTF8) else 0, 0
        while start < len(content) and len(problems) < MAX_PROBLEMS:
            end = content.find(b"\n", start)
            end = len(content) if end < 0 else end
            line, start, number = bytes(content[start:end]), end + 1, number + 1
            if not line.strip():
                continue
            try:
                documents.append(DocumentBody.model_validate_json(line, context=limits))
                numbers.append(number)
            except ValidationError as error:
                found = of_a_line(invalid(error, DocumentBody), line)
                own = found.problems if isinstance(found, Invalid) and found.problems else [Problem("", found.message)]
                problems += [Problem(one.pointer, one.message, number) for one in own]
        if problems:
            first = f"{problems[0].place}: {problems[0].message}"
            raise Invalid(first if len(problems) == 1 else f"{len(problems):,} faults; the first: {first}", problems)
        if not documents:
            raise Invalid.at("", "expected at least one document, one JSON object a line (NDJSON)")
        return cls._of(documents, "lines", numbers)

    @classmethod
    def _of(cls, documents: list[DocumentBody], form: _Form, lines: list[int] | None = None) -> Self:
        made = cls.model_construct({"documents"}, documents=documents)
        made._form, made._lines = form, lines or []
        return made

    @property
    def all(self) -> list[DocumentBody]:
        return [self] if self.documents is None else self.documents

    def placed(self, error: Invalid) -> Invalid:
        """A fault that points into an object with ``documents``, as one of the body as it came."""
        if self._form == "object" or not error.problems:
            return error
        problems = [self._placed(one) for one in error.problems]
        was, now = error.problems[0].place, problems[0].place
        return Invalid(error.message.replace(f"{was}: ", f"{now}: ", 1), problems, code=error.code)

    def _placed(self, problem: Problem) -> Problem:
        found = _PLACE.fullmatch(problem.pointer)
        if found is None:
            return problem
        place, rest = found[1], found[2] or ""
        if place is None or self._form == "one":
            return Problem(rest, problem.message)
        if self._form == "array":
            return Problem(f"/{place}{rest}", problem.message)
        return Problem(rest, problem.message, self._lines[int(place)])

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        model = handler.resolve_ref_schema(schema)
        many: dict[str, Any] = model["properties"]["documents"]
        body = {
            "type": "object",
            "properties": {"documents": many},
            "required": ["documents"],
            "additionalProperties": False,
        }
        kept = {name: model[name] for name in ("title", "description")}
        model.clear()
        model.update({**kept, "anyOf": [body, many, many["items"]]})
        return schema


_ARRAY: Final = TypeAdapter(Annotated[list[DocumentBody], FailFast(), Field(min_length=1)])


_CHANGES = WithJsonSchema(
    {
        "type": "object",
        "additionalProperties": True,
        "description": "A JSON merge patch (RFC 7396): null removes a key.",
    }
)
ChangesField = Annotated[Metadata | None, PlainValidator(read_metadata), _CHANGES]


class PatchDocument(Strict):
    """A change of a document: what is not named stays."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "not": {"required": ["vector", "vectors"]}})
    nullable = frozenset({"sparse_vector", "values"})

    metadata: ChangesField = None
    title: str | None = None
    text: str | None = None
    vector: VectorField = None
    """The caller's own vector, in a dense collection without an encoder."""
    vectors: VectorsField = None
    """The caller's own vectors, in a multi-vector collection without an encoder: all of them."""
    sparse_vector: SparseField | None = None
    """The caller's own sparse vector; null takes it away."""
    turns: TurnsField | None = None
    """All turns of a conversation, in the place of those that stand, or of a text."""
    summary: str | None = None
    """Of the conversation; an empty one takes it away."""
    values: VectorsField | None = None
    """All that the document carries; null takes them away."""

    @model_validator(mode="after")
    def _something_to_change(self, info: ValidationInfo) -> PatchDocument:
        if self.turns is not None and self.text not in (None, spoken(turns_of(self.turns))):
            raise fault("/turns", "give turns or text, not both: the text is another than that of the turns")
        if not self.model_fields_set:
            raise fault("", f"expected a field to change, one or more of {', '.join(type(self).model_fields)}")
        hold_vectors(self.vector, self.vectors, self.values, info)
        return self

    def patch(self, kind: Kind, *, replaces: bool) -> Patch:
        """In a collection of this kind. replaces: whether the metadata take the place of those that stand."""
        return Patch(
            self.title,
            self.text,
            self.metadata,
            replaces,
            of_kind(self.vector, self.vectors, kind),
            self.sparse_vector or None,
            "sparse_vector" in self.model_fields_set and not self.sparse_vector,
            turns_of(self.turns),
            self.summary,
            self.values,
            "values" in self.model_fields_set and self.values is None,
        )


class PatchAnswer(DocumentAnswer):
    """The document as it is now."""

    truncated: bool | None = None
    """Where its text is longer than the model reads."""


class PutDocument(DocumentContent):
    """A document under the id of the path."""

    id: DocumentId | None = None
    """May be left out; otherwise it equals the id of the path."""
    version: int | None = Field(default=None, ge=0, le=2**62)
    """May be left out; given, as the document was read, it is a condition like If-Match."""


class WriteAnswer(BaseModel):
    """Durable and searchable."""

    written: int
    ids: list[str]
    """Of the documents, in the order of the request: those that were given, and those that were made."""
    duplicates: list[str]
    """Ids that came more than once in the request; the last one won."""
    truncated: list[str]
    """Ids whose text was longer than the model reads."""
    version: int | None = None
    """Of the one document of a PUT."""
