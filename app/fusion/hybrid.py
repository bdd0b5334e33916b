"""Words and meaning in one order: the best by each are candidates, each has every score, and fusion orders them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from app.boosts.values import Boosts
from app.collection.layers import TOKENS, scored
from app.collection.part import Part, View
from app.collection.spec import CollectionSpec
from app.compute.workers import Workers
from app.fusion.formulas import Standard, ranks_of, reciprocal_ranks, weighted
from app.query.candidates import Chosen
from app.query.encoded import EncodedQuery
from app.query.gathering import gather
from app.query.listed import Listed, document_of
from app.query.ranking import Identify, Ranked, break_ties
from app.query.scores import Scores, of_document, pooled_scores, scores_of
from app.types import F64, I64, Mask, Side

DEPTH: Final = 100
"""Documents of each side that are candidates, and over which scores are standardised. A longer list goes on with more
of them after these, so that a short one is always its beginning."""

_Key = tuple[int, int]
"""View, and document of its part."""


@dataclass(frozen=True, slots=True)
class SideScore:
    """One side's addition to a fused score: weight * standard."""

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
        """The parts of a document's score; nothing where ranks do."""
        i = self.places[seq]
        return [
            SideScore(side, self.columns[side][i], one.mean, one.deviation, one.values[i], self.weights[side])
            for side, one in self.standards.items()
            if self.weights is not None
        ]


def sides_of(spec: CollectionSpec, *, words: bool, sparse: bool) -> list[Side]:
    """Those of a collection that a query has too. words, sparse: whether it has these."""
    absent = {"words": not words, "sparse": not sparse}
    return [side for side in spec.sides if not absent.get(side)]


def side_scores(spec: CollectionSpec, query: EncodedQuery) -> dict[Side, Scores]:
    """The exact scores of each side that is not words, the one that its candidates are ranked by first."""
    if scored(spec) == TOKENS:
        return {"tokens": scores_of(spec, query), "pooled": pooled_scores(spec, query)}
    return {"pooled": scores_of(spec, query if spec.ordered else replace(query, vectors=query.pooled))}


@dataclass(frozen=True)
class Meant:
    """The documents that are found by meaning. keys: the likeliest first. known: of documents whose every row was
    ranked, the best row and the score by the first side."""

    keys: list[_Key]
    known: Mapping[_Key, tuple[int, float]]

    @classmethod
    def of_ranked(cls, views: Sequence[View], ranked: Sequence[Ranked], *, whole: bool) -> Meant:
        """whole: whether all rows of each were ranked."""
        keys = [(one.view, document_of(views[one.view], one.row)) for one in ranked]
        whole = whole or all(view.part.owners.starts is None for view in views)
        known = {key: (one.row, one.score) for key, one in zip(keys, ranked, strict=True)}
        return cls(keys, known if whole else {})

    @classmethod
    def of_tiers(cls, views: Sequence[View], tiers: Iterable[Sequence[Chosen]], reach: int) -> Meant:
        """The first ``reach`` documents, tier by tier, as the first stage orders them: fusion scores each exactly, so
        none is ranked for being chosen. Of several first stages the lists are taken in turn."""
        keys: list[_Key] = []
        for chosen in tiers:
            places, new = list[int](), list[_Key]()
            for number, (view, one) in enumerate(zip(views, chosen, strict=True)):
                documents, best = one.documents(view)
                places += best.tolist()
                new += [(number, document) for document in documents.tolist()]
            keys += [key for _, key in sorted(zip(places, new, strict=True))]
            if len(keys) >= reach:
                break
        return cls(keys[:reach], {})


@dataclass(frozen=True)
class Candidates:
    """The candidates that fusion orders. tiers: of keys, each after the one before. lists: by side, those that its list
    has; what is found by meaning is the list of both vectors. rows: of each key the row that is best by the first side.
    columns: of each side the scores of the keys. base: how many keys, from the first on, scores are standardised
    over."""

    tiers: list[list[_Key]]
    lists: Mapping[Side, Sequence[_Key]]
    rows: list[int]
    columns: dict[Side, list[float]]
    base: int

    @property
    def keys(self) -> list[_Key]:
        return [key for tier in self.tiers for key in tier]


