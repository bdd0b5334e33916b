"""Models that read a text once more: a cross encoder, or MaxSim of a multi-vector encoder that is not the collection's
own. For texts of no collection also the cosine of an encoder's pooled vectors.

Each text is read alone, so its score is the same whatever else is reranked, and in whatever pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from app.encoders.registry import Encoders
from app.errors import Invalid
from app.scoring import maxsim
from app.scoring.similarity import Cosine
from app.types import F32

UNIT: Final = Cosine()


class Reranker(Protocol):
    """Made for one query."""

    def scores(self, texts: Sequence[str]) -> list[float]:
        """How well each text answers, the larger the better. Raises EncoderError, TextRefused."""
        ...


@dataclass(frozen=True, slots=True)
class ByCrossEncoder:
    encoders: Encoders
    model: str
    query: str

    def scores(self, texts: Sequence[str]) -> list[float]:
        return self.encoders.scores(self.model, self.query, texts)


@dataclass(frozen=True, slots=True)
class ByMaxSim:
    """query: (q, dim) float32, unit rows."""

    encoders: Encoders
    model: str
    query: F32

    def scores(self, texts: Sequence[str]) -> list[float]:
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> float:
        found = self.encoders.encode_documents(self.model, "multi_vector", [text]).tokens
        assert found is not None, "a multi-vector encoder gives token vectors"
        return maxsim.reference(self.query, UNIT.document(found[0]))


@dataclass(frozen=True, slots=True)
class ByPooled:
    """query: (1, dim) float32, of length one."""

    encoders: Encoders
    model: str
    query: F32

    def scores(self, texts: Sequence[str]) -> list[float]:
        found = UNIT.document(self.encoders.encode_documents(self.model, "dense", texts).pooled)
        return [maxsim.reference(self.query, row[None]) for row in found]


def require(encoders: Encoders, model: str, at: str) -> None:
    """Raises Invalid for a name that is none of the server's models, or of one that cannot rerank."""
    able = [name for name in encoders.names() if encoders.reranks(name)]
    if model not in able:
        raise Invalid.at(at, f"nothing that reranks is named {model!r}; there are {', '.join(able)}")


def reranker_of(encoders: Encoders, model: str, query: str) -> Reranker:
    """Opened, and the query encoded where it is read apart. Raises Invalid, EncoderError, TextRefused."""
    if not encoders.kinds(model):
        encoders.cross_encoder(model)
        return ByCrossEncoder(encoders, model, query)
    if "multi_vector" not in encoders.kinds(model):
        pooled = encoders.encode_queries(model, "dense", [query], alone=True).pooled
        return ByPooled(encoders, model, UNIT.query(pooled))
    tokens = encoders.encode_queries(model, "multi_vector", [query], alone=True).tokens
    assert tokens is not None, "a multi-vector encoder gives token vectors"
    return ByMaxSim(encoders, model, UNIT.query(tokens[0]))
