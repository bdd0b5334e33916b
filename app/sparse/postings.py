"""Postings of sparse vectors, and the compiled loops over them.

The postings of an index are a run of pairs, ascending by row: a row of the part, and the bits of its weight in float32.
A score is the sum of query weight * weight over the common indices, in float64, in ascending order of the indices; both
ways to it, by postings and row by row, add in that order and give the same bits. There is no faster pass: these are THE
scores.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.compute.native import kernel
from app.store.files import InMemory, Rows
from app.types import F32, F64, I64, SparseVector, TokenVectors

I32 = NDArray[np.int32]
_PIECE: Final = 2**20
"""Pairs that are inverted in one step."""


class Sparse(Protocol):
    """The sparse vectors of a part, as they are searched. Reading raises Damaged."""

    def scores(self, query: SparseVector) -> F64:
        """(rows,): the inner product of each with the query; 0 where they have no index in common."""
        ...


@dataclass(frozen=True)
class Inverted:
    """Of a sealed part. indices: those that are used, ascending. starts: (indices + 1,) of ``pairs``, (n, 2)."""

    rows: int
    indices: I32
    starts: I64
    pairs: Rows

    def scores(self, query: SparseVector) -> F64:
        scores = np.zeros(self.rows)
        places = np.searchsorted(self.indices, query.indices)
        for place, index, weight in zip(places.tolist(), query.indices.tolist(), query.values.tolist(), strict=True):
            if place < len(self.indices) and self.indices[place] == index:
                pairs = self.pairs.rows(int(self.starts[place]), int(self.starts[place + 1]))
                add_products(pairs, pairs.view(np.float32), weight, scores)
        return scores


@dataclass(frozen=True)
class Forward:
    """Of a growing part: row by row (a forward index), for it is small."""

    vectors: TokenVectors

    def scores(self, query: SparseVector) -> F64:
        scores, pairs = np.zeros(len(self.vectors)), self.vectors.values
        add_common(
            pairs, pairs.view(np.float32), self.vectors.offsets, query.indices, query.values.astype(np.float64), scores
        )
        return scores


def invert(values: Rows, offsets: I64) -> tuple[I32, I64, I32]:
    """The postings of rows: the indices that are used, where the postings of each begin, and all pairs.

    values: (n, 2), of a layer. offsets: (rows + 1,). Memory is 8 bytes a pair, and a piece.
    """
    count = int(offsets[-1])
    edges = [*range(0, count, _PIECE), count]
    pieces = list(itertools.pairwise(edges))
    indices = np.empty(0, np.int32)
    for start, stop in pieces:
        indices = np.union1d(indices, values.rows(start, stop)[:, 0]).astype(np.int32)
    starts = np.zeros(len(indices) + 1, np.int64)
    for start, stop in pieces:
        places = np.searchsorted(indices, values.rows(start, stop)[:, 0])
        starts[1:] += np.bincount(places, minlength=len(indices))
    np.cumsum(starts, out=starts)
    pairs, ends = np.empty((count, 2), np.int32), starts[:-1].copy()
    for start, stop in pieces:
        piece = values.rows(start, stop)
        owners = np.searchsorted(offsets, np.arange(start, stop), side="right") - 1
        place_pairs(np.searchsorted(indices, piece[:, 0]), owners.astype(np.int32), piece, ends, pairs)
    return indices, starts, pairs


@kernel
def place_pairs(places: I64, owners: I32, piece: I32, ends: I64, pairs: I32) -> None:
    """Puts the pairs of some rows behind those that their indices have. ends: (indices,), where that is; moved on."""
    for i in range(len(places)):
        place = places[i]
        pairs[ends[place], 0] = owners[i]
        pairs[ends[place], 1] = piece[i, 1]
        ends[place] += 1


@kernel
def add_products(pairs: I32, weights: F32, weight: float, scores: F64) -> None:
    """Adds to the scores of the rows of one index. weights: the same pairs, of which the second number is meant."""
    for i in range(len(pairs)):
        scores[pairs[i, 0]] += weight * float(weights[i, 1])


@kernel
def add_common(pairs: I32, weights: F32, offsets: I64, indices: I32, asked: F64, scores: F64) -> None:
    """Adds, row by row, what its indices have in common with those asked for, which ascend too."""
    for row in range(len(offsets) - 1):
        own, place = 0, offsets[row]
        while own < len(indices) and place < offsets[row + 1]:
            if pairs[place, 0] < indices[own]:
                place += 1
            elif pairs[place, 0] > indices[own]:
                own += 1
            else:
                scores[row] += asked[own] * float(weights[place, 1])
                own += 1
                place += 1


def loops() -> Iterator[None]:
    """Compiles every loop, or loads it, one between two of what is yielded (``native.prepare``). Of a sealed part,
    whose arrays are mapped and cannot be written to, and of a growing one."""
    query = SparseVector(np.array([1], np.int32), np.ones(1, np.float32))
    values: NDArray[Any] = np.array([[1, 0]], np.int32)
    offsets = np.array([0, 1], np.int64)
    Forward(TokenVectors(values, offsets)).scores(query)
    yield
    sealed = values.copy()
    sealed.flags.writeable = False
    indices, starts, pairs = invert(InMemory(sealed), offsets)
    yield
    pairs.flags.writeable = False
    Inverted(1, indices, starts, InMemory(pairs)).scores(query)
