"""Encoders and rerankers by themselves, in the shapes that OpenAI's and Cohere's clients send and read.

Fields of these vendors that change nothing here (``user``, ``max_chunks_per_doc``, ``priority``) are taken and ignored;
what would change the answer and cannot be is refused in words.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema, model_validator

from app.documents import Strict
from app.encoders.embedding import Wanted
from app.encoders.prompts import Task
from app.schema.faults import fault


def _texts(value: object) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    if not given:
        raise fault("", "expected at least one text")
    for place, one in enumerate(given):
        at = f"/{place}" if isinstance(value, list) else ""
        if isinstance(one, int | list) and not isinstance(one, bool):
            raise fault(at, "token ids are those of another model's tokenizer: send the text itself")
        if not isinstance(one, str):
            raise fault(at, "expected a string")
        if not one:
            raise fault(at, "an empty text has no vector")
    return tuple(given)


_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
TextsField = Annotated[
    tuple[str, ...],
    PlainValidator(_texts),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}),
]
ModelField = Annotated[str, Field(min_length=1, max_length=100)]


class EmbeddingsRequest(Strict):
    """Texts to encode, as OpenAI's client sends them."""

    model: ModelField
    """`builtin`, or one that the operator configured; `GET /v1/models` lists them."""
    input: TextsField
    """A text or several; token ids are refused."""
    encoding_format: Literal["float", "base64"] = "float"
    """Numbers, or base64 of float32, little-endian, which is what the client asks for by itself."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """The encoder's own number, or left out: no encoder here is known to bear cutting."""
    user: str | None = None
    """Taken, and ignored."""
    input_type: Task = "document"
    """Sheaf's own: whether the texts are queries or documents, which some encoders tell apart."""
    vectors: Wanted = "pooled"
    """Sheaf's own: one vector a text, or `tokens`: one for each token, with their `shape` beside them in base64."""


class EmbeddingAnswer(BaseModel):
    """The vectors of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | list[list[float]] | str
    shape: list[int] | None = None
    """Of token vectors: how many there are, and their dimensions."""


class UsageAnswer(BaseModel):
    """Tokens that were read, by the encoder's own tokenizer, prompts and special tokens not counted."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingAnswer]
    model: str
    usage: UsageAnswer
    truncated: list[int] | None = None
    """The places of texts that are longer than the encoder reads, and were cut; left out where there are none."""


class ListedModel(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "sheaf"


class ModelsAnswer(BaseModel):
    """Models that encode or rerank texts."""

    object: Literal["list"] = "list"
    data: list[ListedModel]


class RerankTexts(Strict):
    """Texts to order by how well they answer a query, as Cohere's client sends them (version 2 of its API)."""

    model: ModelField = "builtin"
    """A cross encoder, or any encoder: by MaxSim of its token vectors, else by its pooled ones."""
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    """How many to answer; by default all."""
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
    """Of each document that are read, of a cross encoder by an estimate; by default as many as the model reads."""
    priority: int | None = None
    """Taken, and ignored."""

    @property
    def texts(self) -> list[str]:
        return self.documents


class RerankDocuments(Strict):
    """The same, version 1: a document may be an object of texts."""

    model: ModelField = "builtin"
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | dict[str, str]], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    rank_fields: Annotated[list[str], Field(min_length=1)] = Field(default=["text"])
    """The fields of an object that are read, in this order."""
    return_documents: bool = False
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
    max_chunks_per_doc: int | None = None
    """Taken, and ignored."""

    @model_validator(mode="after")
    def _with_their_fields(self) -> RerankDocuments:
        for place, one in enumerate(self.documents):
            if isinstance(one, dict) and not any(field in one for field in self.rank_fields):
                raise fault(
                    f"/documents/{place}", f"expected a string, or an object with {' or '.join(self.rank_fields)}"
                )
        return self

    @property
    def texts(self) -> list[str]:
        return [
            one if isinstance(one, str) else ". ".join(one[field] for field in self.rank_fields if field in one)
            for one in self.documents
        ]


class ScoredText(BaseModel):
    index: int
    """The place in what was sent."""
    relevance_score: float
    document: dict[str, str] | None = None


class VersionAnswer(BaseModel):
    version: str


class MetaAnswer(BaseModel):
    api_version: VersionAnswer


class RerankTextsAnswer(BaseModel):
    """The best first. A cross encoder's scores are as it gives them; MaxSim is divided by the number of query vectors,
    so that it is a mean of cosines, and pooled vectors give a cosine."""

    id: str
    results: list[ScoredText]
    meta: MetaAnswer
