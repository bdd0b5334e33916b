"""The exact order of many queries at once, where a document has one vector: the same documents and the same scores, to
the bit, as by one query after the other.

What a query costs beside its vectors (a view of each part, lists, calls) is paid once for all: a part is asked for the
candidates of all of them, their products come from one pass, and arrays hold what is found, without an object a hit.
Steps and bounds are those of app.query.candidates, app.query.reaching and app.query.ranking; a query that they decide
by its own (more rows of one score than are looked at) is asked by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.batch.asking import Nearest, Norms, PairScores, Scanned
from app.collection.first_stage import FirstStage
from app.collection.layers import POOLED, scored
from app.collection.part import Part, View
from app.collection.spec import CollectionSpec
from app.compute import deadline
from app.compute.rounding import bound
from app.compute.workers import Workers
from app.query.candidates import FEW, OWNER, Asked, rankings
from app.query.gathering import gather
from app.query.ranking import Identify
from app.query.reaching import ALIKE
from app.query.retrievers import ByPooled
from app.scoring.similarity import lengths
from app.types import F32, F64, I64, Mask


@dataclass(frozen=True, slots=True)
class Block:
    """The best documents of each query, best first: (q, m) each, m the smaller of k and how many are allowed.

    views: places in the snapshot's views. rows: in these. seqs: of the documents. scores: references.
    """

    views: I64
    rows: I64
    seqs: I64
    scores: F64

    @classmethod
    def empty(cls, queries: int, width: int) -> Block:
        views, rows, seqs = np.full((3, queries, width), -1, np.int64)
        return cls(views, rows, seqs, np.full((queries, width), np.nan))

    @staticmethod
    def join(parts: Sequence[Block]) -> Block:
        """Of queries one after the other."""
        return Block(
            np.concatenate([part.views for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.seqs for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Rows of queries. queries: (n,) ascending. keys: view * OWNER + row. scores: (n,) within ``bounds`` (n,) of the
    reference."""

    queries: I64
    keys: I64
    scores: F64
    bounds: F64

    def only(self, kept: Mask | I64) -> _Pairs:
        return _Pairs(self.queries[kept], self.keys[kept], self.scores[kept], self.bounds[kept])

    @staticmethod
    def join(parts: Sequence[_Pairs]) -> _Pairs:
        """In the order of the queries."""
        queries = np.concatenate([part.queries for part in parts])
        order = np.argsort(queries, kind="stable")
        columns = ([getattr(part, name) for part in parts] for name in ("queries", "keys", "scores", "bounds"))
        return _Pairs(*(np.concatenate(column)[order] for column in columns))


def fits(spec: CollectionSpec, views: Sequence[View]) -> bool:
    """Whether a document is one vector, whose score is its inner product with the query's and a number added."""
    one = all(view.part.owners.starts is None for view in views)
    return one and scored(spec) == POOLED and not (spec.measure.geodesic or spec.splits or spec.ordered)


