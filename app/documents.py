"""The document as callers write it: one strict schema for REST bodies, import lines and scripts.

JSON is read by pydantic in strict mode, so that a type is never guessed: ``"1.5"`` and ``true`` are no numbers, an
unknown field is a fault, NaN and Infinity are refused, and a lone surrogate is not JSON. Vectors and metadata are
read by hand, because a list of a million wrong numbers would otherwise make a million error objects: the first fault
ends the reading of its value.

A fault says where it is as a JSON pointer (RFC 6901), relative to the value being read; ``invalid`` joins it to the
place where pydantic found that value.
"""

from __future__ import annotations

import ast
import base64
import binascii
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.errors import Invalid, MalformedBody, Problem
from app.metadata import reading
from app.schema.faults import fault, name_of, plain, pointer
from app.schema.ids import DocumentId, made_id
from app.settings import DEFAULT, Limits, limits_of
from app.types import F32, MAX_DIM, Document, Kind, Metadata, SparseVector, Turn, spoken

ONE_A_LINE: Final = "expected one JSON object a line (NDJSON)"
ROLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
"""Of who speaks."""
MAX_TURNS: Final = 1_000
"""Of a conversation."""
MAX_SPARSE: Final = 65_536
"""Indices of a sparse vector."""
MAX_PROBLEMS: Final = 100
"""Faults listed in one answer."""
_ENUMERABLE: Final = 10_000
"""Above so many faults none is listed one by one: each would cost a kilobyte first."""


def invalid(error: ValidationError, body: type[Strict]) -> Invalid | MalformedBody:
    """Pydantic's findings in a body, as an error of Sheaf: 400 where it is not JSON, else 422 with at most 100 faults.
    Beside an unknown field of the body itself it says which there are."""
    if error.error_count() > _ENUMERABLE:
        return Invalid.at("", f"{error.error_count():,} faults; too many to list")
    found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return MalformedBody("expected JSON: " + found[0]["msg"].removeprefix("Invalid JSON: "))
    known = "; the fields are " + ", ".join(body.model_fields)
    problems = [
        Problem(
            pointer(fault["loc"]) + fault.get("ctx", {}).get("at", ""),
            plain(fault) + (known if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1 else ""),
        )
        for fault in found[:MAX_PROBLEMS]
    ]
    first = f"{problems[0].pointer or 'the body'}: {problems[0].message}"
    return Invalid(first if len(found) == 1 else f"{len(found):,} faults; the first: {first}", problems)