def score_candidates(
    views: Sequence[View],
    allowed: Sequence[Mask],
    meant: Meant,
    listed: Mapping[Side, Listed],
    scores: Mapping[Side, Scores],
    k: int,
    workers: Workers,
    *,
    whole: bool = False,
) -> Candidates:
    """allowed: for each view the documents. meant: ``reach_of(k)`` at most. listed: the sides that score every
    document. scores: the others. whole: whether all documents that are allowed are candidates, though scores are
    standardised over the same. Raises Damaged."""
    reach = reach_of(k)
    lists: dict[Side, Sequence[_Key]] = {
        side: [(view, document) for view, document, _, _ in by.best(views, allowed, reach, ties=False)]
        for side, by in listed.items()
    }
    tiers = _tiers([meant.keys, *lists.values()], reach)
    base = len(tiers[0])
    if whole:
        every = [(view, one) for view, mask in enumerate(allowed) for one in np.flatnonzero(mask).tolist()]
        tiers = [list(dict.fromkeys([*tiers[0], *every]))]
    keys = [key for tier in tiers for key in tier]
    columns: dict[Side, list[float]] = {
        side: [float(by.by_view[view][document]) for view, document in keys] for side, by in listed.items()
    }
    rows, others = _scored(views, keys, meant.known, scores, workers)
    return Candidates(tiers, lists | dict.fromkeys(scores, meant.keys), rows, columns | others, base)


def fuse(
    views: Sequence[View],
    found: Candidates,
    weigh: Mapping[Side, float] | None,
    k: int,
    identify: Identify,
    added: Boosts | None = None,
) -> Fused:
    """weigh: the weight of each side; None for reciprocal ranks. added: to what is fused."""
    keys, columns = found.keys, found.columns
    more = np.zeros(len(keys)) if added is None else _added(views, keys, added)
    if not keys:
        return Fused([], {}, {}, weigh, {})
    standards = {side: Standard.of(column, found.base) for side, column in columns.items()}
    seqs = [int(views[view].part.seqs[document]) for view, document in keys]
    ranked: list[Ranked] = []
    ranks: dict[Side, list[int | None]] = {side: [] for side in columns} if weigh is None else {}
    for number, tier in enumerate(found.tiers):
        start, stop = len(ranked), len(ranked) + len(tier)
        if weigh is None:
            there = {side: {*keys_of[: DEPTH * 2**number]} for side, keys_of in found.lists.items()}
            by = {side: [key in there[side] for key in keys[:stop]] for side in columns}
            now = {side: ranks_of(column[:stop], by[side]) for side, column in columns.items()}
            fused = reciprocal_ranks(now)
            for side, own in now.items():
                ranks[side] += own[start:]
        else:
            fused = weighted(standards, weigh)
        new = [Ranked(keys[i][0], found.rows[i], seqs[i], fused[i] + float(more[i])) for i in range(start, stop)]
        ranked += break_ties(sorted(new, key=lambda one: -one.score), len(new), identify)
    return Fused(ranked[:k], columns, standards, weigh, {seq: i for i, seq in enumerate(seqs)}, ranks)


def _added(views: Sequence[View], keys: Sequence[_Key], boosts: Boosts) -> F64:
    """(keys,): what boosts add to each."""
    owners = np.array([view for view, _ in keys], np.int64)
    documents = np.array([document for _, document in keys], np.int64)
    found = np.zeros(len(keys))
    for number, view in enumerate(views):
        mine = owners == number
        found[mine] = boosts.of(view.part, documents[mine])
    return found


def reach_of(k: int) -> int:
    """Documents of each side that a list of k is made of."""
    reach = DEPTH
    while reach < k:
        reach *= 2
    return reach


