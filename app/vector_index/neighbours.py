"""A graph of neighbours that any score is followed along, where no inner product leads: of a query's own network.

Each row has its nearest rows, by distance. A search scores some rows that are spread over all, then goes from the best
to their neighbours, and on from the best that it has seen, until these lead to nothing better (Killingback, Zeng,
Zamani: "Hypencoder", 2025, arXiv 2502.05364, section 5.5: greedy search over a graph of 100 neighbours, from 10,000
rows). What is near to a good document is likely to be good by any smooth score: that is all that it takes.

Other than in the paper, half of a row's links lead to its nearest ones, and half come back from rows that it is nearest
to, or lead further: along nearest ones alone a row that is nobody's neighbour is never found. A step expands the best
rows together, so that a network is asked of hundreds of rows at a time. What it buys is measured in docs/papers.md.

Under a filter a walk goes as it goes without, further by as much as the filter keeps less, and of all that it scored
the allowed rows are taken; where it would score more rows than are allowed, these are scored one and all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.errors import Damaged
from app.types import F32, I64, Mask
from app.vector_index.protocol import Candidates

LINKS: Final = 32
"""Of a row, unless somebody says otherwise."""
MOST_LINKS: Final = 128
FEWEST: Final = 4_096
"""Rows up to which a part has no graph: they are sooner scored."""
ENTRIES: Final = 1_000
"""Rows from which a walk begins, spread evenly; a tenth of them all at most."""
REACH: Final = 96
"""Of the best rows seen, those that a walk goes on from, at least."""
STEP: Final = 48
"""Rows whose neighbours are scored together. With few of them a walk follows the best place that it has seen, and a
score that is good in several loses the others (docs/decisions.md)."""
SCORED: Final = 35
"""Rows that a walk scores for each that it goes on from, more or less."""
LISTS_PER_ROOT: Final = 2.0
"""Lists of rows among which neighbours are looked for, for each square root of their number; all rows, where few."""
PROBES: Final = 12
"""Lists that are looked at for each row."""
WHOLE: Final = 20_000
"""Rows up to which all are looked at."""
PIECE: Final = 1_024
"""Rows whose neighbours are looked for at a time."""
ROWS: Final = 2**16
"""Rows whose links are chosen at a time."""
SAMPLE_PER_LIST: Final = 40

Score = Callable[[I64], F32]
"""Of rows, ascending, (n,) -> (n,)."""


class Neighbours:
    """The links of every row. Immutable; any thread may walk."""

    def __init__(self, links: NDArray[np.int32]) -> None:
        """links: (rows, links), -1 where there is none. Raises Damaged where one leads nowhere."""
        if links.ndim != 2 or links.dtype != np.int32 or (links.size and not (links.min() >= -1 and _within(links))):
            raise Damaged("the neighbour graph has links that lead nowhere; rebuild it")
        self._links = links

    @property
    def size(self) -> int:
        return len(self._links)

    def best(self, score: Score, k: int, allowed: Mask) -> Candidates:
        """The min(k, allowed) rows that are best by the score, as far as a walk comes, best first, equal ones by row.

        allowed: (rows,).
        """
        there = int(np.count_nonzero(allowed))
        reach = max(REACH, 2 * k) * (self.size / max(1, there))
        while ENTRIES + reach * SCORED < there:
            rows, scores = self._walk(score, int(reach))
            passed = allowed[rows]
            if np.count_nonzero(passed) >= k:
                return _first(rows[passed], scores[passed], k)
            reach *= 2
        rows = np.flatnonzero(allowed).astype(np.int64)
        return _first(rows, score(rows), k)

    def _walk(self, score: Score, reach: int) -> tuple[I64, F32]:
        """Every row that was scored, and its score."""
        entries = np.arange(0, self.size, max(10, self.size // ENTRIES), dtype=np.int64)
        seen = np.zeros(self.size, bool)
        seen[entries] = True
        rows, scores = [entries], [score(entries)]
        # The best so far, with whether their neighbours were looked at.
        best, values = entries, scores[0]
        done = np.zeros(len(best), bool)
        while True:
            order = np.argsort(-values, kind="stable")[:reach]
            best, values, done = best[order], values[order], done[order]
            next_ = np.flatnonzero(~done)[:STEP]
            if not len(next_):
                return np.concatenate(rows), np.concatenate(scores)
            done[next_] = True
            found = np.unique(self._links[best[next_]]).astype(np.int64)
            found = found[found >= 0]
            new = found[~seen[found]]
            if len(new):
                seen[new] = True
                rows.append(new)
                scores.append(score(new))
                best, values = np.concatenate([best, new]), np.concatenate([values, scores[-1]])
                done = np.concatenate([done, np.zeros(len(new), bool)])


def linked(vectors: NDArray[Any], links: int, check: Callable[[], None] = lambda: None) -> NDArray[np.int32]:
    """(rows, links) int32: the graph over the rows of an array, (rows, dim) float32; the same each time.

    check: called now and then, seconds apart; raises to give the work up.
    """
    size = len(vectors)
    found = np.full((size, links), -1, np.int32)
    for start, nearest in _nearest(vectors, min(links, size - 1), check):
        found[start : start + len(nearest), : nearest.shape[1]] = nearest
    return _both_ways(found)


def _both_ways(nearest: NDArray[np.int32]) -> NDArray[np.int32]:
    """The nearer half of each row's neighbours, then rows that have it among theirs, nearer ones first, then the rest
    of its own; each once."""
    size, links = nearest.shape
    made = np.full((size, links), -1, np.int32)
    places = np.arange(links, dtype=np.int64)
    own_rank = np.where(places < links - links // 2, places, places + 2 * links)
    for start in range(0, size, ROWS):
        stop = min(start + ROWS, size)
        of, place = np.nonzero((nearest >= start) & (nearest < stop))
        row, own = np.nonzero(nearest[start:stop] >= 0)
        rows = np.concatenate([row, nearest[of, place] - start])
        others = np.concatenate([nearest[start:stop][row, own], of])
        ranks = np.concatenate([own_rank[own], place + links])
        # Of one that is there twice, the better place.
        order = np.lexsort((ranks, others, rows))
        once = np.ones(len(order), bool)
        once[1:] = (np.diff(rows[order]) != 0) | (np.diff(others[order]) != 0)
        order = order[once]
        order = order[np.lexsort((others[order], ranks[order], rows[order]))]
        counts = np.bincount(rows[order], minlength=stop - start)
        at = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        first = at < links
        made[start + rows[order][first], at[first]] = others[order][first]
    return made


def _nearest(vectors: NDArray[Any], links: int, check: Callable[[], None]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """The nearest rows of each by distance, without itself, in pieces of rows."""
    import faiss

    faiss.omp_set_num_threads(1)
    size, dim = vectors.shape
    quantiser = faiss.IndexFlatL2(dim)
    index = quantiser
    if size > WHOLE:
        lists = int(LISTS_PER_ROOT * size**0.5)
        index = faiss.IndexIVFFlat(quantiser, dim, lists, faiss.METRIC_L2)
        index.cp.seed, index.cp.niter = 1_234, 10
        step = max(1, size // (SAMPLE_PER_LIST * lists))
        index.train(np.ascontiguousarray(vectors[::step], np.float32))
        index.nprobe = PROBES
    for start in range(0, size, PIECE):
        check()
        index.add(np.ascontiguousarray(vectors[start : start + PIECE], np.float32))
    for start in range(0, size, PIECE):
        check()
        _, rows = index.search(np.ascontiguousarray(vectors[start : start + PIECE], np.float32), links + 1)
        own = np.arange(start, start + len(rows))[:, None]
        # Among many equal vectors a row may not be the nearest to itself.
        order = np.argsort(rows == own, axis=1, kind="stable")[:, :links]
        yield start, np.take_along_axis(rows, order, axis=1).astype(np.int32)


def _first(rows: I64, scores: F32, k: int) -> Candidates:
    if k < len(rows):
        near = np.flatnonzero(~(-scores > np.partition(-scores, k - 1)[k - 1]))
        rows, scores = rows[near], scores[near]
    order = np.lexsort((rows, -scores))[:k]
    return Candidates(rows[order], scores[order])


def _within(links: NDArray[np.int32]) -> bool:
    return bool(links.max() < len(links))
