"""The data of callers that lie in the parts of a moment: sparse vectors, what documents carry, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from app.collection.layers import RAW, SPARSE, TOKENS, VALUES
from app.collection.part import View
from app.collection.spec import CollectionSpec
from app.collection.view import Published
from app.sparse.rows import only_of
from app.types import F32, I64, SparseVector


def by_part(published: Published, seqs: Sequence[int]) -> list[tuple[View, list[int], I64]]:
    """Each part that holds some of the versions, with these and their places there."""
    parts: dict[int, tuple[View, list[int], list[int]]] = {}
    for seq, (view, place) in published.locate(seqs).items():
        _, some, places = parts.setdefault(id(view), (view, [], []))
        some.append(seq)
        places.append(place)
    return [(view, some, np.array(places, np.int64)) for view, some, places in parts.values()]


def given_sparse(published: Published, seqs: Sequence[int]) -> dict[int, SparseVector | None]:
    """Callers' sparse vectors of these versions, to the bit; those that no part holds are left out. Raises Damaged."""
    found: dict[int, SparseVector | None] = {}
    for view, some, places in by_part(published, seqs):
        owners = view.part.owners
        rows, own = view.part.ragged(SPARSE).take(owners.rows_of(places)), owners.take(places)
        found.update((seq, only_of(rows, own, i)) for i, seq in enumerate(some))
    return found


def values_of(published: Published, seqs: Sequence[int]) -> dict[int, F32 | None]:
    """What these versions carry, to the bit, (n, the collection's own width) each, None for nothing; those that no part
    holds are left out. Raises Damaged."""
    found: dict[int, F32 | None] = {}
    for view, some, places in by_part(published, seqs):
        rows = view.part.ragged(VALUES).take(view.part.owners.firsts[places])
        found.update((seq, own if len(own) else None) for seq, own in zip(some, rows, strict=True))
    return found


def numbers_of(published: Published, seqs: Sequence[int], include: Set[str], spec: CollectionSpec) -> dict[int, int]:
    """How many numbers are included of each version: of its vectors, and of what it carries."""
    found: dict[int, int] = {}
    for view, some, places in by_part(published, seqs):
        rows = np.cumsum(np.concatenate([[0], view.part.owners.take(places).counts]))
        of_layers = view.part.counts(places)
        counts = np.zeros(rows[-1], np.int64)
        if "vectors" in include:
            own = of_layers.get(RAW if spec.keeps_raw else TOKENS, np.ones(rows[-1], np.int64))
            counts = own * spec.dim + (2 * of_layers[SPARSE] if spec.given_sparse else 0)
        if "values" in include and spec.values is not None:
            counts = counts + of_layers[VALUES] * spec.values.dim
        sums = np.diff(np.cumsum(np.concatenate([[0], counts]))[rows])
        found.update(zip(some, sums.tolist(), strict=True))
    return found
