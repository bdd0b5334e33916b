"""The specification of a collection, decided at its creation and stored with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, get_args

import numpy as np

from app.codes.choose import code_for
from app.codes.protocol import Code
from app.encoders.protocol import Fingerprint
from app.encoders.turns import TurnsSpec
from app.errors import Invalid
from app.lexical.analysis import LANGUAGES, Analyser
from app.lexical.fields import texts
from app.lexical.sequences import Sequences, Vocabulary
from app.lexical.weighing import Weighing
from app.schema.faults import pointer
from app.scoring.similarities import measures
from app.scoring.similarities.measures import SIMILARITIES, Options, check_options
from app.scoring.similarity import Similarity
from app.store.layout import check_name, of_this_version
from app.types import (
    MAX_DIM,
    MAX_FEW,
    MAX_TOKEN_POOLING,
    MAX_WINDOW,
    MIN_WINDOW,
    Document,
    Few,
    Kind,
    Pooling,
    Precision,
    Side,
    SimilarityName,
    Split,
    Weights,
)

FINGERPRINT: Final = "fingerprint"
"""The record of the encoder that made the vectors."""
DECLARED: Final = "schema"
"""The record of the types of metadata fields, which may change: where there is none, none are declared."""
SPARSE_FINGERPRINT: Final = "sparse_fingerprint"
"""Of the sparse encoder."""
MAX_FIELDS: Final = 32
"""Whose words are indexed."""
MAX_FIELD_WEIGHT: Final = 1_000.0
MAX_SEGMENTS_PER_SECOND: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """model: the encoder's name among the operator's, or None where callers bring their vectors. kind: what it makes of
    a passage. dim: numbers of a vector, as it comes."""

    model: str | None
    kind: Kind
    dim: int

    def __post_init__(self) -> None:
        if self.model is not None and not isinstance(self.model, str):
            raise Invalid.at("/encoder/model", f"expected a name or null, got {self.model!r}")
        if self.kind not in get_args(Kind):
            raise Invalid.at("/encoder/kind", f"expected {_names(Kind)}, got {self.kind!r}")
        if type(self.dim) is not int or not 1 <= self.dim <= MAX_DIM:
            raise Invalid.at("/encoder/dim", f"expected 1 to {MAX_DIM:,} dimensions, got {self.dim:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSpec:
    """How vectors are kept.

    precision: of the stored token vectors that queries read (app.codes); float16 holds no vectors of unbounded length
    (inner_product). Dense vectors are float32. token_pooling: a passage of t token vectors is stored as t /
    token_pooling means of like ones (app.codes.token_pooling), or as so many; 1: as they are. keep: whether callers'
    own vectors are also kept as they came, in float32, in a file that no query reads.
    """

    precision: Precision = "float16"
    token_pooling: Pooling = 1
    keep: bool = True

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise Invalid.at("/precision", f"expected {_names(Precision)}, got {self.precision!r}")
        if isinstance(self.token_pooling, Few):
            count = self.token_pooling.vectors
            if type(count) is not int or not 1 <= count <= MAX_FEW:
                raise Invalid.at("/token_pooling/vectors", f"expected 1 to {MAX_FEW:,} vectors, got {count!r}")
        elif type(self.token_pooling) is not int or not 1 <= self.token_pooling <= MAX_TOKEN_POOLING:
            raise Invalid.at("/token_pooling", f"expected 1 to {MAX_TOKEN_POOLING}, got {self.token_pooling}")
        if type(self.keep) is not bool:
            raise Invalid.at("/keep_vectors", f"expected true or false, got {self.keep!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSpec:
    """How a text becomes passages, a row each.

    split: `structure`: windows that end with a paragraph or a sentence (app.passages); `none`: one, as far as the
    encoder reads. size: tokens of a window, with the title and headings before it; None: as many as the encoder reads.
    overlap: tokens that two windows may share.
    """

    split: Split = "structure"
    size: int | None = None
    overlap: int = 64

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise Invalid.at("/passages/split", f"expected {_names(Split)}, got {self.split!r}")
        if self.size is not None and (type(self.size) is not int or not MIN_WINDOW <= self.size <= MAX_WINDOW):
            raise Invalid.at(
                "/passages/size", f"expected {MIN_WINDOW} to {MAX_WINDOW:,} tokens or null, got {self.size}"
            )
        if type(self.overlap) is not int or not 0 <= self.overlap <= (self.size or MAX_WINDOW) // 2:
            raise Invalid.at("/passages/overlap", f"expected 0 tokens to half of a window's, got {self.overlap}")


ONE: Final = PassageSpec(split="none", overlap=0)
"""A row a document, and what callers' vectors have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalSpec:
    """How documents are found by words. language: whose stems make words one term; None: words as they are. fields:
    what is indexed: id, title, text, or the names of metadata. field_weights: what a word of a field counts, beside 1
    of the others (app.lexical.weighing)."""

    language: str | None = "english"
    fields: tuple[str, ...] = ("title", "text")
    field_weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.language is not None and self.language not in LANGUAGES:
            raise Invalid.at("/lexical/language", f"expected null or {', '.join(LANGUAGES)}, got {self.language!r}")
        if not 1 <= len(self.fields) <= MAX_FIELDS or len(set(self.fields)) != len(self.fields):
            raise Invalid.at("/lexical/fields", f"expected 1 to {MAX_FIELDS} different fields")
        if not all(isinstance(field, str) and field for field in self.fields):
            raise Invalid.at("/lexical/fields", "expected names of fields")
        self._check_weights(self.field_weights, "/lexical/field_weights")

    def weighed(self, asked: Mapping[str, float], at: str) -> LexicalSpec:
        """With other weights of some fields. at: the pointer to them, for errors. Raises Invalid."""
        weights = {**self.field_weights, **asked}
        self._check_weights(weights, at)
        return replace(self, field_weights=weights)

    def _check_weights(self, weights: Mapping[str, float], at: str) -> None:
        for name, weight in weights.items():
            if name not in self.fields:
                raise Invalid.at(at + pointer([name]), f"no such field is indexed, but {', '.join(self.fields)}")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= MAX_FIELD_WEIGHT:
                raise Invalid.at(at + pointer([name]), f"expected 0 to {MAX_FIELD_WEIGHT:g}, got {weight!r}")
        if not any(weights.get(name, 1) for name in self.fields):
            raise Invalid.at(at, "expected a field with a weight above 0")

    @property
    def weighing(self) -> Weighing | None:
        """The weights of all fields; None where each is 1."""
        weights = tuple(float(self.field_weights.get(name, 1)) for name in self.fields)
        return None if set(weights) == {1.0} else Weighing(weights, self.analyser.stops)

    @property
    def analyser(self) -> Analyser:
        return Analyser(self.language)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseSpec:
    """model: the sparse encoder's name among the operator's, or None where callers bring their sparse vectors."""

    model: str | None = None

    def __post_init__(self) -> None:
        if self.model is not None and not isinstance(self.model, str):
            raise Invalid.at("/sparse/model", f"expected a name or null, got {self.model!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSpec:
    """dim: numbers of each of the vectors that documents carry and that no search reads."""

    dim: int

    def __post_init__(self) -> None:
        if type(self.dim) is not int or not 1 <= self.dim <= MAX_DIM:
            raise Invalid.at("/values/dim", f"expected 1 to {MAX_DIM:,} dimensions, got {self.dim!r}")


WORDS: Final = LexicalSpec()
"""Where nothing else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec:
    """One collection's fixed properties. similarity: its name in ``SIMILARITIES``. options: of the similarity, of which
    a matrix may be learned later. lexical: None where words find nothing. sparse: None where there are no sparse
    vectors. fusion: how a hybrid search makes one order that does not say: by the weight of each side, or by ranks;
    None: by weights that the collection learns. turns: how it reads conversations; None: it has none.
    segments_per_second: of a sequence whose segments stand in time. values: None where documents carry none. Raises
    Invalid for what no collection is."""

    name: str
    encoder: EncoderSpec
    similarity: SimilarityName = "cosine"
    vectors: VectorSpec = field(default_factory=VectorSpec)
    passages: PassageSpec = ONE
    lexical: LexicalSpec | None = field(default_factory=LexicalSpec)
    sparse: SparseSpec | None = None
    fusion: Weights | Literal["reciprocal_rank"] | None = None
    options: Options = measures.NONE
    turns: TurnsSpec | None = None
    segments_per_second: float | None = None
    values: ValueSpec | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.similarity not in SIMILARITIES:
            raise Invalid.at("/similarity", f"expected {', '.join(SIMILARITIES)}, got {self.similarity!r}")
        check_options(self.similarity, self.options, self.dim)
        precision = self.precision
        self._check_sequence()
        if self.kind == "dense" and precision != "float32":
            raise Invalid.at("/precision", f"{precision} is a code of token vectors; dense vectors are float32")
        if precision == "float16" and not self.measure.unit:
            raise Invalid.at(
                "/precision", f"float16 holds only vectors of length 1 (cosine); {self.similarity} needs another"
            )
        if self.options.kernel is not None and self.kind == "dense":
            raise Invalid.at(
                "/similarity_options/kernel", "orders nothing in a dense collection: it is of a sum over token vectors"
            )
        if self.measure.geodesic:
            if precision != "float32":
                raise Invalid.at("/precision", f"a code would move points off the space of {self.similarity}: float32")
            if self.model is not None:
                raise Invalid.at("/similarity", f"an encoder makes no points of {self.similarity}; model is null")
        if self.model is not None and self.query_dim != self.dim:
            raise Invalid.at(
                "/similarity_options/matrix",
                f"expected {self.dim:,} rows, the dimensions of the encoder's queries, got {self.query_dim:,}",
            )
        if self.kind == "dense" and self.token_pooling != 1:
            raise Invalid.at("/token_pooling", "pools token vectors; a dense collection has none")

        if self.model is None and self.splits:
            raise Invalid.at("/passages/split", "expected none, for the collection has no encoder to split texts for")
        if self.turns is not None:
            if self.model is None:
                raise Invalid.at("/turns", "expected null, for the collection has no encoder, to read turns with")
            if self.splits:
                raise Invalid.at("/passages/split", "expected none: a conversation is one passage")
            if not self.measure.unit:
                raise Invalid.at("/turns", f"tokens are weighed by turns under cosine, not under {self.similarity}")
        if self.fusion is not None:
            self._check_fusion(self.fusion)

    def _check_sequence(self) -> None:
        rate = self.segments_per_second
        if rate is not None:
            if not self.ordered:
                raise Invalid.at(
                    "/segments_per_second", f"is of segments in order, and the collection is {self.kind}, not sequence"
                )
            if type(rate) not in (float, int) or not 0 < rate <= MAX_SEGMENTS_PER_SECOND:
                raise Invalid.at(
                    "/segments_per_second", f"expected above 0 and at most {MAX_SEGMENTS_PER_SECOND:,.0f}, got {rate!r}"
                )
        if not self.ordered:
            return
        if self.model is not None:
            raise Invalid.at("/encoder/kind", "no encoder makes the segments of a sequence: model is null")
        if not self.measure.linear:
            raise Invalid.at(
                "/similarity",
                f"a query may end beyond a sequence, and what has no other segment beside it adds 0, which would be "
                f"the best that {self.similarity} knows; expected a similarity that is an inner product",
            )
        if self.options.kernel is not None:
            raise Invalid.at("/similarity_options/kernel", "is of the maxima of MaxSim, which a sequence has none of")
        if self.precision != "float32":
            raise Invalid.at("/precision", f"{self.precision} is a code of token vectors; segments are float32")
        if self.token_pooling != 1:
            raise Invalid.at("/token_pooling", "means of segments have no place in the order of a sequence")

    def _check_fusion(self, fusion: object) -> None:
        if self.lexical is None and self.sparse is None:
            raise Invalid.at("/fusion", "expected null, for the collection has no index of words, nor sparse vectors")
        if fusion == "reciprocal_rank":
            return
        if not isinstance(fusion, Mapping):
            raise Invalid.at("/fusion", f"expected reciprocal_rank or the weights of sides, got {fusion!r}")
        sides = ", ".join(self.sides)
        for side, weight in fusion.items():
            if side not in self.sides:
                raise Invalid.at(f"/fusion/{side}", f"the collection is {self.kind}: it has {sides}")
            if type(weight) not in (float, int) or not 0 <= weight <= 1:
                raise Invalid.at(f"/fusion/{side}", f"expected a weight of 0 to 1, got {weight!r}")
        if len(fusion) < len(self.sides) or not any(fusion.values()):
            raise Invalid.at("/fusion", f"expected a weight of each of {sides}, at least one above 0")

    @property
    def sides(self) -> list[Side]:
        """The scores that a hybrid search fuses, where it brings them all."""
        words: list[Side] = [] if self.lexical is None else ["words"]
        sparse: list[Side] = [] if self.sparse is None else ["sparse"]
        tokens: list[Side] = ["tokens"] if self.kind == "multi_vector" else []
        return [*words, *sparse, *tokens, "pooled"]

    @property
    def splits(self) -> bool:
        """Whether texts are split into passages, of which each row knows where it stands."""
        return self.passages.split != "none"

    @property
    def model(self) -> str | None:
        return self.encoder.model

    @property
    def sparse_model(self) -> str | None:
        """The sparse encoder; None also where there are no sparse vectors."""
        return None if self.sparse is None else self.sparse.model

    @property
    def given_sparse(self) -> bool:
        """Whether callers bring sparse vectors."""
        return self.sparse is not None and self.sparse.model is None

    @property
    def kind(self) -> Kind:
        return self.encoder.kind

    @property
    def ordered(self) -> bool:
        """Whether a document is its vectors in their order, a row each, and scored by an alignment of them
        (app.scoring.similarities.alignment)."""
        return self.kind == "sequence"

    @property
    def dim(self) -> int:
        """Numbers of a vector, as it comes."""
        return self.encoder.dim

    @property
    def query_dim(self) -> int:
        """Numbers of a vector that is asked with, as it comes."""
        return self.measure.query_dim(self.dim)

    @property
    def stored_dim(self) -> int:
        """Numbers of a vector as it is stored and asked with, before it is coded."""
        return self.measure.stored_dim(self.dim)

    @property
    def measure(self) -> Similarity:
        """The measure that the similarity makes of vectors."""
        return measures.similarity(self.similarity, self.options)

    @property
    def scanned(self) -> bool:
        """Whether every passage is scored: a sum of distances in a hyperbolic space is like no inner product of one
        vector a passage, by which the nearest points of dense collections are found."""
        return self.kind == "multi_vector" and self.measure.geodesic

    @property
    def precision(self) -> Precision:
        return self.vectors.precision

    @property
    def token_pooling(self) -> Pooling:
        return self.vectors.token_pooling

    @property
    def pools(self) -> bool:
        """Whether a stored vector stands for several tokens."""
        return self.vectors.token_pooling != 1

    @property
    def keep_vectors(self) -> bool:
        return self.vectors.keep

    @property
    def code(self) -> Code:
        """How token vectors are kept."""
        return code_for(self.precision, self.stored_dim)

    def words(self, documents: Iterable[Document], vocabulary: Vocabulary | None = None) -> Sequences | None:
        """The words of documents, where they are indexed."""
        if self.lexical is None:
            return None
        heard = documents if self.turns is None else map(self._heard, documents)
        return Sequences.analysed((texts(document, self.lexical.fields) for document in heard), vocabulary)

    def _heard(self, document: Document) -> Document:
        if not document.turns or self.turns is None:
            return document
        return replace(document, text=self.turns.heard(document.turns))

    @property
    def summarised(self) -> bool:
        """Whether the pooled vector of a conversation is its summary's."""
        return self.turns is not None and self.turns.summaries and self.kind == "multi_vector"

    @property
    def encoded_dtype(self) -> np.dtype[Any]:
        """Of stored fixed-dimensional encodings: half precision where vectors have length 1, unless all is float32."""
        exact = self.precision == "float32" or not self.measure.unit
        return np.dtype(np.float32 if exact else np.float16)

    @property
    def keeps_raw(self) -> bool:
        """Whether callers' vectors are kept beside the stored ones."""
        return self.model is None and self.keep_vectors

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> CollectionSpec:
        """The specification that ``to_json`` gave. Raises FormatTooNew for what this Sheaf does not know."""
        with of_this_version("the specification"):
            nested = {**_fields(value), "encoder": EncoderSpec(**_fields(value, "encoder"))}
            nested["passages"] = PassageSpec(**_fields(value, "passages"))
            vectors = _fields(value, "vectors")
            if isinstance(vectors["token_pooling"], Mapping):
                vectors["token_pooling"] = Few(**vectors["token_pooling"])
            nested["vectors"] = VectorSpec(**vectors)
            if nested["lexical"] is not None:
                lexical = _fields(value, "lexical")
                nested["lexical"] = LexicalSpec(**{**lexical, "fields": tuple(lexical["fields"])})
            nested["options"] = Options.from_json(_fields(value, "options")) if "options" in nested else measures.NONE
            if nested.get("turns") is not None:
                nested["turns"] = TurnsSpec.from_json(_fields(value, "turns"), nested["encoder"].dim)
            if nested.get("sparse") is not None:
                nested["sparse"] = SparseSpec(**_fields(value, "sparse"))
            if nested.get("values") is not None:
                nested["values"] = ValueSpec(**_fields(value, "values"))
            return cls(**nested)


def _fields(value: object, name: str | None = None) -> dict[str, Any]:
    """The members of an object, or of its member ``name``."""
    if isinstance(value, Mapping):
        found = value if name is None else value[name]
        if isinstance(found, Mapping):
            return dict(found)
    raise TypeError(f"expected an object{'' if name is None else f' {name}'}")


def _names(of: Any) -> str:
    return ", ".join(get_args(of))


def fingerprint_to_json(fingerprint: Fingerprint) -> dict[str, Any]:
    return {"model": fingerprint.model, "weights": fingerprint.weights, "details": dict(fingerprint.details)}


def fingerprint_from_json(value: dict[str, Any]) -> Fingerprint:
    return Fingerprint(value["model"], value["weights"], value["details"])
