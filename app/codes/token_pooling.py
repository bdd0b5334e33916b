"""Fewer token vectors a document: like ones become one, their mean (Clavié, Chaffin, Adams 2024, arXiv 2409.14683).

The vectors of a document are clustered hierarchically by Ward's linkage, which merges the two clusters whose joining
moves their vectors least, in sums of squares. A MaxSim moves by no more than its query vectors' lengths times how far
their best vectors moved, so that is the quantity to keep small; for vectors of length 1 it follows their cosines.

Unlike the paper: no vector is set aside (encoders and callers bring no special tokens that we know of); exactly as many
clusters are made as are wanted, among equal distances too; and a document is clustered in runs, one after the other,
since time and memory grow with the square of a run: 2,048 vectors make a matrix of 34 MB.

``Few`` keeps the same number of vectors of every document, as ME-BERT does (Luan, Eisenstein, Toutanova, Collins:
"Sparse, Dense, and Attentional Representations for Text Retrieval", 2021, arXiv 2005.00181). There they
are the first ones of an encoder that was trained so; here the means of clusters, which takes no training. The vectors
of a document that is longer than a run are clustered in runs first, and then the clusters' means.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.codes.ward import merges
from app.compute.workers import Workers
from app.types import F32, F64, I64, Few, Pooling, TokenVectors

RUN: Final = 2048
"""Vectors that are clustered together at most."""
FEWEST: Final = 8
"""Vectors that a document keeps, if it has them: so few cost little, and a title would be left with one."""
_GRID: Final = 2.0**40
"""Squared distances are rounded to this part of the largest square: equal vectors are then at 0."""


def pool_tokens(tokens: TokenVectors, pooling: Pooling, workers: Workers | None = None) -> TokenVectors:
    """The means of each document's clusters, float32, in the order of their first vectors.

    tokens: as they are scored (of length 1 under cosine); their means are shorter, and not normalised here. A document
    of t vectors keeps ceil(t / pooling), but FEWEST (or t) at least; or as many as ``Few`` says. It depends on nothing
    but the document's vectors. workers: share the documents, one at a time each, for one of 2,000 vectors takes longer
    than a hundred of 200.

    >>> pair = np.array([[1, 0], [0, 1]] * 8, np.float32)
    >>> pool_tokens(TokenVectors.join([pair, pair[:1]]), 2).offsets.tolist()
    [0, 8, 9]
    >>> pool_tokens(TokenVectors.join([pair, pair[:1]]), Few(2)).offsets.tolist()
    [0, 2, 3]
    """
    if pooling == 1 or len(tokens) == 0:
        return tokens

    def pooled(row: int) -> F32:
        vectors = np.asarray(tokens[row], np.float64)
        return _few(vectors, pooling.vectors) if isinstance(pooling, Few) else _means(vectors, pooling)

    if workers is None:
        return TokenVectors.join([pooled(row) for row in range(len(tokens))])
    longest = np.argsort(-tokens.counts, kind="stable").tolist()
    left = iter(longest)
    found: dict[int, F32] = {}

    def some(start: int, stop: int) -> None:
        # An iterator hands each row to one thread: list iterators step under the interpreter's lock.
        for row in left:
            found[row] = pooled(row)

    workers.map_slices(len(tokens), some)
    return TokenVectors.join([found[row] for row in range(len(tokens))])


def _means(vectors: NDArray[np.float64], factor: int) -> F32:
    count = len(vectors)
    wanted = max(-(-count // factor), min(count, FEWEST))
    if wanted == count:
        return vectors.astype(np.float32)
    # Whole multiples of the factor, so that the runs' clusters add up to what the document should have.
    run = RUN // factor * factor
    if count <= run:
        return _cluster_means(vectors, wanted)
    parts = [vectors[start : start + run] for start in range(0, count, run)]
    return np.concatenate([_cluster_means(part, -(-len(part) // factor)) for part in parts])


def _few(vectors: NDArray[np.float64], wanted: int) -> F32:
    count = len(vectors)
    if count <= wanted:
        return vectors.astype(np.float32)
    labels = np.arange(count)
    means = vectors
    while len(means) > RUN:
        # Runs of one size leave half as many clusters each, until these are one run.
        parts = np.array_split(means, -(-len(means) // RUN))
        left = [max(-(-len(part) // 2), min(len(part), -(-wanted // len(parts)))) for part in parts]
        firsts = np.cumsum([0, *left]).tolist()
        joined = [clusters(part, own) + first for part, own, first in zip(parts, left, firsts, strict=False)]
        labels = np.concatenate(joined)[labels]
        means = _means_of(vectors, labels, firsts[-1])
    return _means_of(vectors, clusters(means, wanted)[labels], wanted).astype(np.float32)


def _cluster_means(vectors: NDArray[np.float64], wanted: int) -> F32:
    return _means_of(vectors, clusters(vectors, wanted), wanted).astype(np.float32)


def _means_of(vectors: F64, labels: I64, count: int) -> F64:
    """(count, dim): of the vectors of each label, all of which some have."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(count))
    sums: F64 = np.add.reduceat(vectors[order], starts, axis=0)
    found: F64 = sums / np.bincount(labels, minlength=count)[:, None]
    return found


def clusters(vectors: NDArray[np.float64], wanted: int) -> I64:
    """The cluster of each vector, (n,): exactly ``wanted`` (1 to n), numbered in the order of their first vectors.

    vectors: (n, dim) float64.

    >>> clusters(np.array([[0.0, 1], [1, 0], [0, 1]]), 2).tolist()
    [0, 1, 0]
    """
    count = len(vectors)
    if wanted == count:
        return np.arange(count)
    # Each row points to one of its cluster, the last of them to itself.
    owner = list(range(count))

    def last(row: int) -> int:
        while owner[row] != row:
            owner[row] = owner[owner[row]]
            row = owner[row]
        return row

    first, second = merges(_distances(vectors))
    for one, other in zip(first[: count - wanted].tolist(), second[: count - wanted].tolist(), strict=True):
        owner[last(one)] = last(other)
    ends = np.array([last(row) for row in range(count)])
    _, starts, labels = np.unique(ends, return_index=True, return_inverse=True)
    rank = np.empty(len(starts), np.int64)
    rank[np.argsort(starts)] = np.arange(len(starts))
    result: I64 = rank[labels]
    return result


def _distances(vectors: NDArray[np.float64]) -> F64:
    """Euclidean, (n, n). BLAS may sum the two halves in another order."""
    products = vectors @ vectors.T
    squares = np.diagonal(products).copy()
    largest = squares.max()
    if largest == 0:
        return np.zeros_like(products)
    products *= -2
    products += squares[:, None]
    products += squares
    products *= _GRID / largest
    np.maximum(np.rint(products, out=products), 0, out=products)
    found: F64 = np.sqrt(products, out=products)
    return found
