"""A query as it is scored: its vectors, made or brought, or a network that it brings; and what scores are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from app.collection.layers import POOLED, scored
from app.collection.part import Part
from app.collection.spec import CollectionSpec
from app.compute.workers import Workers
from app.errors import Invalid
from app.scoring.networks.forward import scores
from app.scoring.networks.network import Network
from app.scoring.similarity import Similarity
from app.types import F32, F64, I64

PIECE: Final = 2_048
"""Vectors that are gathered at a time."""
SLICE: Final = 64
"""The fewest worth a thread of their own."""


class Column(NamedTuple):
    """values: (n,) float32, by a fast pass. bounds: (n,), how far each is from its reference at most."""

    values: F32
    bounds: F64


class Share(NamedTuple):
    """One query vector's addition to a score: its inner product with the best vector of the row. query, row: places."""

    query: int
    row: int
    product: float


@dataclass(frozen=True, slots=True)
class NetworkScorer:
    """measure: of the collection, whose vectors as they are given (of length 1 under cosine) go through the network.
    at: the pointer to it, for errors."""

    network: Network
    measure: Similarity
    at: str = ""

    def of(self, part: Part, rows: I64, workers: Workers | None = None) -> F32:
        """(n,): THE scores of rows, ascending, by all workers where there are some. Raises Damaged, TooSlow, and
        Invalid where vectors as long as these may be too much for float32."""
        self.network.check_length(float(part.norms.max(initial=0)), self.at)
        layer, whole = part.flat(POOLED), len(rows) == part.size

        def work(start: int, stop: int) -> F32:
            found = np.empty(stop - start, np.float32)
            for first in range(start, stop, PIECE):
                last = min(first + PIECE, stop)
                vectors = layer.range(first, last) if whole else layer.take(rows[first:last])
                found[first - start : last - start] = scores(self.network, self.measure.given(vectors))
            return found

        if workers is None:
            return work(0, len(rows))
        return _joined(workers.map_slices(len(rows), work, smallest=SLICE))


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """vectors: (q, stored_dim) float32, one row in a dense collection. pooled: (1, stored_dim), by the encoder, or the
    mean of a caller's vectors. Both as the similarity asks with them. less: (n, stored_dim) float32, whose MaxSim is
    taken off that of ``vectors``. scorer: the query's network, which scores in the place of all of them; they are 0
    then."""

    vectors: F32
    pooled: F32
    less: F32 | None = None
    scorer: NetworkScorer | None = None


@dataclass(frozen=True, slots=True)
class Networked:
    """What the query's network makes of the dense vectors. Every pass computes the same numbers."""

    scorer: NetworkScorer
    split: bool = False
    name: str = "network"

    def has_rough(self, part: Part) -> bool:
        return False

    def fast(self, part: Part, rows: I64, workers: Workers, *, rough: bool = False) -> Column:
        values = self.scorer.of(part, rows, workers)
        return Column(values, np.zeros(len(values)))

    def references(self, part: Part, rows: I64, workers: Workers) -> list[float]:
        found: list[float] = self.scorer.of(part, rows, workers).tolist()
        return found

    def explain(self, part: Part, rows: I64) -> list[list[Share]]:
        """The one number of each: a network has no parts that add up."""
        order = np.argsort(rows, kind="stable")
        values = np.empty(len(rows), np.float32)
        values[order] = self.scorer.of(part, rows[order])
        return [[Share(0, 0, score)] for score in values.tolist()]


def scorer_of(network: Network, spec: CollectionSpec, at: str) -> NetworkScorer:
    """For the vectors of a collection. at: the pointer to the network. Raises Invalid where it is none, or takes
    others."""
    if scored(spec) != POOLED or spec.ordered:
        raise Invalid.at(
            at, f"collection {spec.name} is {spec.kind}: a scorer takes the one vector of each document of a dense one"
        )
    network.check(at)
    if network.inputs != spec.dim:
        raise Invalid.at(
            f"{at}/layers/0/weights",
            f"expected {spec.dim:,} rows, one for each dimension of the collection's vectors, got {network.inputs:,}",
        )
    return NetworkScorer(network, spec.measure, at)


def _joined(pieces: Sequence[F32]) -> F32:
    return np.concatenate([np.zeros(0, np.float32), *pieces])
