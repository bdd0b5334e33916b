"""What a query reads: a part of a collection, a sealed segment or the tail, behind one protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from app.codes.protocol import Code
from app.collection.first_stage import Source
from app.collection.passages import Passages
from app.filters import Filter
from app.types import F32, I64, Mask, Metadata, TokenVectors
from app.vector_index.protocol import Candidates


class Part(Protocol):
    """Rows 0 to size - 1, one a passage, ascending by sequence number; rows never change their meaning.

    Reading raises Damaged when the disk does not give what was written.
    """

    @property
    def size(self) -> int: ...

    @property
    def seqs(self) -> I64:
        """(size,) ascending."""
        ...

    @property
    def norms(self) -> F32:
        """(size,) the length of the longest vector that exact scoring reads, or a little more."""
        ...

    def select(self, condition: Filter) -> Mask:
        """(size,) bool: the rows whose metadata match."""
        ...

    def nearest(self, source: Source, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        """The min(k, allowed) allowed rows of largest inner product with one query vector (dim,), best first.

        wide: how many rows codes find, where a part has codes, of which the vectors then pick the k.
        """
        ...

    def pooled(self, start: int, stop: int) -> F32:
        """(stop - start, dim): dense vectors of a range of rows."""
        ...

    def pooled_of(self, rows: I64) -> F32:
        """(len(rows), dim): dense vectors of the named rows, a copy."""
        ...

    @property
    def code(self) -> Code:
        """How token vectors are kept, in a multi-vector collection."""
        ...

    def tokens(self, start: int, stop: int) -> TokenVectors:
        """Token vectors of a range of rows, float32, decoded: a copy."""
        ...

    def codes(self, start: int, stop: int) -> TokenVectors:
        """Token vectors of a range of rows as stored, a view: for scoring."""
        ...

    def codes_of(self, rows: I64) -> TokenVectors:
        """Token vectors of every row as stored, of which only the named rows may be read."""
        ...

    def metadata(self, rows: I64) -> list[Metadata] | None:
        """Metadata of rows where the part has them; None where only the document store has."""
        ...

    def passages(self, rows: I64, *, encoded: bool = True) -> Passages:
        """Everything stored of the named rows, callers' vectors included, a copy: for re-use and for merging.

        encoded: whether what the first stage made of them is read too.
        """
        ...


@dataclass(frozen=True, slots=True)
class View:
    """A part as one snapshot sees it. alive: (size,) bool, rows that stand; never changed once published."""

    part: Part
    alive: Mask