class Strict(BaseModel):
    """The base of every body: nothing unknown, nothing guessed, null only where ``nullable`` names the field."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    nullable: ClassVar[frozenset[str]] = frozenset()
    media: ClassVar[tuple[str, ...]] = ("application/json",)
    """Content types that a body of this kind comes in."""

    @classmethod
    def of_body(cls, content: bytes | bytearray, media: str, limits: Limits) -> Self:
        """From a body of this content type. Raises MalformedBody, Invalid with pointers into it."""
        try:
            return cls.model_validate_json(content, context=limits)
        except ValidationError as error:
            raise invalid(error, cls) from None

    @model_validator(mode="after")
    def _no_null(self) -> Strict:
        for name in self.model_fields_set - self.nullable:
            if getattr(self, name) is None:
                raise fault(f"/{name}", "null is no value here; leave the field out")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        model = handler.resolve_ref_schema(schema)
        descriptions = _field_docstrings(cls)
        for name, field in model["properties"].items():
            if name not in cls.nullable and field.get("default", ...) is None:
                del field["default"]
                field.pop("title", None)
                kinds = [kind for kind in field.pop("anyOf", []) if kind != {"type": "null"}]
                field.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})
            if name in descriptions:
                field["description"] = descriptions[name]
        return schema


def _field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string under each field. Pydantic can find them too, but does so for each model at every start of a server;
    here the source is read only where the API is described."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base in (Strict, BaseModel) or not issubclass(base, BaseModel):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for statement, below in itertools.pairwise(body.body):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[field] = inspect.cleandoc(text)
    return found


def read_metadata(value: object) -> Metadata:
    """Metadata from parsed JSON. Raises a fault at the first value that cannot be."""
    try:
        return reading.read(value)
    except reading.Unfit as error:
        raise fault(pointer(error.at), error.message) from None


def read_vector(value: object) -> F32:
    """One vector, from a list of numbers or from base64 with shape ``[dim]``: (1, dim) float32, finite."""
    if isinstance(value, dict):
        return _from_base64(value, 1).reshape(1, -1)
    return _from_rows([value], lambda row: "")


def read_vectors(value: object) -> F32:
    """Vectors of one passage, from rows of equal length or from base64 with shape ``[n, dim]``: (n, dim) float32.

    >>> read_vectors([[1, 2.5], [3, 4]]).tolist()
    [[1.0, 2.5], [3.0, 4.0]]
    """
    if isinstance(value, dict):
        return _from_base64(value, 2)
    if not isinstance(value, list):
        raise fault("", f"expected a list of vectors or an object with base64, got {name_of(value)}")
    if not value:
        raise fault("", "expected at least one vector")
    return _from_rows(value, lambda row: f"/{row}")


def read_sparse(value: object) -> SparseVector:
    """A sparse vector: indices, each once, in any order, and as many weights; those that are 0 are left out.

    >>> read_sparse({"indices": [7, 3], "values": [0.5, 1]}).indices.tolist()
    [3, 7]
    """
    if not isinstance(value, dict):
        raise fault("", f"expected an object with indices and values, got {name_of(value)}")
    for key in sorted({"indices", "values"} ^ value.keys()):
        raise fault(pointer([key]), "unknown field" if key in value else "required, but missing")
    indices, values = value["indices"], value["values"]
    if wrong := [name for name in ("indices", "values") if not isinstance(value[name], list)]:
        raise fault(f"/{wrong[0]}", f"expected a list of numbers, got {name_of(value[wrong[0]])}")
    if len(indices) != len(values):
        raise fault("/values", f"expected {len(indices):,} numbers, one for each index, got {len(values):,}")
    if len(indices) > MAX_SPARSE:
        raise fault("/indices", f"a sparse vector has at most {MAX_SPARSE:,} indices; got {len(indices):,}")
    for i, index in enumerate(indices):
        if type(index) is not int or not 0 <= index < 2**31:
            raise fault(f"/indices/{i}", "expected an integer from 0 to 2,147,483,647")
    for i, weight in enumerate(values):
        if type(weight) not in (int, float) or not 0 <= weight <= float(np.finfo(np.float32).max):
            raise fault(f"/values/{i}", "expected a number that is not below 0, within the range of float32")
    if len(set(indices)) != len(indices):
        raise fault("/indices", "expected each index once")
    return SparseVector.of(np.array(indices, np.int32), np.array(values, np.float32))


def _from_rows(rows: list[Any], place: Any) -> F32:
    for i, row in enumerate(rows):
        if not isinstance(row, list):
            raise fault(place(i), f"expected a list of numbers, got {name_of(row)}")
        if len(row) != len(rows[0]):
            raise fault(place(i), f"expected {len(rows[0]):,} numbers as in the first vector, got {len(row):,}")
        if not 1 <= len(row) <= MAX_DIM:
            raise fault(place(i), f"a vector has 1 to {MAX_DIM:,} dimensions; got {len(row):,}")
        if not set(map(type, row)) <= {int, float}:
            wrong = next(j for j, x in enumerate(row) if type(x) not in (int, float))
            raise fault(f"{place(i)}/{wrong}", f"expected a number, got {name_of(row[wrong])}")
    with np.errstate(over="ignore"):
        try:
            array = np.array(rows, np.float32)
        except OverflowError:
            raise fault("", "expected finite numbers within the range of float32") from None
    return _finite(array, lambda row, column: f"{place(row)}/{column}")


def _from_base64(value: dict[str, Any], axes: int) -> F32:
    for key in sorted({"base64", "dtype", "shape"} ^ value.keys()):
        raise fault(pointer([key]), "unknown field" if key in value else "required, but missing")
    text, dtype, shape = value["base64"], value["dtype"], value["shape"]
    if not isinstance(dtype, str) or dtype not in ("float32", "float16"):
        raise fault("/dtype", "expected 'float32' or 'float16'")
    if (
        not isinstance(shape, list)
        or len(shape) != axes
        or not all(type(n) is int and n > 0 for n in shape)
        or shape[-1] > MAX_DIM
    ):
        expected = "[dim]" if axes == 1 else "[n, dim]"
        raise fault("/shape", f"expected {expected}, positive integers, dim at most {MAX_DIM:,}")
    if not isinstance(text, str):
        raise fault("/base64", f"expected a string, got {name_of(text)}")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise fault("/base64", "expected base64 of the standard alphabet, padded") from None
    # Python's integers: a shape from outside may be too large for any other.
    wanted = shape[0] * (shape[1] if axes == 2 else 1) * (4 if dtype == "float32" else 2)
    if len(content) != wanted:
        raise fault("/base64", f"shape and dtype ask for {wanted:,} bytes, got {len(content):,}")
    array = np.frombuffer(content, "<f4" if dtype == "float32" else "<f2").astype(np.float32)
    return _finite(array.reshape(shape), lambda *place: "/base64")


def _finite(array: F32, place: Any) -> F32:
    if not np.isfinite(array).all():
        row = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise fault(place(*row), "expected a finite number within the range of float32")
    return array


_DIM: Final[dict[str, Any]] = {"type": "integer", "minimum": 1, "maximum": MAX_DIM}


def _base64_schema(*shape: dict[str, Any]) -> dict[str, Any]:
    """Of an array of so many axes."""
    axes = {"type": "array", "prefixItems": list(shape), "minItems": len(shape), "maxItems": len(shape)}
    return {
        "type": "object",
        "description": "Little-endian values, row after row.",
        "properties": {
            "base64": {
                "type": "string",
                "contentEncoding": "base64",
                "minLength": 4,
                "pattern": "^[A-Za-z0-9+/]*={0,2}$",
            },
            "dtype": {"enum": ["float32", "float16"]},
            "shape": axes,
        },
        "required": ["base64", "dtype", "shape"],
        "additionalProperties": False,
    }


_NUMBERS: Final[dict[str, Any]] = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 1,
    "maxItems": MAX_DIM,
}
_METADATA_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": f"Any JSON object, nested at most {reading.MAX_DEPTH} deep, with at most {reading.MAX_KEYS:,} keys, "
    f"{reading.MAX_ITEMS:,} items of lists and {reading.MAX_SIZE:,} characters. It comes back as given: integers "
    "as integers of any size, in the order of its keys.",
    "examples": [{"year": 2024, "author": {"name": "Ada", "born": None}, "marks": [1, 2.5]}],
}

MetadataField = Annotated[Metadata, PlainValidator(read_metadata), WithJsonSchema(_METADATA_SCHEMA)]
VectorField = Annotated[
    F32 | None, PlainValidator(read_vector), WithJsonSchema({"anyOf": [_NUMBERS, _base64_schema(_DIM)]})
]
VECTORS_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "array", "items": _NUMBERS, "minItems": 1},
        _base64_schema({"type": "integer", "minimum": 1}, _DIM),
    ]
}
VectorsField = Annotated[F32 | None, PlainValidator(read_vectors), WithJsonSchema(VECTORS_SCHEMA)]


SparseField = Annotated[
    SparseVector | None,
    PlainValidator(read_sparse),
    WithJsonSchema(
        {
            "type": "object",
            "description": "As many weights as indices, each of these once.",
            "properties": {
                "indices": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
                    "uniqueItems": True,
                    "maxItems": MAX_SPARSE,
                },
                "values": {
                    "type": "array",
                    "items": {"type": "number", "minimum": 0, "maximum": float(np.finfo(np.float32).max)},
                    "maxItems": MAX_SPARSE,
                },
            },
            "required": ["indices", "values"],
            "additionalProperties": False,
        }
    ),
]


class TurnField(Strict):
    """What somebody says."""

    role: str = Field(pattern=rf"^{ROLE.pattern}$", examples=["user"])
    text: str = Field(json_schema_extra={"pattern": r"\S"})

    @model_validator(mode="after")
    def _says(self) -> TurnField:
        if not self.text.strip():
            raise fault("/text", "the turn is empty; leave it out")
        return self


TurnsField = Annotated[list[TurnField], Field(min_length=1, max_length=MAX_TURNS)]


def turns_of(given: Sequence[TurnField] | None) -> tuple[Turn, ...]:
    """As the engine has them."""
    return tuple(Turn(one.role, one.text) for one in given or ())


_SOMETHING: Final[dict[str, Any]] = {
    "anyOf": [
        *({"required": [name], "properties": {name: {"pattern": r"\S"}}} for name in ("text", "title")),
        *({"required": [name]} for name in ("vector", "vectors", "turns")),
    ],
    "not": {"required": ["vector", "vectors"]},
    "dependentRequired": {"summary": ["turns"]},
}
"""The schema of ``DocumentContent`` beside the types of its fields."""


def hold_vectors(vector: F32 | None, vectors: F32 | None, values: F32 | None, info: ValidationInfo) -> None:
    """Refuses both of one document, and too many. values: what it carries."""
    if vector is not None and vectors is not None:
        raise fault("/vectors", "give vector or vectors, never both")
    most = limits_of(info.context).vectors
    for name, given in (("vectors", vectors), ("values", values)):
        if given is not None and len(given) > most:
            raise fault(f"/{name}", f"a document has at most {most:,} vectors here; got {len(given):,}")


def of_kind(vector: F32 | None, vectors: F32 | None, kind: Kind | None, at: str = "") -> F32 | None:
    """The one that a collection of this kind takes. Raises Invalid for the other; ``at`` points at what has them."""
    if kind in ("multi_vector", "sequence") and vector is not None:
        raise Invalid.at(f"{at}/vector", f"the collection is {kind}: it takes vectors, not vector")
    if kind == "dense" and vectors is not None:
        raise Invalid.at(f"{at}/vectors", "the collection is dense: it takes vector, not vectors")
    return vector if vectors is None else vectors


class DocumentContent(Strict):
    """A document without its id. ``text`` may be empty only where a title or vectors are given."""

    model_config = ConfigDict(json_schema_extra=_SOMETHING)

    text: str = ""
    title: str = ""
    metadata: MetadataField = {}
    vector: VectorField = None
    """The caller's own vector, in a dense collection without an encoder."""
    vectors: VectorsField = None
    """The caller's own vectors, in a multi-vector collection without an encoder; in a sequence its segments, in their
    order."""
    sparse_vector: SparseField = None
    """The caller's own sparse vector, in a collection of such without a sparse encoder; weights of 0 are left out."""
    turns: TurnsField | None = None
    """A conversation, the latest turn last, in a collection that has turns; its text is `role: text`, a line a turn,
    and may come beside it as it was answered."""
    summary: str = ""
    """Of the conversation, in your words. Searches by conversations learn to guess theirs from those of documents."""

    values: VectorsField = None
    """In a collection whose documents carry values: vectors of its `values.dim`, which no search reads and hits give
    back (`include`)."""

    @model_validator(mode="after")
    def _something_to_find(self, info: ValidationInfo) -> DocumentContent:
        hold_vectors(self.vector, self.vectors, self.values, info)
        if self.turns is not None:
            if self.text not in ("", spoken(turns_of(self.turns))):
                raise fault("/turns", "give turns or text, not both: the text is another than that of the turns")
            return self
        if self.summary:
            raise fault("/summary", "it is of a conversation: give its turns")
        if self.vector is None and self.vectors is None and not (self.text.strip() or self.title.strip()):
            raise fault("/text", "text is empty, and there is neither a title nor a vector")
        return self

    @property
    def numbers(self) -> int:
        """Those in its vectors."""
        given = (self.vector, self.vectors, self.sparse_vector, self.values)
        return sum(one.size for one in given if one is not None)

    def document(self, id: str | None, kind: Kind | None = None, at: str = "") -> Document:
        """The document under this id; None: under the one that is made of what it holds. ``kind`` is the collection's;
        ``at`` points at this body, for errors.

        Raises Invalid for ``vectors`` in a dense collection and ``vector`` in another.
        """
        vectors, turns = of_kind(self.vector, self.vectors, kind, at), turns_of(self.turns)
        text, sparse = spoken(turns) if turns else self.text, self.sparse_vector or None
        made = Document(
            id or "", text, self.title, self.metadata, vectors, (), sparse, turns, self.summary, self.values
        )
        return made if id is not None else replace(made, id=made_id(made))


