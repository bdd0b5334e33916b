"""Alignment of sequences: score(Q, D) = the largest, over offsets o, of the sum over i of <q_i, d_(i + o)>.

Q has m segments and D has n, each in its order. An offset is any at which at least one segment of the query lies on one
of the document, -m < o < n; a segment that lies on none adds 0. So a query may begin before a document or end behind
it, and may be longer: what counts is what lies on it. Of equal offsets the nearest to 0 is told among those not above
it, and before all others, else the least.

Source: Chang et al.: "Neural Audio Fingerprint for High-specific Audio Retrieval based on Contrastive Learning", ICASSP
2021 (arXiv 2010.11910), section 4 (sequence search: of every candidate offset the inner products along the diagonal);
it leaves open what happens at the ends of a recording.

A collection keeps a segment a row. The row of segment j, if it is not the first, stands for the offset j; the first one
stands for all that are not above 0. So a document's score is that of its best row, as of any other document.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.compute.blas import keep_to_one_thread
from app.compute.native import kernel
from app.errors import Invalid
from app.scoring import inner_product, maxsim
from app.types import F32, F64, I64, Mask, TokenVectors

AT_ONCE: Final = 1 << 20
"""Numbers of segments and of products that are held at a time; see app.scoring.maxsim."""


class Windows(NamedTuple):
    """The segments that some rows are scored by. read: (l,) the rows of these, ascending, each once. places: (r,) where
    among them each row is. stops: (r,) the place behind the last segment of its document that the query can reach.
    firsts: (r,) whether the row is its document's first."""

    read: I64
    places: I64
    stops: I64
    firsts: Mask


def windows(rows: I64, begins: I64, ends: I64, length: int) -> Iterator[tuple[slice, Windows]]:
    """Rows, ascending, in pieces of which each takes little memory. begins, ends: (r,) the first row of the document of
    each, and the one behind its last. length: of the query.

    >>> ((_, made),) = windows(np.array([0, 1, 7]), np.array([0, 0, 5]), np.array([5, 5, 9]), 3)
    >>> made.read.tolist(), made.places.tolist(), made.stops.tolist(), made.firsts.tolist()
    ([0, 1, 2, 3, 7, 8], [0, 1, 4], [3, 4, 6], [True, False, False])
    """
    stops = np.minimum(rows + length, ends)
    # A window begins in the one before, or behind it.
    news = np.maximum(rows, np.concatenate([[0], stops[:-1]]))
    firsts, total = rows == begins, np.cumsum(stops - news)
    most = max(1, AT_ONCE // (length + 1))
    start = 0
    while start < len(rows):
        before = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + most, side="right")))
        own, new = stops[start:stop], news[start:stop].copy()
        new[0] = rows[start]
        lengths = own - new
        behind = np.cumsum(lengths)
        read = np.arange(int(behind[-1])) + np.repeat(new - (behind - lengths), lengths)
        places = behind - (own - rows[start:stop])
        yield slice(start, stop), Windows(read, places, behind, firsts[start:stop])
        start = stop


