"""Why a document has its score: every part of it, adding up to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final

import numpy as np

from app.boosts.values import BoostShare
from app.diversity.order import Choice
from app.fusion.hybrid import Fused, SideScore
from app.highlights.tokens import RowTokens, Token
from app.lexical.bm25 import TermScore
from app.query.ranking import Ranked
from app.query.scores import Share
from app.query.sparse import IndexScore
from app.types import F32, Side

MOST_IN_GRID: Final = 64
"""Vectors of a query: a grid of so many is at most 64 times 64."""


# Not frozen: an answer has hundreds, and one that is frozen takes three times as long to make.
@dataclass(slots=True)
class TokenShare:
    """One query vector's addition to a score: its product with the best vector of the passage. query, row: their
    places, from 0. asked, found: the tokens that they stand for, where that is known: not of callers' own vectors, of
    pooled tokens, and of whole passages."""

    query: int
    row: int
    product: float
    asked: str | None = None
    found: Token | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """sides: of a hybrid search, each weight * standard; they add up to the score. ranks: of a hybrid search, the place
    of the document in the list of each side over the candidates, from 1; null where it is not in it. Where ranks are
    fused, the score is the sum of 1 / (60 + rank). terms: of BM25, and add up to the words' score. passage: which of
    the document's, from 0, scored best. shares: of MaxSim, what each vector of the query adds by its best vector of
    that passage, or of dense vectors the one product; they add up to the passage's score. opening: likewise of the
    first passage of a text that was split; the document's exact score is opening_weight of it, and the rest of the
    best's. approximate: whether a search that is not exact has the document among its hits; null where that is not
    known. boosts: what each adds to the score beside all that. indices: of sparse vectors, and add up to their
    score. diversity: of a hit that was diversified, why it is where it is. grid: of token vectors, for each vector of
    the query its products with the best vectors that ``shares`` names, by their places; nothing of a query of more than
    64."""

    sides: list[SideScore] = field(default_factory=list)
    ranks: dict[Side, int | None] = field(default_factory=dict)
    terms: list[TermScore] = field(default_factory=list)
    passage: int = 0
    shares: list[TokenShare] = field(default_factory=list)
    opening: list[TokenShare] = field(default_factory=list)
    opening_weight: float = 0.0
    approximate: bool | None = None
    boosts: list[BoostShare] = field(default_factory=list)
    indices: list[IndexScore] = field(default_factory=list)
    diversity: Choice | None = None
    grid: list[list[float]] = field(default_factory=list)


def told(shares: Sequence[Share], asked: Sequence[str] | None, tokens: RowTokens | None) -> list[TokenShare]:
    """Shares with what they stand for. asked: the tokens of the query. tokens: of the passage."""
    found = [None] * len(shares) if tokens is None else tokens.tokens([one.row for one in shares])
    return [
        TokenShare(query, row, product, None if asked is None else asked[query], token)
        for (query, row, product), token in zip(shares, found, strict=True)
    ]


def grids_of(products: Sequence[F32 | None], shares: Sequence[Sequence[TokenShare]]) -> list[list[list[float]]]:
    """For each passage the products of each query vector with each that is the best of one. products: (n, q) each, of
    all vectors of a passage.

    >>> made = np.array([[1, 0.25], [0, 0], [0.5, 0.75]], np.float32)
    >>> grids_of([None, made], [[], [TokenShare(0, 0, 1.0), TokenShare(1, 2, 0.75)]])
    [[], [[1.0, 0.5], [0.25, 0.75]]]
    """
    best = [
        own[sorted({one.row for one in some})]
        for own, some in zip(products, shares, strict=True)
        if own is not None and 0 < len(some) <= MOST_IN_GRID
    ]
    if not best:
        return [[] for _ in products]
    # A float of so few digits is short as JSON. All are rounded at once, for that costs as much as for one.
    lines = np.concatenate(best).astype(np.float64).round(4).T.tolist()
    edges = pairwise(accumulate(map(len, best), initial=0))
    return [
        [line[start:stop] for start, stop in [next(edges)] for line in lines]
        if own is not None and 0 < len(some) <= MOST_IN_GRID
        else []
        for own, some in zip(products, shares, strict=True)
    ]


def ranks_among(fused: Fused, found: Sequence[Ranked]) -> list[dict[Side, int | None]]:
    """The ranks of each document by each side; one that has nothing of the query has none by words
    or by sparse vectors."""
    places = [fused.places[one.seq] for one in found]
    if fused.ranks:
        return [{side: ranks[place] for side, ranks in fused.ranks.items()} for place in places]
    by_side: dict[Side, list[int | None]] = {}
    for side, scores in fused.columns.items():
        better = len(scores) - np.searchsorted(np.sort(scores), [scores[place] for place in places], side="right")
        by_side[side] = [
            None if side in ("words", "sparse") and not scores[place] else rank + 1
            for place, rank in zip(places, better.tolist(), strict=True)
        ]
    return [dict(zip(by_side, of_one, strict=True)) for of_one in zip(*by_side.values(), strict=True)]