class DocumentBody(DocumentContent):
    """A document as it is written."""

    id: DocumentId | None = None
    """Left out, it is made of what the document holds: the same document sent again is the same document."""


def parse_document(content: bytes | str, kind: Kind | None = None, limits: Limits = DEFAULT) -> Document:
    """One document from JSON, such as a line of an import. ``kind`` is the collection's, where it is known.

    Raises MalformedBody where it is not JSON, Invalid with pointers where it is no document.

    >>> parse_document(b'{"id": "zip", "text": "Reads archives.", "metadata": {"year": 2024}}').metadata
    {'year': 2024}
    """
    try:
        body = DocumentBody.model_validate_json(content, context=limits)
    except ValidationError as error:
        raise of_a_line(invalid(error, DocumentBody), content) from None
    return body.document(body.id, kind)


def of_a_line(fault: Invalid | MalformedBody, content: bytes | str) -> Invalid | MalformedBody:
    """The fault of one line of many, whose number the caller tells."""
    if isinstance(fault, MalformedBody):
        where = fault.message.replace(" at line 1 column ", " at column ")
        return MalformedBody(where.replace("expected JSON", "expected JSON, one object a line (NDJSON)", 1))
    if content.lstrip()[:1] in ("[", b"["):
        return Invalid(f"{ONE_A_LINE}, got an array", fault.problems)
    return fault