def _tiers(lists: Sequence[Sequence[_Key]], reach: int) -> list[list[_Key]]:
    """The candidates: the best ``DEPTH`` of each side, then those that are new among twice as many, and so on."""
    seen: dict[_Key, None] = {}
    tiers, depth = [], DEPTH
    while depth <= reach:
        tier = [key for key in dict.fromkeys(key for keys in lists for key in keys[:depth]) if key not in seen]
        seen.update(dict.fromkeys(tier))
        tiers.append(tier)
        depth *= 2
    return tiers


def _scored(
    views: Sequence[View],
    keys: Sequence[_Key],
    known: Mapping[_Key, tuple[int, float]],
    scores: Mapping[Side, Scores],
    workers: Workers,
) -> tuple[list[int], dict[Side, list[float]]]:
    """For each document the row that is best by the first side, and its score by each side."""
    first, numbers = next(iter(scores)), sorted({number for number, _ in keys})
    asked: list[list[list[int]]] = []
    for number in numbers:
        mine = sorted(document for owner, document in keys if owner == number)
        asked.append([[one for one in mine if side != first or (number, one) not in known] for side in scores])
    answers = gather(BestRows(list(scores.values())), [views[number].part for number in numbers], asked, workers)
    columns: dict[Side, list[float]] = {}
    rows: list[int] = []
    for place, side in enumerate(scores):
        found = dict(known) if side == first else {}
        for number, documents, best in zip(numbers, asked, answers, strict=True):
            found.update(zip(((number, one) for one in documents[place]), best[place], strict=True))
        columns[side] = [found[key][1] for key in keys]
        if side == first:
            rows = [found[key][0] for key in keys]
    return rows, columns


@dataclass(frozen=True, slots=True)
class BestRows:
    """By each of some scores the best row of some documents of a part, ascending, of all their rows, and the
    document's score. A part is asked by the documents of each of the scores."""

    by: Sequence[Scores]

    def of(
        self, parts: Sequence[Part], asked: Sequence[Sequence[list[int]]], workers: Workers
    ) -> list[list[list[tuple[int, float]]]]:
        # Side by side in the order of the sides: what a part has read is at hand for no other side.
        found: list[list[list[tuple[int, float]]]] = [[] for _ in parts]
        for place, scores in enumerate(self.by):
            for own, part, documents in zip(found, parts, asked, strict=True):
                some = np.array(documents[place], np.int64)
                own.append(_best_rows(part, some, scores, workers) if len(some) else [])
        return found


def _best_rows(part: Part, documents: I64, scores: Scores, workers: Workers) -> list[tuple[int, float]]:
    """documents: ascending."""
    owners = part.owners
    rows, counts = owners.rows_of(documents), owners.counts_of(documents)
    rows = rows[_hopeful(part, rows, counts, scores, workers)]
    values = scores.references(part, rows, workers)
    edges = [*np.searchsorted(rows, owners.firsts[documents]).tolist(), len(rows)]
    best = []
    for count, start, stop in zip(counts.tolist(), edges, edges[1:], strict=False):
        own = values[start:stop]
        if scores.split:
            own = [of_document(own[0], one, count) for one in own]
        place = max(range(len(own)), key=own.__getitem__)
        best.append((int(rows[start + place]), own[place]))
    return best


def _hopeful(part: Part, rows: I64, counts: I64, scores: Scores, workers: Workers) -> I64:
    """The places of rows that could be the best of their document, and of the first of each; ascending.

    counts: how many of the rows each document has.
    """
    several = np.flatnonzero(np.repeat(counts > 1, counts))
    kept = np.ones(len(rows), bool)
    if len(several):
        column = scores.fast(part, rows[several], workers, rough=scores.has_rough(part))
        counts = counts[counts > 1]
        firsts = np.cumsum(counts) - counts
        with np.errstate(invalid="ignore"):
            certain = np.repeat(np.fmax.reduceat(column.values - column.bounds, firsts), counts)
            # Not `>=`: what is no number could be anything.
            kept[several] = ~(column.values + column.bounds < certain)
        kept[several[firsts]] = True
    return np.flatnonzero(kept).astype(np.int64)
