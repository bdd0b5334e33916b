"""Collections: made and described."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from app.api.schemas.searches import SideWeights
from app.api.schemas.similarities import SimilarityChoice
from app.catalogue.info import CollectionInfo
from app.collection.history import Generated
from app.collection.spec import MAX_FIELD_WEIGHT, MAX_FIELDS, MAX_SEGMENTS_PER_SECOND, LexicalSpec
from app.documents import Strict
from app.encoders.turns import MAX_LAST, MAX_ROLE_WEIGHT, MAX_ROLES, TurnsSpec
from app.errors import Invalid
from app.filters import Shape
from app.lexical.analysis import LANGUAGES
from app.metadata import declared
from app.metadata.declared import FieldType
from app.schema.faults import fault, name_of
from app.store.layout import NAME
from app.types import (
    MAX_DIM,
    MAX_FEW,
    MAX_TOKEN_POOLING,
    MAX_WINDOW,
    MIN_WINDOW,
    Few,
    Kind,
    Pooling,
    Precision,
    SimilarityName,
    Split,
)

R = TypeVar("R")

_WITH_DIM: dict[str, Any] = {
    "if": {"properties": {"model": {"type": "null"}}, "required": ["model"]},
    "then": {"required": ["dim"]},
}


class EncoderChoice(Strict):
    """The encoder of the collection's texts."""

    model_config = ConfigDict(json_schema_extra=_WITH_DIM)
    nullable: ClassVar[frozenset[str]] = frozenset({"model"})

    model: str | None = "builtin"
    """`builtin`, a model that the operator configured (`GET /v1/info` lists them), or null: callers bring vectors."""
    kind: Kind = "multi_vector"
    """`multi_vector`: one vector a token, scored by MaxSim. `dense`: one vector a document. `sequence`: vectors of the
    caller's in their order, such as segments of audio; the score is the largest, over all offsets, of the sum of the
    inner products of segments that lie on each other, and a hit tells the offset."""
    dim: int | None = Field(default=None, ge=1, le=MAX_DIM)
    """Dimensions of the callers' vectors, given where model is null; or, of a model that has several (`dims` of `GET
    /v1/info`), one of these: none given are the most."""

    @model_validator(mode="after")
    def _dim_where_needed(self) -> EncoderChoice:
        if self.model is None and self.dim is None:
            raise fault("/dim", "required where model is null")
        return self


