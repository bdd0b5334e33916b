"""Judged queries, and what is measured by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from app.api.edge.bodies import JSON, NDJSON
from app.api.schemas.documents import TurnAnswer, VectorAnswer, VectorsAnswer
from app.api.schemas.searches import MAX_QUERY_CHARACTERS, Asked, Way
from app.documents import Strict
from app.evaluation.classes import MAX_DRAWN
from app.evaluation.foreign import TEXTS, ZIP
from app.evaluation.judged import MAX_GRADE, MAX_QUERIES, SET_NAME
from app.evaluation.measures import DEFAULT
from app.schema.faults import fault
from app.schema.ids import DocumentId
from app.settings import Limits

MAX_SETTINGS = 16
MAX_MEASURES = 16
MAX_AT_ONCE_POOLED = 500
"""Queries of a pool."""
MAX_FIELD_CHARACTERS = 1_000
MAX_AT_ONCE = 10_000
"""Grades of a request."""
GradeField = Annotated[int, Field(ge=0, le=MAX_GRADE)]
"""0 is not relevant; the more, the better."""


class JudgedQuery(Asked):
    """A query, by exactly one of query, vector, vectors and turns, and what documents are worth for it."""

    id: DocumentId
    """Its own, once in a set."""
    grades: dict[DocumentId, GradeField]
    """By id of document, whether that is there or not. What is not listed is not judged, and counts as not relevant."""


def _require_once(queries: Sequence[JudgedQuery | PoolQuery]) -> None:
    seen: set[str] = set()
    for place, one in enumerate(queries):
        if one.id in seen:
            raise fault(f"/queries/{place}/id", f"the query {one.id!r} is listed twice")
        seen.add(one.id)


class JudgementsField(Strict):
    """Judged queries; what came in another form than JSON is `sent`, for ``app.api.schemas.judged`` to read."""

    media = (*JSON, *NDJSON, *TEXTS, ZIP)

    queries: list[JudgedQuery] = Field(min_length=1, max_length=MAX_QUERIES)

    _sent: tuple[str, bytes] | None = PrivateAttr(None)

    @classmethod
    def of_body(cls, content: bytes | bytearray, media: str, limits: Limits) -> Self:
        if media in JSON:
            return super().of_body(content, media, limits)
        # A qrels file needs the queries that are known, and a ZIP is not unpacked on the event loop.
        made = cls.model_construct(queries=[])
        made._sent = media, bytes(content)
        return made

    @property
    def sent(self) -> tuple[str, bytes] | None:
        """The content type, and the body."""
        return self._sent

    @model_validator(mode="after")
    def _each_once(self) -> JudgementsField:
        _require_once(self.queries)
        return self


class GradeOne(Strict):
    """One judgement, such as a click or a thumb."""

    nullable = frozenset({"grade"})

    query: DocumentId
    """The query's id."""
    text: str | None = Field(default=None, max_length=MAX_QUERY_CHARACTERS, json_schema_extra={"pattern": r"\S"})
    """The query itself, where the set does not know it."""
    document: DocumentId
    grade: GradeField | None
    """null takes it back."""

    @model_validator(mode="after")
    def _says(self) -> GradeOne:
        if self.text is not None and not self.text.strip():
            raise fault("/text", "the query is empty")
        return self


class GradesField(Strict):
    """Judgements, one after another: the last one of a document holds."""

    grades: list[GradeOne] = Field(min_length=1, max_length=MAX_AT_ONCE)


