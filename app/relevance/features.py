"""What is known of the hits of one list, as numbers that mean much the same for every query."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from app.collection.layers import TOKENS, scored
from app.collection.spec import CollectionSpec
from app.hits.found import Found
from app.lexical.bm25 import K1, Bm25
from app.query.asked import Mode
from app.query.encoded import EncodedQuery
from app.types import F64, Side

LEARNABLE: Final[tuple[Mode, ...]] = ("hybrid", "semantic", "dense", "lexical")


def names_of(spec: CollectionSpec, mode: Mode) -> list[str]:
    """The features of a mode: in a hybrid search what a hit is worth by each side, and how far it stands out from the
    candidates by all of them, else its score; and how far down the list it is."""
    return [*spec.sides, "standing", "rank"] if mode == "hybrid" else ["score", "rank"]


def features_of(spec: CollectionSpec, mode: Mode, found: Found, encoded: EncodedQuery | None) -> F64:
    """(n, names): of ``found.ranked``, from the first of the list on.

    words: of what a document with all of the query's words would reach, endlessly often. tokens: the mean over the
    query's token vectors. pooled: the inner product, of a sequence the mean over the query's segments. sparse: for each
    unit of the query's weights. A side that the query has not, or that has nothing of the document, is 0. standing: the
    mean of the sides' standard scores, without their weights, which follow what a collection is asked. rank: log(1 +
    hits before it).
    """
    length = 1 if encoded is None else len(encoded.vectors)
    units: dict[str, float] = {
        "words": 1.0 if found.words is None else _most(found.words.bm25),
        "tokens": length,
        "pooled": length if spec.ordered else 1.0,
        "sparse": 1.0 if found.sparse is None else float(found.sparse.query.values.sum()) or 1.0,
    }
    ranks = np.log1p(np.arange(len(found.ranked)))
    scores = np.array([item.score for item in found.ranked], np.float64)
    if mode != "hybrid":
        by: dict[Mode, Side] = {"semantic": "tokens" if scored(spec) == TOKENS else "pooled", "lexical": "words"}
        return np.column_stack([scores / units[by.get(mode, "pooled")], ranks])
    assert found.fused is not None, "a hybrid search is fused"
    places = [found.fused.places[item.seq] for item in found.ranked]
    columns: list[Sequence[float] | F64] = []
    for side in spec.sides:
        own = found.fused.columns.get(side)
        columns.append(np.zeros(len(places)) if own is None else np.array([own[at] for at in places]) / units[side])
    standards = [np.array([one.values[at] for at in places]) for one in found.fused.standards.values()]
    standing = np.mean(standards, axis=0) if standards else scores
    return np.column_stack([*columns, standing, ranks])


def _most(query: Bm25) -> float:
    """What a document would reach that says every word endlessly often."""
    found = zip(query.worth, query.frequencies, strict=True)
    return math.fsum(worth for worth, frequency in found if frequency) * (K1 + 1) or 1.0
