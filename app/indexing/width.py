"""How many candidates a learned first stage needs in the collection that it is learned for.

For queries that no fit saw, the exact best of all segments are found, and where the encoding ranks them: by what share
of the sample scores above them, which estimates their rank without bias whatever the collection's size (and is their
rank where the sample is everything). The width is what holds ``TARGET`` of them. A query drawn from a document finds
that one first, by itself, so the first of the best is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.collection.part import scored_vectors
from app.collection.view import SegmentView
from app.compute.workers import Workers
from app.encodings.protocol import Encoding
from app.query.ranking import rank_all
from app.query.scores import MaxSim
from app.types import F32, F64, TokenVectors

TARGET: Final = 0.97
"""Of the exact best, what share is to be among the candidates."""
BEST: Final = 10
LEAST: Final = 200
"""The narrowest width: few queries say little about the last hundredth, and so many candidates cost little."""
MOST: Final = 4_000
"""The widest: tens of milliseconds. ``tune`` looks for something better than to widen further."""
STEP: Final = 50
"""Widths are multiples of this."""


@dataclass(frozen=True, slots=True)
class Settled:
    """found: the share of the best that is among ``width`` candidates, as estimated. queries: how many it rests on."""

    width: int
    found: float
    queries: int


def settle(
    views: Sequence[SegmentView],
    encoding: Encoding,
    sampled: F32,
    probes: TokenVectors,
    workers: Workers,
    check: Callable[[], None] = lambda: None,
) -> Settled | None:
    """None where too few documents or no queries are there to say anything.

    sampled: (n, encoded_dim), encodings of documents drawn evenly from the views. Raises Damaged.
    """
    alive = sum(view.live for view in views)
    if not len(probes) or alive <= LEAST:
        return None
    ranks = np.empty((len(probes), min(BEST, alive - 1)))
    near = encoding.encode_queries(probes)
    for i, query in enumerate(probes):
        check()
        scores = MaxSim(query.astype(np.float32))
        best = rank_all(views, scores, ranks.shape[1] + 1, workers)[1:]
        tokens = TokenVectors.join([scored_vectors(views[one.view].part, one.row) for one in best])
        ranks[i] = _share_above(sampled @ near[i], encoding.encode_documents(tokens) @ near[i]) * alive
    needed = float(np.quantile(ranks, TARGET, method="inverted_cdf")) + 1
    width = int(min(max(np.ceil(needed / STEP) * STEP, LEAST), MOST))
    return Settled(width, round(float((ranks < width).mean()), 4), len(probes))


def _share_above(sampled: F32, scores: F32) -> F64:
    """(len(scores),): the share of the sample above each."""
    above = len(sampled) - np.searchsorted(np.sort(sampled), scores, side="right")
    share: F64 = above / len(sampled)
    return share