class SetAnswer(BaseModel):
    """A set of judged queries. grades: of all of them. relevant: those above 0."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    queries: int
    grades: int
    relevant: int


class SetsAnswer(BaseModel):
    """By name."""

    judgements: list[SetAnswer]


class JudgedAnswer(BaseModel):
    """A judged query, as it can be written again."""

    id: str
    query: str | None = None
    turns: list[TurnAnswer] | None = None
    vector: VectorAnswer | None = None
    vectors: VectorsAnswer | None = None
    grades: dict[str, int]


class JudgementsAnswer(BaseModel):
    """A set as it can be written again."""

    queries: list[JudgedAnswer]


class SettingField(Strict):
    """A way to search, by a name for the report."""

    name: str = Field(min_length=1, max_length=100)
    search: Way = Way()
    """All of a search but its question and its page; what is left out is as in any search."""
    collection: str | None = Field(default=None, min_length=1, max_length=100)
    """Another collection, or an alias, that is searched in the place of this one: of another precision or encoder, say.
    Documents are matched by their ids. The key has to reach it too."""


class KnownItems(Strict):
    """Queries that are drawn from documents, each of which asks for the document that it comes from."""

    piece: Literal["title", "sentence", "keywords"] = "sentence"
    """What of it: its title, a sentence of its text, or four of its words."""
    count: int = Field(default=100, ge=1, le=1_000)


class ClassesField(Strict):
    """Class labels in the place of judgements: each document asks, as an example, for the others of its class."""

    field: str = Field(min_length=1, max_length=MAX_FIELD_CHARACTERS, examples=["kind"])
    """The metadata field whose value is the class; a document has one value there, or is in no class."""
    count: int = Field(default=1_000, ge=1, le=MAX_DRAWN)
    """Documents that ask, drawn from those that are not alone in their class: all of them, where they are not more."""


class PoolQuery(Asked):
    """A query, by exactly one of query, vector, vectors and turns."""

    id: DocumentId
    """Its own, once in a request; what the set has graded under it is not asked again."""


class PoolRequest(Strict):
    """What to judge: the first hits of queries, each searched in several ways, that nobody has graded."""

    queries: list[PoolQuery] | None = Field(default=None, min_length=1, max_length=MAX_AT_ONCE_POOLED)
    """By default those of the set."""
    logged: int | None = Field(default=None, ge=1, le=MAX_AT_ONCE_POOLED)
    """In their place so many of the texts that were searched, where the server keeps them; the id of each is its
    text. The key needs the scope `write`, for these are what people asked."""
    draw: Literal["latest", "frequent", "without_hits"] = "latest"
    """Of `logged`, which of them: the last ones, the most frequent, or the most frequent of those whose last search
    had no hit."""
    settings: list[SettingField] = Field([SettingField(name="default")], min_length=1, max_length=MAX_SETTINGS)
    depth: int = Field(default=10, ge=1, le=100)
    """First hits of each setting that are pooled."""
    most: int = Field(default=50, ge=1, le=1_000)
    """Documents to judge, at most."""

    @model_validator(mode="after")
    def _one_source(self) -> PoolRequest:
        if self.queries is not None and self.logged is not None:
            raise fault("/logged", "expected queries or logged, not both")
        if self.logged is None and "draw" in self.model_fields_set:
            raise fault("/draw", "it goes with logged")
        if len({one.name for one in self.settings}) < len(self.settings):
            raise fault("/settings", "expected names that differ")
        _require_once(self.queries or ())
        return self


class EvaluateRequest(Strict):
    """What to search with, in which ways, and how the answers are measured. Queries are those of a set, or listed here,
    or drawn."""

    judgements: str | None = Field(default=None, pattern=f"^{SET_NAME.pattern}$")
    """The name of a set that the collection keeps."""
    queries: list[JudgedQuery] | None = Field(default=None, min_length=1, max_length=MAX_QUERIES)
    known_items: KnownItems | None = None
    classes: ClassesField | None = None
    """Not with settings of a mode that no example is for (`browse`)."""
    settings: list[SettingField] = Field([SettingField(name="default")], min_length=1, max_length=MAX_SETTINGS)
    """The first one is what others are held against, query by query."""
    measures: list[str] = Field([*DEFAULT], min_length=1, max_length=MAX_MEASURES)
    """As ir_measures names them: nDCG, AP, RR, P, R, Success, Judged and RBP at a rank (`nDCG@10`, `P(rel=2)@5`,
    `RBP(p=0.9,rel=1)@20`), Rprec, Bpref, infAP, SetP, SetR, SetF and SetAP; without a rank of 100 hits or more, or of
    all documents where `classes` ask. Of class labels, as in the Princeton Shape Benchmark: NN, whether the nearest is
    relevant; FT and ST, the share of the relevant ones in the first and the second tier (as many hits as there are, and
    twice that); E, the harmonic mean of precision and recall, of 32 hits or `E@n`; DCG, in the logarithm of the rank.
    The mean of AP is mAP."""
    per_query: bool = False
    """Whether the report lists each query, with what moved among its first ten hits."""
    background: bool = False
    """Whether to answer 202 with a task, whose result is the report, in any case. What takes more than 500 searches is
    one anyhow."""
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, value: Any, read: ModelWrapValidatorHandler[EvaluateRequest]) -> EvaluateRequest:
        """As it was given, for a task to read again."""
        made = read(value)
        made._given = value
        return made

    @property
    def given(self) -> dict[str, Any]:
        return self._given

    @model_validator(mode="after")
    def _one_source(self) -> EvaluateRequest:
        if sum(one is not None for one in (self.judgements, self.queries, self.known_items, self.classes)) != 1:
            raise fault("", "expected exactly one of judgements, queries, known_items and classes")
        for field, names in (("settings", [one.name for one in self.settings]), ("measures", self.measures)):
            if len(set(names)) < len(names):
                raise fault(f"/{field}", "expected names that differ")
        _require_once(self.queries or ())
        return self