class PassagesChoice(Strict):
    """How a text becomes passages, of which each is searched for itself; a hit is the document, by its best passage."""

    nullable: ClassVar[frozenset[str]] = frozenset({"size"})

    split: Split = "structure"
    """`structure`: into windows that fit the encoder, at headings, paragraphs and sentences, so that a text is searched
    to its end. `none`: one passage, as far as the encoder reads."""
    size: int | None = Field(default=None, ge=MIN_WINDOW, le=MAX_WINDOW)
    """Tokens of a window, with the title and headings that stand before it; null: as many as the encoder reads."""
    overlap: int = Field(default=64, ge=0, le=MAX_WINDOW // 2)
    """Tokens that two windows may share; at most half of a window's."""


class LexicalChoice(Strict):
    """How documents are found by words."""

    nullable: ClassVar[frozenset[str]] = frozenset({"language"})

    language: str | None = Field(default="english", json_schema_extra={"enum": [*LANGUAGES, None]})
    """Whose stems make words one term; null takes words as they are."""
    fields: list[str] = Field(default=["title", "text"], min_length=1, max_length=MAX_FIELDS)
    """The fields that are indexed: `id`, `title`, `text`, or the names of metadata fields, such as a part number."""
    field_weights: dict[str, Annotated[float, Field(ge=0, le=MAX_FIELD_WEIGHT)]] = Field(
        default={}, max_length=MAX_FIELDS, examples=[{"title": 3}]
    )
    """What a word of a field counts, where it is not 1 (BM25F): a field of 3 is as if it were written three times, in
    one of 0 nothing is found. A search may say otherwise."""

    @property
    def spec(self) -> LexicalSpec:
        return LexicalSpec(language=self.language, fields=tuple(self.fields), field_weights=dict(self.field_weights))


class SparseChoice(Strict):
    """Sparse vectors beside the others: learned ones (SPLADE and its kin), or callers' own."""

    nullable: ClassVar[frozenset[str]] = frozenset({"model"})

    model: str | None = None
    """A sparse encoder that the operator configured (`GET /v1/info` says which are), or null: callers bring sparse
    vectors."""


class TurnsChoice(Strict):
    """How conversations are read, those that are written and those that search."""

    last: int = Field(default=2, ge=1, le=MAX_LAST)
    """The latest turns that count. Those before are read beside them, as far as the encoder reads."""
    decay: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    """What a turn weighs beside the one after it."""
    roles: dict[str, Annotated[float, Field(ge=0, le=MAX_ROLE_WEIGHT, allow_inf_nan=False)]] = Field(
        default={}, max_length=MAX_ROLES, examples=[{"system": 0.5}]
    )
    """What a turn weighs by its role, where that is not 1."""
    summaries: bool = True
    """In a multi-vector collection: whether the pooled vector of a conversation that has a `summary` is that of the
    summary. A search by turns then asks with the vector that a ridge map, learned from these documents, makes of it."""

    @property
    def spec(self) -> TurnsSpec:
        return TurnsSpec(last=self.last, decay=self.decay, roles=dict(self.roles), summaries=self.summaries)


class ValuesChoice(Strict):
    """Vectors that documents carry and hits give back (`include`: `values`), of a width of their own; no search reads
    them. With a document's vector as the key they are a key-value memory."""

    dim: int = Field(ge=1, le=MAX_DIM)
    """Numbers of each."""


def _fusion(value: object, weights: Callable[[object], SideWeights]) -> str | SideWeights:
    if isinstance(value, str) and value != RANKS:
        raise fault("", f"expected {RANKS}, or an object of weights")
    return RANKS if isinstance(value, str) else weights(value)


RANKS: Final = "reciprocal_rank"
# No union of the two, whose names would stand in the pointers of faults.
_FUSION = GetPydanticSchema(
    lambda _, handler: core_schema.no_info_wrap_validator_function(_fusion, handler(SideWeights)),
    lambda schema, handler: {"anyOf": [{"const": RANKS}, handler(schema)]},
)
FusionField = Annotated[Literal["reciprocal_rank"] | SideWeights, _FUSION]


def _declared(value: object, read: Callable[[object], R]) -> R:
    try:
        return read(value)
    except Invalid as error:
        raise fault(error.problems[0].pointer, error.problems[0].message) from None


DeclaredField = Annotated[
    dict[str, FieldType],
    PlainValidator(partial(_declared, read=declared.read_declared)),
    WithJsonSchema(declared.SCHEMA),
]
_CHANGES: Final[dict[str, Any]] = {
    **declared.SCHEMA,
    "type": ["object", "null"],
    "additionalProperties": {"enum": [*get_args(FieldType), None]},
    "description": "Types of metadata fields that are declared from now on, beside those that are; null takes a "
    "field's declaration back, and in the place of the object all of them. Documents stay as they are: what does not "
    "fit is as if it were not there, and `unfit` counts it.",
    "examples": [{"published": "date", "year": None}],
}
ChangesField = Annotated[
    dict[str, FieldType | None] | None,
    PlainValidator(lambda value: None if value is None else _declared(value, declared.read_changes)),
    WithJsonSchema(_CHANGES),
]


class FewChoice(Strict):
    """So many vectors of every passage."""

    vectors: int = Field(ge=1, le=MAX_FEW)
    """How many are stored of each, if it has them."""


def _pooling(value: object, few: Callable[[object], FewChoice]) -> Pooling:
    if isinstance(value, dict):
        return Few(few(value).vectors)
    if type(value) is not int or not 1 <= value <= MAX_TOKEN_POOLING:
        raise fault("", f"expected 1 to {MAX_TOKEN_POOLING}, or an object with vectors; got {name_of(value)}")
    return value


# As of fusion: no union, whose names would stand in pointers.
_POOLING = GetPydanticSchema(
    lambda _, handler: core_schema.no_info_wrap_validator_function(_pooling, handler(FewChoice)),
    lambda schema, handler: {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_TOKEN_POOLING}, handler(schema)]
    },
)
PoolingField = Annotated[int | Few, _POOLING]


