"""The few shapes that every stage speaks: documents, vectors, candidates, hits.

Ragged data is flat values plus offsets, everywhere: token vectors of n passages are one
``(total, dim)`` array and ``n + 1`` offsets, never a list of arrays and never padded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from app.errors import AnswerTooLarge

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

MetadataValue: TypeAlias = Any
"""What JSON has."""
Metadata: TypeAlias = dict[str, MetadataValue]
Kind: TypeAlias = Literal["multi_vector", "dense", "sequence"]
SimilarityName: TypeAlias = Literal["cosine", "inner_product", "euclidean", "bilinear", "causal", "lorentz", "poincare"]
Precision: TypeAlias = Literal["float32", "float16", "8bit", "4bit", "2bit", "1.25bit", "1bit"]

Split: TypeAlias = Literal["structure", "none"]
Side: TypeAlias = Literal["words", "sparse", "tokens", "pooled"]
"""A score of a hybrid search (app.fusion)."""
Weights: TypeAlias = Mapping[Side, float]

MAX_DIM = 16_384
MAX_K = 1_000
REACH = 10_000
"""Documents of one list, which pages and groups are pieces of."""
MAX_TOKEN_POOLING = 32
MAX_FEW = 1_024
"""Vectors that each passage may be pooled to."""
MIN_WINDOW, MAX_WINDOW = 8, 65_536
"""Tokens of a passage of a text."""
MAX_EXCERPTS = 10
"""Passages that a hit may carry."""
NUMBER_BYTES = 20
"""Of a float32 as JSON, or nearly."""
DEFAULT_INCLUDE = frozenset({"text", "metadata"})
"""The parts of a document in an answer beside its id and title."""


@dataclass(frozen=True, slots=True)
class Few:
    """A token pooling that leaves so many vectors of a passage, however long it is."""

    vectors: int


Pooling: TypeAlias = int | Few
"""The part of token vectors that is left, as 1 / n, or how many."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """A vector of a large space that is 0 nearly everywhere. indices: (n,) int32 from 0, ascending, each once. values:
    (n,) float32, finite and above 0."""

    indices: NDArray[np.int32]
    values: F32

    @classmethod
    def of(cls, indices: NDArray[np.int32], values: F32) -> SparseVector:
        """Of indices in any order; what is 0 is left out."""
        kept = np.argsort(indices)
        kept = kept[values[kept] > 0]
        return cls(indices[kept], values[kept])

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def size(self) -> int:
        """Numbers that it has."""
        return 2 * len(self.indices)

    def same(self, other: SparseVector | None) -> bool:
        """To the bit."""
        return (
            other is not None
            and np.array_equal(self.indices, other.indices)
            and self.values.tobytes() == other.values.tobytes()
        )


class Turn(NamedTuple):
    """What somebody says in a conversation."""

    role: str
    text: str


def spoken(turns: Iterable[Turn]) -> str:
    """A conversation as one text, a line a turn.

    >>> spoken([Turn("user", "A table for two?"), Turn("system", "Where?")])
    'user: A table for two?\\nsystem: Where?'
    """
    return "\n".join(f"{turn.role}: {turn.text}" for turn in turns)


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a caller gives it and gets it back. ``vectors`` are the caller's own: (n, dim) float32, as given.

    splits: how many of them each passage has, in order; none: all are of one passage. sparse: the caller's own sparse
    vector. turns: of a conversation, whose text is what they are as one. summary: of it, in a caller's words. values:
    what the document is a key of, (n, the collection's own width) float32: never searched, only given.
    """

    id: str
    text: str = ""
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    vectors: F32 | None = None
    splits: tuple[int, ...] = ()
    sparse: SparseVector | None = None
    turns: tuple[Turn, ...] = ()
    summary: str = ""
    values: F32 | None = None

    @property
    def matrices(self) -> list[F32]:
        """The caller's vectors of each passage."""
        if self.vectors is None:
            return []
        return np.split(self.vectors, np.cumsum(self.splits)[:-1]) if self.splits else [self.vectors]

    @property
    def nbytes(self) -> int:
        """Of its title, its text, its summary and its metadata in UTF-8."""
        own = len(to_json(self.metadata)) if self.metadata else 2
        return len(self.title.encode()) + len(self.text.encode()) + len(self.summary.encode()) + own

    @property
    def passage(self) -> str:
        """The text that is encoded: title and text joined by a full stop, or the one that is there.

        >>> Document("a", text="Reads archives.", title="zipfile").passage
        'zipfile. Reads archives.'
        """
        return ". ".join(part for part in (self.title, self.text) if part.strip())

    def stands_as(self, other: Document) -> bool:
        """Whether id, title, text and metadata are the same, types and the order of keys included: to Python 1, 1.0 and
        True are equal.

        >>> Document("a", metadata={"n": 1}).stands_as(Document("a", metadata={"n": True}))
        False
        """
        mine, theirs = (json.dumps(document.metadata) for document in (self, other))
        said = (self.turns, self.summary) == (other.turns, other.summary)
        return said and (self.id, self.title, self.text, mine) == (other.id, other.title, other.text, theirs)


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """Token vectors of n passages, ragged: passage i owns ``values[offsets[i]:offsets[i + 1]]``.

    values: (total, dim), float32 unless a codec says otherwise. offsets: (n + 1,) int64, ascending from 0.

    >>> tokens = TokenVectors.join([np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)])
    >>> tokens.offsets.tolist(), tokens[1].shape, tokens.take([1, 0]).offsets.tolist()
    ([0, 2, 3], (1, 3), [0, 1, 3])
    """

    values: NDArray[Any]
    offsets: I64

    @classmethod
    def join(cls, matrices: Sequence[NDArray[Any]]) -> TokenVectors:
        """One matrix (tokens, dim) a passage; at least one passage, so that dim is known."""
        offsets = np.zeros(len(matrices) + 1, np.int64)
        np.cumsum([len(m) for m in matrices], out=offsets[1:])
        return cls(np.concatenate(list(matrices)), offsets)

    @property
    def dim(self) -> int:
        return int(self.values.shape[1])

    @property
    def counts(self) -> I64:
        """Vectors in each passage, (n,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> NDArray[Any]:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    def slice(self, start: int, stop: int) -> TokenVectors:
        """Passages start to stop, a view."""
        first = self.offsets[start]
        return TokenVectors(self.values[first : self.offsets[stop]], self.offsets[start : stop + 1] - first)

    def take(self, rows: Iterable[int] | I64) -> TokenVectors:
        """The named passages in the named order, a copy."""
        rows = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), np.int64)
        # Of these alone: a part may have millions.
        starts = self.offsets[rows]
        counts = self.offsets[rows + 1] - starts
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        return TokenVectors(self.values.take(index, axis=0), offsets)


@dataclass(frozen=True, slots=True)
class Owners:
    """Which document each row belongs to. A row is a passage; a document owns a range of rows, one or more.

    documents: how many. starts: (documents + 1,) int64, the first row of each, and how many rows there are; None
    where each owns one, which then costs nothing.

    >>> owners = Owners.of_counts(np.array([2, 1]))
    >>> owners.rows, owners.of(np.array([0, 1, 2])).tolist(), owners.spread(np.array([True, False])).tolist()
    (3, [0, 0, 1], [True, True, False])
    """

    documents: int
    starts: I64 | None = None

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64]) -> Owners:
        """counts: (documents,), the rows of each."""
        if (counts == 1).all():
            return cls(len(counts))
        starts = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=starts[1:])
        return cls(len(counts), starts)

    @property
    def rows(self) -> int:
        return self.documents if self.starts is None else int(self.starts[-1])

    @property
    def counts(self) -> I64:
        """(documents,): the rows of each."""
        return np.ones(self.documents, np.int64) if self.starts is None else np.diff(self.starts)

    @property
    def firsts(self) -> I64:
        """(documents,): the first row of each."""
        return np.arange(self.documents) if self.starts is None else self.starts[:-1]

    def counts_of(self, documents: I64) -> I64:
        """The rows of each of these documents."""
        if self.starts is None:
            return np.ones(len(documents), np.int64)
        found: I64 = self.starts[documents + 1] - self.starts[documents]
        return found

    def of(self, rows: I64) -> I64:
        """The document of each row."""
        if self.starts is None:
            return rows
        found: I64 = np.asarray(np.searchsorted(self.starts, rows, side="right") - 1, np.int64)
        return found

    def spread(self, mask: Mask) -> Mask:
        """(documents,) -> (rows,): what is said of a document, of each of its rows."""
        return mask if self.starts is None else np.repeat(mask, self.counts)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The rows of documents start to stop: from, to."""
        return (start, stop) if self.starts is None else (int(self.starts[start]), int(self.starts[stop]))

    def rows_of(self, documents: I64) -> I64:
        """The rows of these documents, in their order."""
        if self.starts is None:
            return documents
        begins, counts = self.starts[documents], self.counts_of(documents)
        ends = np.cumsum(counts)
        found: I64 = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begins - (ends - counts), counts)
        return found

    def take(self, documents: I64) -> Owners:
        """Of these documents alone, in their order."""
        return Owners(len(documents)) if self.starts is None else Owners.of_counts(self.counts[documents])

    @staticmethod
    def join(parts: Sequence[Owners]) -> Owners:
        """One after the other."""
        if all(part.starts is None for part in parts):
            return Owners(sum(part.documents for part in parts))
        return Owners.of_counts(np.concatenate([part.counts for part in parts]))


