"""The tail: what was written since the last sealing, in memory, searchable at once.

The database holds the same vectors durably, one chunk a write. Arrays only grow, and a growth beyond their capacity
makes new arrays; so a snapshot that remembers a length reads on undisturbed while the writer appends.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codes.protocol import Code
from app.collection.columns import Columns
from app.collection.first_stage import Source
from app.collection.passages import Passages, decoded
from app.collection.spec import CollectionSpec
from app.filters import Filter, fields_of
from app.types import F32, I64, Mask, Metadata, TokenVectors
from app.vector_index.protocol import Candidates


class _Growing:
    """A (length, ...) array that is appended to; views taken before stay valid."""

    def __init__(self, dtype: Any, *shape: int) -> None:
        self._array: NDArray[Any] = np.empty((16, *shape), dtype)
        self.length = 0

    def append(self, rows: NDArray[Any]) -> None:
        needed = self.length + len(rows)
        if needed > len(self._array):
            grown = np.empty((max(needed, 2 * len(self._array)), *self._array.shape[1:]), self._array.dtype)
            grown[: self.length] = self._array[: self.length]
            self._array = grown
        self._array[self.length : needed] = rows
        self.length = needed

    def view(self, length: int) -> NDArray[Any]:
        return self._array[:length]


class Tail:
    """The arrays. One writer at a time; readers take a ``TailView``."""

    def __init__(self, spec: CollectionSpec, encoded_dim: int | None) -> None:
        self._spec = spec
        self._seqs = _Growing(np.int64)
        self._metadata: list[Metadata] = []
        self._pooled = _Growing(np.float32, spec.dim)
        self._norms = _Growing(np.float32)
        self._tokens = _Growing(spec.code.dtype, spec.code.width) if spec.kind == "multi_vector" else None
        self._offsets = _Growing(np.int64)
        self._offsets.append(np.zeros(1, np.int64))
        self._encoded = None if encoded_dim is None else _Growing(np.float32, encoded_dim)
        self._raw_counts = _Growing(np.int64)
        self.nbytes = 0

    def __len__(self) -> int:
        return self._seqs.length

    def append(
        self, seqs: I64, metadata: Sequence[Metadata], passages: Passages, raw_counts: I64 | None = None
    ) -> None:
        """Rows for new versions; sequence numbers ascend over all appends. raw_counts: where the passages are without
        callers' vectors that are kept elsewhere."""
        self._pooled.append(passages.pooled)
        self._norms.append(passages.norms)
        if self._tokens is not None:
            assert passages.tokens is not None
            self._offsets.append(passages.tokens.offsets[1:] + self._tokens.length)
            self._tokens.append(passages.tokens.values)
        if self._encoded is not None:
            assert passages.encoded is not None
            self._encoded.append(passages.encoded)
        self._raw_counts.append(passages.raw_counts if raw_counts is None else raw_counts)
        self._metadata.extend(metadata)
        self.nbytes += passages.nbytes
        self._seqs.append(seqs)

    def view(self) -> TailView:
        """The rows there are now."""
        n = len(self)
        offsets = self._offsets.view(n + 1) if self._tokens is not None else None
        return TailView(
            self._spec.code,
            self._seqs.view(n),
            self._metadata,
            self._pooled.view(n),
            self._norms.view(n),
            None
            if self._tokens is None or offsets is None
            else TokenVectors(self._tokens.view(int(offsets[-1])), offsets),
            None if self._encoded is None else self._encoded.view(n),
            self._raw_counts.view(n),
        )


class TailView:
    """The first rows of a tail, as a part. Its first stage scores every row: data-free, and small by design."""

    def __init__(
        self,
        code: Code,
        seqs: I64,
        metadata: list[Metadata],
        pooled: F32,
        norms: F32,
        tokens: TokenVectors | None,
        encoded: F32 | None,
        raw_counts: I64,
    ) -> None:
        self.code, self.seqs, self.norms = code, seqs, norms
        self._metadata, self._pooled, self._tokens, self._encoded = metadata, pooled, tokens, encoded
        self._raw_counts = raw_counts
        self._columns = Columns(len(seqs), {})

    @property
    def size(self) -> int:
        return len(self.seqs)

    @cached_property
    def fields(self) -> frozenset[str]:
        """The metadata fields that its rows have."""
        return frozenset().union(*self._metadata[: self.size])

    def select(self, condition: Filter) -> Mask:
        # A column is made when a filter first asks for its field, all that are new in one pass over the rows.
        missing = [field for field in fields_of(condition) & self.fields if field not in self._columns.keys]
        if missing:
            self._columns.keys.update(Columns.build(self._metadata[: self.size], missing).keys)
        return self._columns.select(condition)

    def nearest(self, source: Source, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        vectors = self._encoded if source == "fde" else self._pooled
        assert vectors is not None
        rows = np.flatnonzero(allowed)
        scores = vectors[rows] @ query if len(rows) < self.size else vectors @ query
        # Stable, so that equal scores come by row, as the protocol of vector indexes has it.
        best = np.argsort(-scores, kind="stable")[:k]
        return Candidates(rows[best], scores[best])

    def pooled(self, start: int, stop: int) -> F32:
        return self._pooled[start:stop]

    def pooled_of(self, rows: I64) -> F32:
        return self._pooled[rows]

    def tokens(self, start: int, stop: int) -> TokenVectors:
        return decoded(self.codes(start, stop), self.code)

    def codes(self, start: int, stop: int) -> TokenVectors:
        assert self._tokens is not None
        return self._tokens.slice(start, stop)

    def codes_of(self, rows: I64) -> TokenVectors:
        assert self._tokens is not None
        return self._tokens

    def token_counts(self, rows: I64) -> I64:
        """Token vectors of each row."""
        return np.zeros(len(rows), np.int64) if self._tokens is None else self._tokens.counts[rows]

    def raw_counts(self, rows: I64) -> I64:
        """Callers' vectors that are kept of each row, in the database until they are sealed."""
        return self._raw_counts[rows]

    def metadata(self, rows: I64) -> list[Metadata]:
        return [self._metadata[row] for row in rows]

    def passages(self, rows: I64, *, encoded: bool = True) -> Passages:
        """Without callers' vectors, which stay in the database until they are sealed."""
        return Passages(
            self._pooled[rows],
            None if self._tokens is None else self._tokens.take(rows),
            self.norms[rows],
            self._encoded[rows] if encoded and self._encoded is not None else None,
            None,
        )
