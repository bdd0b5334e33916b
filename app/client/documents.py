"""What goes to a server and what comes back: documents with their vectors as arrays, hits, tasks."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vectors: TypeAlias = NDArray[np.float32]
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is written and read. id: where it is empty the server makes one of what the document holds.
    vectors: the caller's own, one vector (dim,) in a dense collection, a matrix (n, dim) in another. sparse:
    indices and weights. version: where one was asked for alone. turns: of a conversation, (role, text), the latest
    last; its text may be left out. values: what the document carries, (n, dim).

    >>> Document("a", "one", vectors=np.ones(2)).body()["vector"]["shape"]
    [2]
    """

    id: str = ""
    text: str = ""
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    vectors: ArrayLike | None = None
    sparse: tuple[Sequence[int], Sequence[float]] | None = None
    version: int | None = None
    turns: Sequence[tuple[str, str]] = ()
    summary: str = ""
    values: ArrayLike | None = None

    def body(self) -> Json:
        """As the API takes it."""
        made: Json = {"text": self.text, "title": self.title, "metadata": dict(self.metadata)}
        if self.turns:
            made |= {"turns": said(self.turns), "summary": self.summary}
        made |= {"id": self.id} if self.id else {}
        made |= {} if self.vectors is None else vector_field(self.vectors)
        if self.sparse is not None:
            made["sparse_vector"] = {"indices": list(self.sparse[0]), "values": list(self.sparse[1])}
        made |= {} if self.values is None else {"values": values_field(self.values)}
        return made

    @classmethod
    def of(cls, body: Json) -> Document:
        """From an answer."""
        sparse = body.get("sparse_vector")
        return cls(
            body["id"],
            body.get("text") or "",
            body.get("title") or "",
            body.get("metadata") or {},
            read_vectors(body),
            None if sparse is None else (sparse["indices"], sparse["values"]),
            body.get("version"),
            tuple((one["role"], one["text"]) for one in body.get("turns") or ()),
            body.get("summary") or "",
            read_array(body.get("values")),
        )


def said(turns: Sequence[tuple[str, str]]) -> list[Json]:
    """A conversation, roles with texts, as the API takes it.

    >>> said([("user", "A table for two?")])
    [{'role': 'user', 'text': 'A table for two?'}]
    """
    return [{"role": role, "text": text} for role, text in turns]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a hit: its document's text[start:stop], under these headings. pages: the first and the last, where
    the text is of pages."""

    text: str
    start: int
    stop: int
    headings: list[str]
    score: float
    pages: tuple[int, int] | None

    @classmethod
    def of(cls, body: Json) -> Passage:
        pages = body.get("pages")
        own = body["text"], body["start"], body["stop"], body["headings"], body["score"]
        return cls(*own, None if pages is None else (pages[0], pages[1]))


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a query lies in a sequence. offset: the segment that its first one lies at, below 0 where it begins before
    the document. segments: how many of it lie on one of the document's. seconds: the offset, where the collection
    knows."""

    offset: int
    segments: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found. passages: its best ones, where the search asked for some. alignment: of a sequence
    that was found by its segments. raw: all that the server told of it, such as highlights, its explanation."""

    id: str
    score: float
    title: str
    text: str
    metadata: Json
    vectors: Vectors | None
    passages: list[Passage]
    alignment: Alignment | None
    raw: Json = field(repr=False)
    values: Vectors | None = None
    """What the document carries, where the search included it."""

    @classmethod
    def of(cls, body: Json) -> Hit:
        said = body.get("title") or "", body.get("text") or "", body.get("metadata") or {}
        passages = [Passage.of(one) for one in body.get("passages") or ()]
        place = body.get("alignment")
        aligned = None if place is None else Alignment(place["offset"], place["segments"], place.get("seconds"))
        values = read_array(body.get("values"))
        return cls(body["id"], body["score"], *said, read_vectors(body), passages, aligned, body, values)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a search; iterating gives its hits. total: documents that match, where that was counted. next: the
    cursor of the next page. raw: all that the server told, such as groups, weights, stages."""

    hits: list[Hit]
    total: int | None
    next: str | None
    facets: Json
    raw: Json = field(repr=False)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    @classmethod
    def of(cls, body: Json) -> Answer:
        total = body.get("total")
        counted = total.get("count") if isinstance(total, dict) else total
        return cls([Hit.of(one) for one in body["hits"]], counted, body.get("next"), body.get("facets") or {}, body)