def fast_scores(query: F32, segments: NDArray[Any], norms: F32, made: Windows) -> tuple[F32, F64]:
    """(r,): scores of rows in float32, and how far each is from its reference at most.

    query: (m, dim). segments: (l, dim) float32, ``made.read``. norms: (l,), of these, as ``rounding.norms_up`` gives.
    """
    keep_to_one_thread()
    # Zero columns up to a multiple of four: app.scoring.maxsim.
    columns = np.zeros((query.shape[1], -(-len(query) // 4) * 4), np.float32)
    columns[:, : len(query)] = query.T
    values, tops = np.empty(len(made.places)), np.empty(len(made.places), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        products = segments @ columns
        _sums(products, norms, made.places, made.stops, made.firsts, len(query), values, tops)
        return values.astype(np.float32), maxsim.error_bound(query, tops)


@kernel
def _sums(
    products: F32, norms: F32, places: I64, stops: I64, firsts: Mask, length: int, values: F64, tops: F32
) -> None:
    """Along the diagonals. values, tops: (r,), made here; tops are the largest norms that a row's score has met."""
    for row in range(len(places)):
        place, count = places[row], stops[row] - places[row]
        total, top = 0.0, np.float32(0)
        for i in range(count):
            total += np.float64(products[place + i, i])
            top = max(top, norms[place + i])
        if firsts[row]:
            for before in range(1, length):
                own = 0.0
                for i in range(min(count, length - before)):
                    own += np.float64(products[place + i, before + i])
                total = max(total, own)
        values[row], tops[row] = total, top


def reference(query: F32, segments: NDArray[Any], offset: int) -> float:
    """THE score of a document, (n, dim), at one offset: the real sum of all products, rounded once to float32.

    >>> one = np.eye(2, dtype=np.float32)
    >>> [reference(one, np.concatenate([one, one]), offset) for offset in (-1, 0, 1, 2, 3)]
    [0.0, 2.0, 0.0, 2.0, 0.0]
    """
    start, stop = max(0, -offset), min(len(query), len(segments) - offset)
    if stop <= start:
        raise Invalid(f"at the offset {offset} no segment of {len(query)} lies on one of {len(segments)}")
    return inner_product.reference(query[start:stop].ravel(), segments[start + offset : stop + offset].ravel())


def first_reference(query: F32, opening: F32, norms: F32) -> tuple[float, int]:
    """The score of a document at the best offset that is not above 0, and the offset.

    opening: (min(m, n), dim), what it begins with. norms: of these.
    """
    keep_to_one_thread()
    with np.errstate(over="ignore", invalid="ignore"):
        products = opening @ query.T
        sums = np.array([np.trace(products[:, before:], dtype=np.float64) for before in range(len(query))])
        off = float(maxsim.error_bound(query, norms.max(keepdims=True))[0])
        hopeful = np.flatnonzero(~(sums + off < np.max(sums - off))).tolist()
    best, found = -math.inf, 0
    for before in hopeful:
        score = reference(query, opening, -before)
        if score > best:
            best, found = score, -before
    return best, found


def references(query: F32, segments: F32, norms: F32, made: Windows) -> list[float]:
    """THE scores of rows. segments, norms: of ``made.read``."""
    length, flat = len(query), query.ravel()
    counts = made.stops - made.places
    scores = [0.0] * len(counts)
    whole = np.flatnonzero((counts == length) & ~made.firsts)
    at_once = max(1, AT_ONCE // flat.size)
    for start in range(0, len(whole), at_once):
        some = whole[start : start + at_once]
        rows = segments[made.places[some][:, None] + np.arange(length)].reshape(len(some), -1)
        for row, score in zip(some.tolist(), inner_product.references(flat, rows), strict=True):
            scores[row] = score
    for row in np.flatnonzero((counts != length) | made.firsts).tolist():
        own = slice(int(made.places[row]), int(made.stops[row]))
        if made.firsts[row]:
            scores[row], _ = first_reference(query, segments[own], norms[own])
        else:
            scores[row] = reference(query, segments[own], 0)
    return scores


def best_in_float32(query: F32, documents: TokenVectors) -> F32:
    """(n,): the scores of whole documents, by the fast pass."""
    norms = np.ones(len(documents.values), np.float32)
    rows, begins = np.arange(len(documents.values)), np.repeat(documents.offsets[:-1], documents.counts)
    ends = np.repeat(documents.offsets[1:], documents.counts)
    values = np.empty(len(rows), np.float32)
    for piece, made in windows(rows, begins, ends, len(query)):
        values[piece], _ = fast_scores(query, documents.values[made.read], norms[made.read], made)
    best: F32 = np.maximum.reduceat(values, documents.offsets[:-1]) if len(documents) else values
    return best


def loops() -> Iterator[None]:
    """Compiles every loop of this module (``native.prepare``)."""
    best_in_float32(np.eye(2, dtype=np.float32), TokenVectors.join([np.eye(2, dtype=np.float32)]))
    yield
