"""The tail: what was written since the last sealing, in memory, searchable at once.

The database holds the same vectors durably, one chunk a write. Arrays only grow, and a growth beyond their capacity
makes new arrays; so a snapshot that remembers a length reads on undisturbed while the writer appends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codes.protocol import Code
from app.collection.layers import NORMS, SPARSE, Layer
from app.collection.part import Elsewhere, Flat, Own, Ragged, gathered
from app.collection.passages import Passages
from app.columns.column import Column
from app.columns.columns import Columns, ColumnsBuilder
from app.compute.growing import Growing
from app.filters import Filter, Shape, fields_of
from app.lexical.sequences import Sequences
from app.lexical.words import WORD_BYTES, GrowingWords, WordsView
from app.metadata.declared import FieldType
from app.metadata.geo import Point
from app.metadata.names import named, parts_of_point
from app.metadata.values import Named, named_values
from app.scoring.inner_product import fast_scores
from app.sparse.postings import Forward
from app.store.files import InMemory
from app.types import F32, F64, I64, Mask, Metadata, Owners, TokenVectors
from app.vector_index.protocol import Candidates
from app.vector_index.refined import nearest_of


class Tail:
    """The arrays. One writer at a time; readers take a ``TailView``."""

    def __init__(self, layers: Sequence[Layer], code: Code, words: GrowingWords | None = None) -> None:
        """layers: of the collection; of those that are cold only the counts are held. words: nothing yet; None where
        none are indexed."""
        self._layers, self._code, self._words = layers, code, words
        self._seqs = Growing(np.int64)
        self._metadata: list[Metadata] = []
        self._named: list[Named] = []
        self._starts = _offsets()
        self._values = {
            layer.name: Growing(layer.held, *(() if layer.width is None else (layer.width,)))
            for layer in layers
            if layer.hot
        }
        self._offsets = {layer.name: _offsets() for layer in layers if layer.ragged}
        self.nbytes = 0

    def __len__(self) -> int:
        """Documents."""
        return self._seqs.length

    def append(
        self,
        seqs: I64,
        metadata: Sequence[Metadata],
        passages: Passages,
        counts: Mapping[str, I64] | None = None,
        words: Sequences | None = None,
    ) -> None:
        """New versions; sequence numbers ascend over all appends. All of them, or where memory ends, none.

        counts: of each ragged layer the values of each row, where the passages are without the cold ones. words: of the
        documents, where they are indexed.
        """
        if counts is None:
            counts = passages.counts
        new: list[tuple[Growing, NDArray[Any]]] = [(self._starts, _continued(self._starts, passages.owners.counts))]
        new += [(self._offsets[name], _continued(self._offsets[name], count)) for name, count in counts.items()]
        for layer in self._layers:
            if layer.hot:
                values = passages.ragged(layer.name).values if layer.ragged else passages.flat(layer.name)
                new.append((self._values[layer.name], values))
        new.append((self._seqs, seqs))
        for growing, rows in new:
            growing.reserve(len(rows))
        if self._words is not None and words is not None:
            self._words.append(words)
            self.nbytes += len(words.ids) * WORD_BYTES
        by_name = list(map(named_values, metadata))
        for growing, rows in new:
            growing.append(rows)
        self._metadata.extend(metadata)
        self._named.extend(by_name)
        self.nbytes += sum(rows.nbytes for _, rows in new)

    def view(self) -> TailView:
        """The rows that there are now."""
        starts = self._starts.view(len(self) + 1)
        owners = Owners(len(self), None if int(starts[-1]) == len(self) else starts)
        offsets = {name: growing.view(owners.rows + 1) for name, growing in self._offsets.items()}
        values = {
            name: growing.view(int(offsets[name][-1]) if name in offsets else owners.rows)
            for name, growing in self._values.items()
        }
        words = None if self._words is None else self._words.view()
        return TailView(
            self._code, self._seqs.view(len(self)), owners, self._metadata, self._named, values, offsets, words
        )


def _offsets() -> Growing:
    found = Growing(np.int64)
    found.append(np.zeros(1, np.int64))
    return found


def _continued(offsets: Growing, counts: I64) -> I64:
    """The offsets that follow for so many values more."""
    found: I64 = np.cumsum(counts) + offsets.view(offsets.length)[-1]
    return found


class TailView:
    """The first documents of a tail, as a part. Its first stage scores every row: data-free, and small by design."""

    def __init__(
        self,
        code: Code,
        seqs: I64,
        owners: Owners,
        metadata: list[Metadata],
        by_name: list[Named],
        values: Mapping[str, NDArray[Any]],
        offsets: Mapping[str, I64],
        words: WordsView | None,
    ) -> None:
        """by_name: the metadata by names. values: of each hot layer. offsets: of each ragged one, the cold ones too."""
        self._named = by_name
        self.words = words
        self.code, self.seqs, self.owners = code, seqs, owners
        self._metadata, self._values, self._offsets = metadata, values, offsets
        self._columns = Columns(owners.documents, {})
        self.own: dict[str, Own] = {}
        self.elsewhere: Elsewhere | None = None

    @property
    def size(self) -> int:
        return self.owners.rows

    @property
    def norms(self) -> F32:
        return self._values[NORMS]

    @cached_property
    def fields(self) -> Set[str]:
        return frozenset().union(*self._named[: self.owners.documents])

    def has(self, layer: str) -> bool:
        return layer in self._values

    def flat(self, layer: str) -> Flat:
        return Flat(InMemory(self._values[layer]))

    def ragged(self, layer: str) -> Ragged:
        return Ragged(InMemory(self._values[layer]), self._offsets[layer])

    @property
    def sparse(self) -> Forward | None:
        return Forward(TokenVectors(self._values[SPARSE], self._offsets[SPARSE])) if self.has(SPARSE) else None

    @property
    def neighbours(self) -> None:
        """None: every row of a tail is scored."""
        return None

    def select(self, condition: Filter, own: Mapping[str, Column]) -> Mask:
        return self._having(fields_of(condition)).select(condition, own)

    def unfit(self, field: str, kind: FieldType) -> Mask:
        return self._having({field, *parts_of_point(field)}).unfit(field, kind)

    def distances(self, field: str, center: Point) -> F64:
        return self._having(set(parts_of_point(field))).distances(field, center)

    def shapes(self, field: str) -> Set[Shape]:
        return self._having({field}).shapes(field)

    def column(self, field: str) -> Column | None:
        return self._having({field}).column(field)

    def _having(self, fields: Set[str]) -> Columns:
        """The columns, of these fields at least. One is made when it is first asked for, all that are new in one pass
        over the documents."""
        missing = [name for name in set(map(named, fields)) & self.fields if name not in self._columns.keys]
        if missing:
            builder = ColumnsBuilder(missing)
            builder.add_named(self._named[: self.owners.documents])
            self._columns.keys.update(builder.finish().keys)
        return self._columns

    def nearest(self, layer: str, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        vectors = self._values[layer]
        rows = np.flatnonzero(allowed)
        scores = fast_scores(query, vectors[rows] if len(rows) < self.size else vectors)
        # Stable, so that equal scores come by row, as the protocol of vector indexes has it.
        best = np.argsort(-scores, kind="stable")[:k]
        return Candidates(rows[best], scores[best])

    def nearest_many(self, layer: str, queries: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        rows = np.flatnonzero(allowed).astype(np.int64)
        return nearest_of(queries, self._values[layer], rows, k, lambda query, of, own: fast_scores(query, of[own]))

    def counts(self, documents: I64) -> dict[str, I64]:
        """Of each ragged layer, the cold ones too, the values of each row of some documents."""
        rows = self.owners.rows_of(documents)
        return {name: np.diff(offsets)[rows] for name, offsets in self._offsets.items()}

    def metadata(self, documents: I64) -> list[Metadata]:
        return [self._metadata[place] for place in documents]

    def passages(self, documents: I64, *, staged: bool = True) -> Passages:
        """Without the cold layers, which stay in the database until they are sealed. The first stage's encodings are
        read whether asked for or not: they lie in memory."""
        ragged = [name for name in self._values if name in self._offsets]
        return gathered(self, documents, [name for name in self._values if name not in self._offsets], ragged)
