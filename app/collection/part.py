"""A part of a collection, as a query reads it: a sealed segment or the tail, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.codes.protocol import Code
from app.collection.layers import POOLED, TOKENS
from app.collection.passages import Passages, Values, decoded
from app.columns.column import Column
from app.filters import Filter, Shape
from app.lexical import bm25
from app.lexical.words import Words
from app.metadata.declared import FieldType
from app.metadata.geo import Point
from app.sparse.postings import Sparse
from app.store.files import Rows
from app.types import F32, F64, I64, Mask, Metadata, Owners, TokenVectors
from app.vector_index.neighbours import Neighbours
from app.vector_index.protocol import Candidates


@dataclass(frozen=True, slots=True)
class Flat:
    """A layer with one value a row."""

    values: Rows

    def range(self, start: int, stop: int) -> NDArray[Any]:
        """Of a range of rows, a view."""
        return self.values.rows(start, stop)

    def take(self, rows: I64) -> NDArray[Any]:
        """Of the named rows, a copy."""
        return self.values.take(rows)

    def at(self, rows: I64) -> NDArray[Any]:
        """Of every row, of which only the named ones may be read."""
        return self.values.ranges(rows, rows + 1)


@dataclass(frozen=True, slots=True)
class Ragged:
    """A layer with a run of values a row. offsets: (rows + 1,)."""

    values: Rows
    offsets: I64

    def range(self, start: int, stop: int) -> TokenVectors:
        """Of a range of rows, a view."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return TokenVectors(self.values.rows(first, last), self.offsets[start : stop + 1] - first)

    def take(self, rows: I64) -> TokenVectors:
        """Of the named rows, a copy."""
        return self.of(rows).take(rows)

    def of(self, rows: I64) -> TokenVectors:
        """Of every row, of which only the named ones may be read."""
        return TokenVectors(self.values.ranges(self.offsets[rows], self.offsets[rows + 1]), self.offsets)

    @property
    def counts(self) -> I64:
        """Values of each row."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Own:
    """A document's own field, of all of a part. there: (documents,) those whose rows there were."""

    column: Column
    there: Mask


class Elsewhere(Protocol):
    """Who holds parts whose vectors are not searched by this process."""

    def begin(self, work: Any, parts: Sequence[Part], asked: Sequence[Any]) -> Callable[[], list[Any]]:
        """Has a piece of work done where the parts lie (app.query.gathering); what is returned waits for the answer of
        each. It raises what the work does, and PartsUnreached where nobody answers for some."""
        ...


class Part(Protocol):
    """Documents, ascending by sequence number, and rows 0 to size - 1, one a passage, in ranges that documents own
    (``owners``). Neither ever changes its meaning.

    Reading raises Damaged when the disk does not give what was written.
    """

    @property
    def owners(self) -> Owners: ...

    @property
    def size(self) -> int:
        """Rows."""
        ...

    @property
    def seqs(self) -> I64:
        """(documents,) ascending."""
        ...

    @property
    def norms(self) -> F32:
        """(size,) the length of the longest vector that exact scoring reads, or a little more."""
        ...

    @property
    def code(self) -> Code:
        """How token vectors are kept, where there are any."""
        ...

    def has(self, layer: str) -> bool: ...

    def flat(self, layer: str) -> Flat: ...

    def ragged(self, layer: str) -> Ragged: ...

    @property
    def words(self) -> Words | None:
        """Of the documents; None where no word is indexed."""
        ...

    @property
    def sparse(self) -> Sparse | None:
        """Of the rows; None where none has a sparse vector."""
        ...

    @property
    def neighbours(self) -> Neighbours | None:
        """A graph over the rows, for scores that are no inner products; None where there is none. Raises Damaged."""
        ...

    elsewhere: Elsewhere | None
    """Who searches it, where that is not this process."""

    own: dict[str, Own]
    """What was read of the documents' own ids and titles (``Snapshot.own``)."""

    def select(self, condition: Filter, own: Mapping[str, Column]) -> Mask:
        """(documents,) bool: those whose metadata match. own: of the fields that are no metadata."""
        ...

    def unfit(self, field: str, kind: FieldType) -> Mask:
        """(documents,) bool: those that have a value of a metadata field that is not of the type."""
        ...

    def distances(self, field: str, center: Point) -> F64:
        """(documents,) metres to the point of each; NaN where it has none."""
        ...

    @property
    def fields(self) -> Set[str]:
        """The metadata fields that some document has."""
        ...

    def shapes(self, field: str) -> Set[Shape]:
        """The shapes of a metadata field's values; nothing where no document has one."""
        ...

    def column(self, field: str) -> Column | None:
        """The values of a metadata field; None where no document has one."""
        ...

    def nearest(self, layer: str, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        """The min(k, allowed) allowed rows of largest inner product with one query vector (dim,), best first.

        allowed: (size,). wide: how many rows codes find, where a part has codes, of which the vectors then pick the k.
        """
        ...

    def nearest_many(self, layer: str, queries: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        """What ``nearest`` gives for each of the queries (q, dim), to the bit: (q, min(k, allowed)) each."""
        ...

    def counts(self, documents: I64) -> dict[str, I64]:
        """Of each ragged layer the values of each row of the named documents, the cold ones too."""
        ...

    def metadata(self, documents: I64) -> list[Metadata] | None:
        """Metadata of documents where the part has them; None where only the document store has."""
        ...

    def passages(self, documents: I64, *, staged: bool = True) -> Passages:
        """Everything that the part has of the named documents, a copy: for re-use and for merging.

        staged: whether what the first stage made of them is read too.
        """
        ...


def tokens(part: Part, start: int, stop: int) -> TokenVectors:
    """Token vectors of a range of rows, float32, decoded: a copy."""
    return decoded(part.ragged(TOKENS).range(start, stop), part.code)


def scored_vectors(part: Part, row: int) -> F32:
    """(n, dim) float32: the vectors of a row that exact scores are of."""
    found: F32 = tokens(part, row, row + 1).values if part.has(TOKENS) else part.flat(POOLED).range(row, row + 1)
    return found


def gathered(part: Part, documents: I64, flat: list[str], ragged: list[str]) -> Passages:
    """The named layers of the named documents."""
    rows = part.owners.rows_of(documents)
    arrays: dict[str, Values] = {name: part.flat(name).take(rows) for name in flat}
    arrays |= {name: part.ragged(name).take(rows) for name in ragged}
    return Passages(part.owners.take(documents), arrays)


@dataclass(frozen=True, slots=True)
class View:
    """A part as one snapshot sees it. alive: (documents,) bool, those that stand; never changed once published. live:
    how many these are, counted once."""

    part: Part
    alive: Mask
    live: int = field(init=False)
    _words: list[bm25.Part] = field(init=False, default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "live", int(np.count_nonzero(self.alive)))

    def lexical(self) -> bm25.Part:
        """Its words, as BM25 counts them. They are added up when they are first asked for."""
        words = self.part.words
        if not self._words:
            length = 0 if words is None else int(words.lengths.sum(where=self.alive, dtype=np.int64))
            self._words.append(bm25.Part(words, self.alive, length))
        return self._words[0]


def standing(view: View, documents: Mask) -> I64:
    """The rows of these documents of a view, ascending."""
    return np.flatnonzero(view.part.owners.spread(documents)).astype(np.int64)