@dataclass(frozen=True, slots=True)
class Encoded:
    """The vectors of n texts, made in one pass.

    pooled: (n, dim) float32, one dense vector a text. tokens: n matrices of token vectors, or None
    from a dense encoder. truncated: (n,) bool, whether the model's limit cut the text. Vectors have
    the model's own normalisation; the collection's similarity decides whether they are normalised.
    """

    pooled: F32
    tokens: TokenVectors | None
    truncated: Mask


@dataclass(frozen=True, slots=True)
class EncodedSparse:
    """The sparse vectors of n texts. rows: as a layer has them (app.sparse.rows). truncated: (n,) bool, whether the
    model's limit cut the text."""

    rows: TokenVectors
    truncated: Mask


class Room:
    """Bytes of documents and vectors that one answer may hold yet. The first document always fits."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, document: Document, numbers: int) -> bool:
        """Whether there was room for what is included of a document, and for so many numbers of its vectors."""
        first = self._left == self._most
        self._left -= document.nbytes + NUMBER_BYTES * numbers
        return first or self._left >= 0

    def full(self) -> AnswerTooLarge:
        return AnswerTooLarge(
            f"the answer would hold more than {self._most:,} bytes, the limit of this server: ask for fewer documents "
            "at a time, or leave text and vectors out of include"
        )


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A passage of a document that was found: text[start:stop], in characters, under its headings, the outermost first;
    score: its own. pages: its first and its last, from 1, of a text whose pages are parted by form feeds."""

    text: str
    start: int
    stop: int
    headings: list[str]
    score: float
    pages: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a query lies in a sequence (app.scoring.similarities.alignment). offset: the segment, from 0, that the
    query's first one lies at; below 0 where the query begins before the document. segments: how many of the query's lie
    on one of the document's. seconds: the offset, where the collection says how many segments a second has."""

    offset: int
    segments: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One ranked document. passages: its best ones, where they were asked for. former_score: of one that was reranked,
    before that. relevance: the chance that it is relevant, where that was asked for (app.relevance). alignment: of a
    sequence that was found by its segments."""

    id: str
    score: float
    title: str | None = None
    text: str | None = None
    metadata: Metadata | None = None
    vectors: F32 | None = None
    sparse: SparseVector | None = None
    passages: list[Excerpt] | None = None
    highlights: Any = None
    """A list of app.highlights.fragments.Highlight, where it was asked for."""
    explanation: Any = None
    """app.hits.explanation.Explanation, where it was asked for."""
    former_score: float | None = None
    relevance: float | None = None
    alignment: Alignment | None = None
    values: F32 | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a copy is. role: of this server for the collection. commits: that it has seen in the store and has not
    applied. age_s: how long ago it had all that was in the store; of a writer 0, None of a copy that had not since the
    start."""

    role: Literal["writer", "reader"]
    commits: int
    age_s: float | None