def to_line(document: Document, kind: Kind) -> bytes:
    """A document as a line of an import to a collection of that kind, with its end; ``parse_document`` reads it again.

    >>> to_line(Document("a", "one", metadata={"year": 2024}), "dense")
    b'{"id": "a", "text": "one", "title": "", "metadata": {"year": 2024}}\\n'
    """
    body: dict[str, Any] = {
        "id": document.id, "text": document.text, "title": document.title, "metadata": document.metadata
    }  # fmt: skip
    if document.turns:
        del body["text"]
        body |= {"turns": [turn._asdict() for turn in document.turns]}
        body |= {"summary": document.summary} if document.summary else {}
    if document.vectors is not None:
        name, array = ("vector", document.vectors[0]) if kind == "dense" else ("vectors", document.vectors)
        content = base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()
        body[name] = {"base64": content, "dtype": "float32", "shape": list(array.shape)}
    if document.values is not None:
        content = base64.b64encode(np.ascontiguousarray(document.values, "<f4").tobytes()).decode()
        body["values"] = {"base64": content, "dtype": "float32", "shape": list(document.values.shape)}
    if document.sparse is not None:
        sparse = document.sparse
        body["sparse_vector"] = {"indices": sparse.indices.tolist(), "values": sparse.values.tolist()}
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode() + b"\n"
