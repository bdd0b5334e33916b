"""Retrievers: what proposes rows for an exact score. Each asks one layer of a part with its own form of the query.

Scores of different retrievers are never compared (app.query.candidates). A new one is a class here, an entry in
``retrievers``, and a layer that a part can be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from app.collection.first_stage import FirstStage
from app.collection.layers import ENCODED, POOLED
from app.collection.part import Part
from app.compute.workers import Workers
from app.encodings.protocol import Encoding
from app.query.encoded import EncodedQuery
from app.types import F32, Mask, TokenVectors
from app.vector_index.protocol import Candidates


class Retriever(Protocol):
    """Made for one first stage, used by any thread."""

    def encode(self, query: EncodedQuery, workers: Workers) -> F32:
        """The query in the form that ``nearest`` takes, made once for all parts."""
        ...

    def nearest(self, part: Part, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        """As ``Part.nearest``. Raises Damaged."""
        ...


@dataclass(frozen=True, slots=True)
class ByPooled:
    """The dense vector of each passage, by its inner product with the query's."""

    def encode(self, query: EncodedQuery, workers: Workers) -> F32:
        found: F32 = query.pooled[0]
        return found

    def nearest(self, part: Part, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        return part.nearest(POOLED, query, k, allowed, wide)


@dataclass(frozen=True, slots=True)
class ByEncoding:
    """A fixed-dimensional encoding of the token vectors (app.encodings), by its inner product with the query's."""

    encoding: Encoding

    def encode(self, query: EncodedQuery, workers: Workers) -> F32:
        found: F32 = self.encoding.encode_queries(TokenVectors.join([query.vectors]), query.pooled, workers)[0]
        return found

    def nearest(self, part: Part, query: F32, k: int, allowed: Mask, wide: int) -> Candidates:
        return part.nearest(ENCODED, query, k, allowed, wide)


def retrievers(stage: FirstStage) -> list[Retriever]:
    """One for each source of a first stage, in its order."""
    found: list[Retriever] = []
    for source in stage.sources:
        if source == "fde":
            assert stage.encoding is not None, "a first stage with the source fde has an encoding"
            found.append(ByEncoding(stage.encoding))
        else:
            found.append(ByPooled())
    return found