class CreateCollection(Strict):
    """A new collection. All of it is decided now and does not change, but `schema`."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    encoder: EncoderChoice = EncoderChoice()
    similarity: SimilarityName = "cosine"
    """`cosine` normalises every vector; a zero vector is refused then. `inner_product` takes them as they are.
    `euclidean`: minus the squared distance. `bilinear`: <q, M d>, of a matrix M. `causal`: the same with the inverse
    covariance of the vectors. `lorentz`, `poincare`: minus the geodesic distance of points of a hyperboloid (its first
    coordinate first), or of points inside the unit ball. A query of several vectors adds up the best of each."""
    similarity_options: SimilarityChoice | None = None
    """What `euclidean`, `bilinear` and `causal` take beside their names."""
    keep_vectors: bool = True
    """Whether callers' own vectors are also kept as they came."""
    precision: Precision | None = None
    """How stored token vectors are kept: numbers, or codes of so many bits a dimension. Scores are exact for what is
    stored. Dense vectors are float32. float16 is for cosine alone. By default float32 but for cosine, which has the
    most bits that take no more than 64 bytes a vector: 8 to 64 dimensions, 4 to 128, 2 to 256; then 1.25."""
    passages: PassagesChoice | None = None
    """How texts are split; only where an encoder makes the vectors. By default as large as the encoder reads, 64 tokens
    shared."""
    lexical: LexicalChoice | None = LexicalChoice()
    """How documents are found by words; null where they are not to be."""
    sparse: SparseChoice | None = None
    """Documents have sparse vectors too; `{}` is for callers' own, null for none."""
    turns: TurnsChoice | None = None
    """Documents and searches may be conversations, `turns`; `{}` takes the defaults, null is for none. The other
    documents are one passage each, too."""
    values: ValuesChoice | None = None
    """Documents may carry vectors that no search reads; null for none."""
    declared: DeclaredField = Field(default={}, alias="schema")
    nullable: ClassVar[frozenset[str]] = frozenset(
        {"lexical", "fusion", "sparse", "turns", "segments_per_second", "values"}
    )
    fusion: FusionField | None = None
    """How a hybrid search makes one order where it does not say itself: by the weights of scores that are given, which
    are a search's `weights`, or by ranks alone. By default by weights that suit the queries that were seen."""
    token_pooling: PoolingField = 1
    """Keep a fraction of the token vectors: a document of t is stored as t / token_pooling means of like ones (but 8 at
    least, if it has them). 1 keeps all. For long documents, such as pages as images; costs some quality. `{"vectors":
    m}` stores m of every passage, however long it is."""
    segments_per_second: float | None = Field(
        default=None, gt=0, le=MAX_SEGMENTS_PER_SECOND, allow_inf_nan=False, examples=[2]
    )
    """Of a sequence whose segments stand in time, such as 2 where one begins each half second: hits tell the offset in
    seconds, too."""


class ChangeCollection(Strict):
    """What of a collection may change."""

    nullable: ClassVar[frozenset[str]] = frozenset({"declared", "schema"})

    declared: ChangesField = Field(alias="schema")


class FieldAnswer(BaseModel):
    """A metadata field, by the name that filters, orders and facets call it."""

    name: str
    shapes: list[Shape]
    """What its values are: `list` is a list of strings; `numbers` and `booleans` are lists that hold some."""
    type: FieldType | None
    """As the collection's schema declares it."""


class FieldsAnswer(BaseModel):
    fields: list[FieldAnswer]
    """By name. Of documents that were deleted lately some may still be told."""


class HistoryAnswer(BaseModel):
    generations: list[Generated]
    """In their order, the present one last: of more than 200 the last, and those longest that changed the first stage.
    A collection that was restored begins anew."""


class CollectionsAnswer(BaseModel):
    collections: list[CollectionInfo]