@dataclass(frozen=True)
class Ask:
    """What all queries ask. allowed: for each view the documents. stages: of each view. width: of the first tier; None
    is each stage's own. exact: whether every document is scored."""

    views: Sequence[View]
    allowed: Sequence[Mask]
    stages: Sequence[FirstStage]
    k: int
    width: int | None
    exact: bool
    identify: Identify
    workers: Workers

    @property
    def there(self) -> int:
        return sum(int(np.count_nonzero(mask)) for mask in self.allowed)

    @property
    def widest(self) -> int:
        """Candidates that a query has at most, at least 1: a tier is no wider than twice k, or than the first."""
        there, few = self.there, max(2 * self.k, 1)
        if self.exact or there <= FEW:
            return min(few, max(there, 1))
        stages = {id(stage): stage for stage in self.stages}.values()
        return sum(min(max(self.width or stage.width, few), there) for stage in stages)

    def best(self, queries: F32, offsets: F64) -> Block:
        """queries: (q, stored_dim), as the similarity asks with them. offsets: (q,), what is added to their products.
        Raises Damaged, TooSlow past the deadline."""
        there = self.there
        found = Block.empty(len(queries), min(self.k, there))
        if not there or not len(queries):
            return found
        if self.exact or there <= FEW:
            scanned = gather(Scanned(queries, offsets, self.k), self._parts, self.allowed, self.workers)
            every = [one for one in scanned if one is not None]
            if len(every) < len(scanned):
                middle = len(queries) // 2
                halves = (slice(middle), slice(middle, None))
                return Block.join([self.best(queries[half], offsets[half]) for half in halves])
            columns = [(one.queries, view * OWNER + one.rows, one.scores) for view, one in enumerate(every)]
            which, keys, scores = (np.concatenate(column) for column in zip(*columns, strict=True))
            order = np.argsort(which, kind="stable")
            pairs = self._pairs(queries, offsets, which[order], keys[order], scores[order])
            self._take(found, np.zeros(len(queries), np.int64), queries, offsets, pairs)
            return found
        filled, seen, factor = np.zeros(len(queries), np.int64), np.zeros(0, np.int64), 1
        while filled.min() < found.seqs.shape[1]:
            pairs = self._tier(queries, offsets, factor)
            # Of each query those that no tier had before.
            place = pairs.queries * (len(self.views) * OWNER) + pairs.keys
            new = ~np.isin(place, seen)
            self._take(found, filled, queries, offsets, pairs.only(new))
            seen, factor = np.union1d(seen, place), 2 * factor
        return found

    @property
    def _parts(self) -> list[Part]:
        return [view.part for view in self.views]

    def _pairs(self, queries: F32, offsets: F64, which: I64, keys: I64, scores: F32) -> _Pairs:
        """With how far the scores are from their references, at most."""
        norms = np.empty(len(keys))
        asked = self._by_view(keys)
        rows = [keys[here] % OWNER for here in asked.values()]
        found = gather(Norms(), [self.views[i].part for i in asked], rows, self.workers)
        for here, own in zip(asked.values(), found, strict=True):
            norms[here] = own
        wide, added = scores.astype(np.float64), offsets[which]
        bounds = bound(queries.shape[1], 1, lengths(queries)[which] * norms)
        moved = wide + added
        bounds = np.where(added == 0, bounds, bounds + (np.abs(wide) + np.abs(moved) + bounds) * 2.0**-21)
        return _Pairs(which, keys, moved, bounds)

    def _tier(self, queries: F32, offsets: F64, factor: int) -> _Pairs:
        """The candidates of so many times the width."""
        parts = []
        for stage in {id(stage): stage for stage in self.stages}.values():
            deadline.check(deadline.current())
            mine = [i for i, other in enumerate(self.stages) if other is stage]
            wanted = max(self.width or stage.width, 1) * factor
            there = sum(int(np.count_nonzero(self.allowed[i])) for i in mine)
            if wanted >= there:
                keys = np.concatenate([i * OWNER + np.flatnonzero(self.allowed[i]) for i in mine]).astype(np.int64)
                keys = np.broadcast_to(keys, (len(queries), len(keys)))
                scores = None
            else:
                keys, scores = self._nearest(queries, mine, replace(stage, width=wanted))
            which = np.repeat(np.arange(len(queries)), keys.shape[1])
            flat = np.ascontiguousarray(keys).ravel()
            if scores is None:
                scores = self._references(queries, np.zeros(len(queries)), which, flat).astype(np.float32)
            parts.append(self._pairs(queries, offsets, which, flat, scores.ravel()))
        return _Pairs.join(parts)

    def _nearest(self, queries: F32, mine: Sequence[int], stage: FirstStage) -> tuple[I64, F32 | None]:
        """(q, width) keys of the best rows of some views, of which more are allowed, and their products; None where
        some query had to be asked alone."""
        width, wide = stage.width, stage.widening * stage.width
        there = [i for i in mine if self.allowed[i].any()]
        asked = [self.views[i].part for i in there], [self.allowed[i] for i in there]
        found = gather(Nearest(queries, width, wide), *asked, self.workers)
        keys = np.concatenate([i * OWNER + own.rows for i, own in zip(there, found, strict=True)], axis=1)
        scores = np.concatenate([own.scores for own in found], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
        keys, scores = np.take_along_axis(keys, order, 1), np.take_along_axis(scores, order, 1)
        alike = min(ALIKE, max(10, width // 3))
        alone = np.zeros(len(queries), bool)
        if width > alike:
            alone = (scores[:, alike:] == scores[:, :-alike]).any(axis=1)
        for query in np.flatnonzero(alone).tolist():
            deadline.check(deadline.current())
            views, masks = [self.views[i] for i in mine], [self.allowed[i] for i in mine]
            one = [Asked(ByPooled(), queries[query], width, wide)]
            (own,) = rankings(views, masks, one, stage.widening, alike, self.workers)
            keys[query] = np.array(mine)[own // OWNER] * OWNER + own % OWNER
        return keys, None if alone.any() else scores

    def _take(self, found: Block, filled: I64, queries: F32, offsets: F64, pairs: _Pairs) -> None:
        """Puts the best of some rows after those that are there. filled: (q,), how many these are."""
        width = found.seqs.shape[1]
        pairs = pairs.only(_hopeful(pairs, len(queries), width - int(filled.min())))
        scores = self._references(queries, offsets, pairs.queries, pairs.keys)
        owners, rows = pairs.keys // OWNER, pairs.keys % OWNER
        seqs = np.empty(len(rows), np.int64)
        for i, view in enumerate(self.views):
            here = owners == i
            seqs[here] = view.part.seqs[rows[here]]
        order = np.lexsort((-scores, pairs.queries))
        which, own = pairs.queries[order], scores[order]
        tied = np.zeros(len(order) + 1, bool)
        tied[1:-1] = (which[1:] == which[:-1]) & (own[1:] == own[:-1])
        if tied.any():
            # Equal scores, by the bytes of the ids.
            tied = tied[1:] | tied[:-1]
            named = np.unique(seqs[order[tied]]).tolist()
            ids = self.identify(named)
            places = {seq: place for place, seq in enumerate(sorted(named, key=lambda seq: ids.get(seq, b"")))}
            by_id = np.zeros(len(order), np.int64)
            by_id[order[tied]] = [places[seq] for seq in seqs[order[tied]].tolist()]
            order = np.lexsort((by_id, -scores, pairs.queries))
        which = pairs.queries[order]
        counts = np.bincount(which, minlength=len(queries))
        at = np.arange(len(which)) - (np.cumsum(counts) - counts)[which] + filled[which]
        kept = at < width
        order, place = order[kept], (which[kept], at[kept])
        found.views[place], found.rows[place], found.seqs[place] = owners[order], rows[order], seqs[order]
        found.scores[place] = scores[order]
        filled += np.minimum(counts, width - filled)

    def _references(self, queries: F32, offsets: F64, which: I64, keys: I64) -> F64:
        """The reference of each pair."""
        scores, asked = np.empty(len(keys)), self._by_view(keys)
        pairs = [(which[here], keys[here] % OWNER) for here in asked.values()]
        found = gather(PairScores(queries, offsets), [self.views[i].part for i in asked], pairs, self.workers)
        for here, own in zip(asked.values(), found, strict=True):
            scores[here] = own
        return scores

    def _by_view(self, keys: I64) -> dict[int, I64]:
        """Of the views that some rows are of, the places of these."""
        owners = keys // OWNER
        found = ((i, np.flatnonzero(owners == i)) for i in range(len(self.views)))
        return {i: here for i, here in found if len(here)}


def _hopeful(pairs: _Pairs, queries: int, k: int) -> Mask:
    """Which could be among the k best of their query, ties included (app.scoring.select)."""
    counts = np.bincount(pairs.queries, minlength=queries)
    most = int(counts.max(initial=0))
    if most <= k:
        return np.ones(len(pairs.queries), bool)
    with np.errstate(invalid="ignore"):
        lowest, highest = pairs.scores - pairs.bounds, pairs.scores + pairs.bounds
    lowest[np.isnan(lowest)] = -np.inf
    highest[np.isnan(highest)] = np.inf
    table = np.full((queries, most), -np.inf)
    table[pairs.queries, np.arange(len(pairs.queries)) - (np.cumsum(counts) - counts)[pairs.queries]] = lowest
    cut = np.partition(table, most - k, axis=1)[:, most - k]
    found: Mask = highest >= cut[pairs.queries]
    return found
