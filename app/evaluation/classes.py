"""Queries of class labels: each document asks for the others that have the same value in a metadata field.

The query is the document's own vectors and words, as in any search by an example (app.query.alike), so every modality
is asked alike; the document itself is no answer. What has a value is judged for every such query: 1 in the same class,
0 in another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, ValuesView
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.view import Snapshot
from app.errors import Conflict, Invalid
from app.evaluation.judged import Judged
from app.results.values import Typed, require_field, typed

MAX_DRAWN: Final = 10_000
"""Queries."""
MAX_HITS: Final = 4_000_000
"""Of all queries and settings together, which are in memory until they are measured: 100 bytes each, about."""
_SCALARS: Final = {"number", "string", "boolean", "null"}


@dataclass(frozen=True, slots=True)
class Classes(Mapping[str, int]):
    """The grades of one document's query, over all that have a value. labels: of each document, by id, shared among the
    queries. own: the document that asks, which has no grade."""

    labels: Mapping[str, int]
    own: str
    same: int
    """Of the class, the document itself left out."""

    def __getitem__(self, name: str) -> int:
        if name == self.own:
            raise KeyError(name)
        return int(self.labels[name] == self.labels[self.own])

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.labels if name != self.own)

    def __len__(self) -> int:
        return len(self.labels) - 1

    def values(self) -> ValuesView[int]:
        return _Grades(self)


class _Grades(ValuesView[int]):
    """In any order, without looking at each document."""

    _mapping: Classes

    def __iter__(self) -> Iterator[int]:
        return chain(repeat(1, self._mapping.same), repeat(0, len(self._mapping) - self._mapping.same))


@dataclass(frozen=True, slots=True)
class Labelled:
    """queries: of documents that are not alone in their class. most: relevant documents of the query that has the most.
    documents: of the collection."""

    queries: list[Judged]
    most: int
    documents: int


def of_classes(collection: Collection, field: str, count: int, at: str = "/classes") -> Labelled:
    """At most ``count`` queries, drawn from all that there are; they repeat for the same generation.

    Raises Invalid for what is no field, or one that has lists or objects, of which no document is in one class;
    Conflict (collection_empty) where no two documents have the same value.
    """
    require_field(field, f"{at}/field")
    with collection.snapshot() as snapshot:
        if several := sorted(snapshot.shapes(field) - _SCALARS):
            raise Invalid.at(
                f"{at}/field", f"expected one value a document, which is its class; {field!r} has {', '.join(several)}"
            )
        labels = _labels(snapshot, field)
        random = np.random.default_rng([snapshot.generation, len(field)])
        documents = sum(view.live for view in snapshot.views)
    sizes = np.bincount(np.array([*labels.values()], np.int64)).tolist()
    names = [name for name, label in labels.items() if sizes[label] > 1]
    if not names:
        raise Conflict(f"no two documents have the same {field!r}, so none asks for another", code="collection_empty")
    drawn = [names[place] for place in np.sort(random.permutation(len(names))[:count]).tolist()]
    return Labelled(
        [Judged(name, Classes(labels, name, sizes[labels[name]] - 1), document=name) for name in drawn],
        max(sizes[labels[name]] - 1 for name in drawn),
        documents,
    )


def _labels(snapshot: Snapshot, field: str) -> dict[str, int]:
    """The class of each document that has one, by id, in the order of writing."""
    codes: dict[Typed, int] = {}
    found: dict[int, int] = {}
    for view in snapshot.views:
        column = snapshot.column(view, field)
        if column is None:
            continue
        own = column.spread(len(view.alive))
        places = np.flatnonzero((own >= 0) & view.alive)
        seqs = view.part.seqs[places].tolist()
        kinds = {code: typed(column.scalars.value(code)) for code in np.unique(own[places]).tolist()}
        for seq, code in zip(seqs, own[places].tolist(), strict=True):
            found[seq] = codes.setdefault(kinds[code], len(codes))
    ids = snapshot.identify(sorted(found))
    return {ids[seq].decode(): found[seq] for seq in sorted(found)}
