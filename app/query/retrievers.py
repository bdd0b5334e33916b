"""Retrievers: what proposes rows for an exact score. Each asks one layer of a part with its own form of the query.

Scores of different retrievers are never compared (app.query.candidates). A new one is a class here, an entry in
``retrievers``, and a layer that a part can be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from app.collection.first_stage import FirstStage
from app.collection.layers import ENCODED, POOLED
from app.collection.part import Part
from app.compute.workers import Workers
from app.encodings.protocol import Encoding
from app.query.encoded import EncodedQuery, NetworkScorer
from app.types import F32, I64, Mask, TokenVectors
from app.vector_index.protocol import Candidates

VOTERS: Final = 64
"""Segments of a query that vote, at most, spread over it: each is a search of its own."""


class Retriever(Protocol):
    """Made for one first stage, used by any thread. It travels to where parts lie (``candidates.Proposed``)."""

    def encode(self, query: EncodedQuery, workers: Workers) -> F32:
        """The query in the form that ``nearest`` takes, made once for all parts."""
        ...

    def nearest(self, part: Part, query: F32, k: int, allowed: Mask, wide: int, workers: Workers) -> Candidates:
        """As ``Part.nearest``. Raises Damaged."""
        ...


@dataclass(frozen=True, slots=True)
class ByPooled:
    """The dense vector of each passage, by its inner product with the query's."""

    def encode(self, query: EncodedQuery, workers: Workers) -> F32:
        found: F32 = query.pooled[0]
        return found

    def nearest(self, part: Part, query: F32, k: int, allowed: Mask, wide: int, workers: Workers) -> Candidates:
        return part.nearest(POOLED, query, k, allowed, wide)


@dataclass(frozen=True, slots=True)
class ByEncoding:
    """A fixed-dimensional encoding of the token vectors (app.encodings), by its inner product with the query's."""

    encoding: Encoding | None

    def __reduce__(self) -> tuple[type[ByEncoding], tuple[None]]:
        """It travels without the encoding: the query was encoded before, once for all parts."""
        return ByEncoding, (None,)

    def encode(self, query: EncodedQuery, workers: Workers) -> F32:
        assert self.encoding is not None, "a query is encoded where its search is"
        found: F32 = self.encoding.encode_queries(TokenVectors.join([query.vectors]), query.pooled, workers)[0]
        return found

    def nearest(self, part: Part, query: F32, k: int, allowed: Mask, wide: int, workers: Workers) -> Candidates:
        return part.nearest(ENCODED, query, k, allowed, wide)


@dataclass(frozen=True, slots=True)
class BySegments:
    """The places of a sequence where a query may begin, by votes. Each of its segments finds the nearest k of the
    collection's, and each of these votes for the place at which the query then begins.

    The vote of segment i at a place is its product with the segment there, or where that was not found, the least
    product that it did find, which no other reaches: so their sum is the most that the place can score, and all of it
    where every segment voted. Chang et al. 2021 (arXiv 2010.11910), section 4, who then score every such place.
    """

    def encode(self, query: EncodedQuery, workers: Workers) -> F32:
        return query.vectors

    def nearest(self, part: Part, query: F32, k: int, allowed: Mask, wide: int, workers: Workers) -> Candidates:
        # The first segment is among them: each row that it finds is a place, so that there are as many as asked for.
        voters = np.unique(np.linspace(0, len(query) - 1, min(len(query), VOTERS)).astype(np.int64))
        rows, scores = part.nearest_many(POOLED, query[voters], k, allowed, wide)
        if not rows.size:
            return Candidates(rows.ravel(), scores.ravel())
        least = scores.min(axis=1).astype(np.float64)
        which, rows = np.repeat(np.arange(len(voters)), rows.shape[1]), rows.ravel()
        more = scores.ravel().astype(np.float64) - least[which]
        documents, begun = part.owners.of(rows), rows - voters[which]
        # A place before a document's first row is none of the document before it.
        _, one_of, vote_of = np.unique(begun + documents * len(query), return_index=True, return_inverse=True)
        documents, votes = documents[one_of], np.bincount(vote_of, more)
        begins = part.owners.firsts[documents]
        offsets, sums = begun[one_of] - begins, np.concatenate([[0], np.cumsum(least)])
        votes += sums[np.searchsorted(voters, part.owners.counts_of(documents) - offsets)]
        votes -= sums[np.searchsorted(voters, -offsets)]
        # All that are not behind the first row are that row's.
        places, starts = np.unique(begins + np.maximum(offsets, 0), return_index=True)
        scores = np.maximum.reduceat(votes, starts).astype(np.float32)
        best = np.argsort(-scores, kind="stable")[:k]
        return Candidates(places[best], scores[best])


@dataclass(frozen=True, slots=True)
class ByNetwork:
    """The dense vector of each passage, by what the query's network makes of it: along a part's neighbour graph, where
    it has one, else of each."""

    scorer: NetworkScorer

    def encode(self, query: EncodedQuery, workers: Workers) -> F32:
        """Nothing: the network is asked as it is."""
        return np.zeros(0, np.float32)

    def nearest(self, part: Part, query: F32, k: int, allowed: Mask, wide: int, workers: Workers) -> Candidates:

        def score(rows: I64) -> F32:
            return self.scorer.of(part, rows, workers)

        graph = part.neighbours
        if graph is not None:
            return graph.best(score, k, allowed)
        rows = np.flatnonzero(allowed).astype(np.int64)
        scores = score(rows)
        best = np.argsort(-scores, kind="stable")[:k]
        return Candidates(rows[best], scores[best])


def retrievers(stage: FirstStage, query: EncodedQuery) -> list[Retriever]:
    """One for each source of a first stage, in its order; the network's alone where the query brings one."""
    if query.scorer is not None:
        return [ByNetwork(query.scorer)]
    found: list[Retriever] = []
    for source in stage.sources:
        if source == "fde":
            assert stage.encoding is not None, "a first stage with the source fde has an encoding"
            found.append(ByEncoding(stage.encoding))
        elif source == "segments":
            found.append(BySegments())
        else:
            found.append(ByPooled())
    return found