@dataclass(frozen=True, slots=True)
class Table:
    """The answers to many searches by vectors, best first, as many hits of each: ids of each query, and scores,
    (queries, hits). raw: all else that the server told."""

    ids: list[list[str]]
    scores: NDArray[np.float64]
    raw: Json = field(repr=False)
    values: Vectors | None = None
    """What the documents carry, where it was asked for: (queries, hits, most, dim), zeros after each one's own."""
    counts: NDArray[np.int32] | None = None
    """How many vectors that are, (queries, hits)."""

    @classmethod
    def of(cls, content: bytes, raw: Json) -> Table:
        """From .npy."""
        found = np.load(io.BytesIO(content), allow_pickle=False)
        names = [[one.decode() for one in own] for own in found["id"].tolist()]
        scores = found["score"].astype(np.float64)
        if "values" not in (found.dtype.names or ()):
            return cls(names, scores, raw)
        return cls(names, scores, raw, found["values"].astype(np.float32), found["count"].astype(np.int32))


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of documents. next: the cursor of the next one, None at the end."""

    documents: list[Document]
    next: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """Documents that are durable and searchable. ids: of all, in their order, those that the server made too.
    duplicates: ids that came twice in one request, of which the last one won; truncated: ids whose text is longer than
    what is read of it."""

    written: int = 0
    ids: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    truncated: tuple[str, ...] = ()

    def __add__(self, other: Written) -> Written:
        twice = self.duplicates + other.duplicates
        cut = self.truncated + other.truncated
        return Written(self.written + other.written, self.ids + other.ids, twice, cut)


@dataclass(frozen=True, slots=True)
class Task:
    """Work that outlives its request. state: queued, running, succeeded, failed, cancelled. done, total: of its phase.
    raw: all that the server told, such as errors, warnings, result."""

    id: str
    state: str
    phase: str
    done: int
    total: int | None
    raw: Json = field(repr=False)

    @property
    def file(self) -> str | None:
        """The name of an import's file."""
        name: str | None = self.raw.get("file")
        return name

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")

    @classmethod
    def of(cls, body: Json) -> Task:
        return cls(body["id"], body["state"], body["phase"], body["done"], body["total"], body)


def vector_field(vectors: ArrayLike) -> Json:
    """The field of a body for one vector (dim,) or several (n, dim), as base64 of float32."""
    array = np.asarray(vectors, np.float32)
    if array.ndim not in (1, 2):
        raise ValueError(f"expected one vector (dim,) or several (n, dim), got an array of shape {array.shape}")
    return {"vector" if array.ndim == 1 else "vectors": _written(array)}


def values_field(values: ArrayLike) -> Json:
    """What a document carries, (n, dim) or one vector (dim,), likewise."""
    array = np.atleast_2d(np.asarray(values, np.float32))
    if array.ndim != 2:
        raise ValueError(f"expected vectors (n, dim), got an array of shape {array.shape}")
    return _written(array)


def _written(array: Vectors) -> Json:
    values = base64.b64encode(array.astype("<f4").tobytes()).decode()
    return {"base64": values, "dtype": "float32", "shape": list(array.shape)}


def read_vectors(body: Json) -> Vectors | None:
    """The vectors of an answer, in either of the forms that it may have them in."""
    return read_array(body.get("vector") if body.get("vectors") is None else body["vectors"])


def read_array(given: Any) -> Vectors | None:
    """An array of an answer, numbers or base64."""
    if given is None:
        return None
    if not isinstance(given, dict):
        return np.array(given, np.float32)
    values = np.frombuffer(base64.b64decode(given["base64"]), "<f4" if given["dtype"] == "float32" else "<f2")
    return values.astype(np.float32).reshape(given["shape"])
