"""Sparse vectors as a layer has them: of each row a run of pairs, ascending by index.

A pair is two int32: an index, and the bits of its weight in float32. A row may have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.types import Owners, SparseVector, TokenVectors


def packed(vectors: Sequence[SparseVector | None]) -> TokenVectors:
    """A row for each vector, empty for None.

    >>> one = SparseVector(np.array([3, 7], np.int32), np.array([1.0, 0.5], np.float32))
    >>> rows = packed([one, None])
    >>> rows.offsets.tolist(), unpacked(rows[0]).values.tolist(), len(unpacked(rows[1]))
    ([0, 2, 2], [1.0, 0.5], 0)
    """
    runs = [NOTHING if one is None else _run(one) for one in vectors]
    return TokenVectors.join(runs) if runs else TokenVectors(NOTHING, np.zeros(1, np.int64))


def unpacked(run: NDArray[Any]) -> SparseVector:
    """The vector of one row, (n, 2) int32."""
    return SparseVector(run[:, 0].copy(), run[:, 1].copy().view(np.float32))


def of_documents(vectors: Sequence[SparseVector | None], owners: Owners) -> TokenVectors:
    """Rows of documents of which each has at most one vector, in its first row. owners: whose the rows are."""
    rows: list[SparseVector | None] = [None] * owners.rows
    for first, vector in zip(owners.firsts.tolist(), vectors, strict=True):
        rows[first] = vector
    return packed(rows)


def only_of(rows: TokenVectors, owners: Owners, document: int) -> SparseVector | None:
    """The one vector of a document; None where it has none."""
    start, stop = owners.span(document, document + 1)
    run = rows.slice(start, stop).values
    return unpacked(run) if len(run) else None


def are_vectors(run: NDArray[Any], offsets: NDArray[np.int64]) -> bool:
    """Whether a stranger's rows are such vectors: indices of each ascend from 0, weights are finite and above 0."""
    indices, weights = run[:, 0].astype(np.int64), np.ascontiguousarray(run[:, 1]).view(np.float32)
    if not (np.isfinite(weights).all() and (weights > 0).all() and (indices >= 0).all()):
        return False
    ascends = np.diff(indices, prepend=-1) > 0
    # Each row begins anew.
    starts = offsets[:-1][np.diff(offsets) > 0]
    ascends[starts - offsets[0]] = True
    return bool(ascends.all())


def _run(vector: SparseVector) -> NDArray[np.int32]:
    return np.stack([vector.indices, np.ascontiguousarray(vector.values).view(np.int32)], axis=1)


NOTHING = np.empty((0, 2), np.int32)
