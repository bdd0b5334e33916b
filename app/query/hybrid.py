"""Words and meaning in one order: the best by each are candidates, each has every score, and fusion orders them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from app.collection.layers import TOKENS, scored
from app.collection.part import View
from app.collection.spec import CollectionSpec
from app.compute.workers import Workers
from app.query.encoded import EncodedQuery
from app.query.fusion import Side, Standard, ranks_of, reciprocal_ranks, weighted
from app.query.ranking import Identify, Ranked, break_ties
from app.query.scores import Dense, MaxSim, Pooled, Scores, of_document
from app.query.words import WordScores, document_of, rows_of
from app.types import I64, Mask

DEPTH: Final = 200
"""Documents of each side that are candidates, and over which scores are standardised. A longer list goes on with more
of them after these, so that a short one is always its beginning."""

_Key = tuple[int, int]
"""View, and document of its part."""


@dataclass(frozen=True, slots=True)
class SideScore:
    """What one side adds to a fused score: weight * standard."""

    side: Side
    score: float
    mean: float
    deviation: float
    standard: float
    weight: float


@dataclass(frozen=True)
class Fused:
    """ranked: the best, by fused score, then by id. weights: that were used; None for reciprocal ranks. standards: by
    side. places: of a sequence number among the candidates. ranks: by side, of each; nothing where weights are used."""

    ranked: list[Ranked]
    columns: Mapping[Side, list[float]]
    standards: Mapping[Side, Standard]
    weights: Mapping[Side, float] | None
    places: Mapping[int, int]
    ranks: Mapping[Side, list[int | None]] = field(default_factory=dict)

    def parts(self, seq: int) -> list[SideScore]:
        """What makes the score of a document; nothing where ranks do."""
        i = self.places[seq]
        return [
            SideScore(side, self.columns[side][i], one.mean, one.deviation, one.values[i], self.weights[side])
            for side, one in self.standards.items()
            if self.weights is not None
        ]


def sides_of(spec: CollectionSpec) -> list[Side]:
    """Those of a collection with words."""
    return ["words", "tokens", "pooled"] if scored(spec) == TOKENS else ["words", "pooled"]


def side_scores(spec: CollectionSpec, query: EncodedQuery) -> dict[Side, Scores]:
    """The exact scores of each side that is not words, the one that its candidates are ranked by first."""
    if scored(spec) == TOKENS:
        return {"tokens": MaxSim(query.vectors, spec.splits), "pooled": Pooled(query.pooled, spec.splits)}
    return {"pooled": Dense(query.pooled, spec.splits)}


def fuse(
    views: Sequence[View],
    allowed: Sequence[Mask],
    meant: Sequence[Ranked],
    words: WordScores,
    scores: Mapping[Side, Scores],
    weigh: Mapping[Side, float] | None,
    k: int,
    workers: Workers,
    identify: Identify,
) -> Fused:
    """allowed: for each view the documents. meant: the best ``reach_of(k)`` by meaning, best first. scores: of each
    side but words. weigh: the weight of each side; None for reciprocal ranks. Raises Damaged."""
    reach = reach_of(k)
    spoken = words.best(views, allowed, reach, ties=False)
    by_meaning = [(one.view, document_of(views[one.view], one.row)) for one in meant]
    by_words = [(view, document) for view, document, _, _ in spoken]
    tiers = _tiers(by_meaning, by_words, reach)
    keys = list(dict.fromkeys(key for tier in tiers for key in tier))
    if not keys:
        return Fused([], {}, {}, weigh, {})
    rows, columns = _scored(views, keys, scores, workers)
    columns["words"] = [float(words.by_view[view][document]) for view, document in keys]
    columns = {side: columns[side] for side in ("words", *scores)}
    standards = {side: Standard.of(column, len(tiers[0])) for side, column in columns.items()}
    seqs = [int(views[view].part.seqs[document]) for view, document in keys]
    ranked: list[Ranked] = []
    ranks: dict[Side, list[int | None]] = {side: [] for side in columns} if weigh is None else {}
    for number, tier in enumerate(tiers):
        start, stop = len(ranked), len(ranked) + len(tier)
        if weigh is None:
            said, meaning = ({*side[: DEPTH * 2**number]} for side in (by_words, by_meaning))
            by = {side: [key in (said if side == "words" else meaning) for key in keys[:stop]] for side in columns}
            now = {side: ranks_of(column[:stop], by[side]) for side, column in columns.items()}
            fused = reciprocal_ranks(now)
            for side, own in now.items():
                ranks[side] += own[start:]
        else:
            fused = weighted(standards, weigh)
        new = [Ranked(keys[i][0], rows[i], seqs[i], fused[i]) for i in range(start, stop)]
        ranked += break_ties(sorted(new, key=lambda one: -one.score), len(new), identify)
    return Fused(ranked[:k], columns, standards, weigh, {seq: i for i, seq in enumerate(seqs)}, ranks)


def reach_of(k: int) -> int:
    """Documents of each side that a list of k is made of."""
    reach = DEPTH
    while reach < k:
        reach *= 2
    return reach


def _tiers(meant: Sequence[_Key], spoken: Sequence[_Key], reach: int) -> list[list[_Key]]:
    """The candidates: the best ``DEPTH`` of each side, then those that are new among twice as many, and so on."""
    seen: dict[_Key, None] = {}
    tiers, depth = [], DEPTH
    while depth <= reach:
        tier = [key for key in dict.fromkeys([*meant[:depth], *spoken[:depth]]) if key not in seen]
        seen.update(dict.fromkeys(tier))
        tiers.append(tier)
        depth *= 2
    return tiers


def _scored(
    views: Sequence[View], keys: Sequence[_Key], scores: Mapping[Side, Scores], workers: Workers
) -> tuple[list[int], dict[Side, list[float]]]:
    """For each document the row that is best by the first side, and its score by each side."""
    places: dict[int, list[tuple[int, int]]] = {}
    for i, (number, document) in enumerate(keys):
        places.setdefault(number, []).append((document, i))
    rows = [0] * len(keys)
    columns: dict[Side, list[float]] = {side: [0.0] * len(keys) for side in scores}
    first = next(iter(scores))
    for number, some in places.items():
        some.sort()
        view = views[number]
        documents = [document for document, _ in some]
        asked = rows_of(view, documents)
        counts = view.part.owners.counts_of(np.array(documents, np.int64))
        for side, by in scores.items():
            kept = _hopeful(view, asked, counts, by, workers)
            values = by.references(view.part, asked[kept], workers)
            edges = np.searchsorted(kept, np.cumsum([0, *counts.tolist()])).tolist()
            for (_, i), count, start, stop in zip(some, counts.tolist(), edges, edges[1:], strict=False):
                if by.split:
                    values[start:stop] = [of_document(values[start], one, count) for one in values[start:stop]]
                best = max(range(start, stop), key=values.__getitem__)
                columns[side][i] = values[best]
                if side == first:
                    rows[i] = int(asked[kept[best]])
    return rows, columns


def _hopeful(view: View, rows: I64, counts: I64, scores: Scores, workers: Workers) -> I64:
    """The places of rows that could be the best of their document, and of the first of each; ascending.

    counts: how many of the rows each document has.
    """
    if len(counts) == len(rows):
        return np.arange(len(rows))
    column, firsts = scores.fast(view.part, rows, workers), np.cumsum(counts) - counts
    with np.errstate(invalid="ignore"):
        certain = np.repeat(np.fmax.reduceat(column.values - column.bounds, firsts), counts)
        # Not `>=`: what is no number could be anything.
        kept = ~(column.values + column.bounds < certain)
    kept[firsts] = True
    return np.flatnonzero(kept).astype(np.int64)
