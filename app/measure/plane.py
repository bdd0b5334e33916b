"""A collection as a picture: the pooled vectors of its documents, projected to the plane of their largest variance.

Principal axes (Pearson 1901): the two directions in which the centred vectors vary most. They are linear and repeat, so
the same documents lie at the same places, and how much of the variance they show is known; which documents are near
each other in the other dimensions they do not show.

Memory: 24 bytes a document that stands, ``BLOCK`` vectors at a time, and the matrix of the axes with what LAPACK needs
beside it, of at most ``WIDE`` columns (some 100 MB). Of wider vectors the axes are those of ``WIDE`` documents, spread
evenly, which are held in float32 (134 MB at most); all are projected on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.collection.layers import POOLED
from app.collection.part import Flat
from app.compute import deadline
from app.types import F32, F64, I64

BLOCK: Final = 1_024
"""Vectors that are read at a time."""
WIDE: Final = 2_048
"""Dimensions whose covariance is solved; a second or two."""
SAME: Final = 1e-24
"""Of the squares of all vectors: no more than rounding, so that equal vectors lie at one place."""
TITLE: Final = 80
"""Characters of a title."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Documents of one moment, in the order in which they were written, and where they lie.

    ids, titles: of each; titles cut to ``TITLE`` characters. x, y: float32 in [-1, 1], of one scale. variance: the
    share of each axis of the variance of these documents. of: documents that stand.
    """

    ids: list[str]
    titles: list[str]
    x: F32
    y: F32
    variance: tuple[float, float]
    generation: int
    of: int


def plane(collection: Collection, points: int) -> Plane:
    """At most ``points`` of the documents that stand, spread evenly over the order in which they were written, each by
    the vector of its first row. Raises Damaged, TooSlow, Unavailable."""
    with collection.snapshot() as snapshot:
        standing = snapshot.matching(None)
        chosen = spread(standing, points)
        parts: list[tuple[Flat, I64]] = []
        seqs = [np.zeros(0, np.int64)]
        for view, mask in zip(snapshot.views, snapshot.allowed(None, chosen), strict=True):
            documents = np.flatnonzero(mask)
            parts.append((view.part.flat(POOLED), view.part.owners.firsts[documents]))
            seqs.append(view.part.seqs[documents])
        places, variance = _projected(_Sample(parts, collection.spec.stored_dim))
        order = np.argsort(np.concatenate(seqs))
        named = snapshot.headed(chosen.tolist(), TITLE)
    heads = [named[seq] for seq in chosen.tolist()]
    x, y = np.ascontiguousarray(places[order].T)
    return Plane(
        [one.decode() for one, _ in heads],
        [title for _, title in heads],
        x,
        y,
        variance,
        snapshot.generation,
        len(standing),
    )


def spread(values: I64, most: int) -> I64:
    """At most so many of them, at even distances.

    >>> spread(np.arange(10), 4).tolist(), spread(np.arange(3), 4).tolist()
    ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(most, len(values))
    return values[np.arange(count) * len(values) // max(count, 1)]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Vectors as parts hold them. parts: of each its vectors and the rows that are meant. dim: of a vector."""

    parts: list[tuple[Flat, I64]]
    dim: int

    @property
    def size(self) -> int:
        return sum(len(rows) for _, rows in self.parts)

    def blocks(self) -> Iterator[F64]:
        """All, (at most ``BLOCK``, dim) float64 at a time. Raises Damaged, TooSlow."""
        for vectors, rows in self.parts:
            for start in range(0, len(rows), BLOCK):
                deadline.check(deadline.current())
                yield vectors.take(rows[start : start + BLOCK]).astype(np.float64)

    def spread(self, most: int) -> F32:
        """(at most so many, dim) float32."""
        wanted, before, found = spread(np.arange(self.size), most), 0, [np.zeros((0, self.dim), np.float32)]
        for vectors, rows in self.parts:
            own = wanted[(wanted >= before) & (wanted < before + len(rows))] - before
            found.append(vectors.take(rows[own]))
            before += len(rows)
        return np.concatenate(found)


def _projected(sample: _Sample) -> tuple[F32, tuple[float, float]]:
    """(size, 2) in [-1, 1], and the share of each axis of the variance."""
    places, count = np.zeros((sample.size, 2)), sample.size
    mean, squares = np.zeros(sample.dim), 0.0
    for block in sample.blocks():
        mean += block.sum(axis=0) / count
        squares += float(np.vdot(block, block))
    axes = (_axes_of_some if sample.dim > WIDE else _axes)(sample, mean) if count > 1 else np.zeros((2, sample.dim))
    start, whole = 0, 0.0
    for block in sample.blocks():
        block -= mean
        whole += float(np.vdot(block, block))
        places[start : start + len(block)] = block @ axes.T
        start += len(block)
    if whole <= SAME * squares:
        return np.zeros(places.shape, np.float32), (0.0, 0.0)
    first, second = (float(np.vdot(axis, axis)) / whole for axis in places.T)
    return (places / np.abs(places).max()).astype(np.float32), (first, second)


def _axes(sample: _Sample, mean: F64) -> F64:
    """(2, dim) the eigenvectors of the two largest eigenvalues of the covariance; of one dimension the second is 0."""
    covariance = np.zeros((sample.dim, sample.dim))
    for block in sample.blocks():
        block -= mean
        covariance += block.T @ block
    return _first_two(np.linalg.eigh(covariance)[1])


def _axes_of_some(sample: _Sample, mean: F64) -> F64:
    """The same of ``WIDE`` vectors, by the products of each with each, which have the same eigenvalues."""
    some = sample.spread(WIDE)
    products = np.zeros((len(some), len(some)))
    pieces = [slice(start, start + BLOCK) for start in range(0, sample.dim, BLOCK)]
    for piece in pieces:
        deadline.check(deadline.current())
        columns = some[:, piece].astype(np.float64) - mean[piece]
        products += columns @ columns.T
    values, vectors = np.linalg.eigh(products)
    leading, lengths = vectors[:, -2:], np.sqrt(np.maximum(values[-2:], 0))
    axes = np.concatenate([(some[:, piece].astype(np.float64) - mean[piece]).T @ leading for piece in pieces])
    known = lengths > 1e-6 * lengths.max(initial=0)
    return _first_two(np.where(known, axes / np.where(known, lengths, 1), 0))


def _first_two(vectors: F64) -> F64:
    """(2, dim) of (dim, n) ascending ones: the last two, the largest number of each positive, so that they repeat."""
    axes = np.zeros((2, len(vectors)))
    leading = vectors[:, ::-1][:, :2].T
    largest = leading[np.arange(len(leading)), np.abs(leading).argmax(axis=1)]
    axes[: len(leading)] = leading * np.where(largest < 0, -1.0, 1.0)[:, None]
    return axes
