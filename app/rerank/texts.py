"""Reranking of texts that a caller sends: each by itself, as a search's reranker reads documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.compute import deadline
from app.encoders.embedding import cut
from app.encoders.registry import Encoders
from app.errors import NotFound
from app.rerank.models import ByMaxSim, reranker_of

PIECE: Final = 16
"""Texts between two looks at the deadline."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """places: of the texts, the best first, of equal ones the earlier. scores: of these."""

    places: list[int]
    scores: list[float]


def able(encoders: Encoders) -> list[str]:
    """The models that rerank texts: cross encoders, and all that make vectors but sparse ones."""
    return [name for name in encoders.names() if encoders.kinds(name) or encoders.reranks(name)]


def rank_texts(encoders: Encoders, model: str, query: str, texts: Sequence[str], tokens: int | None = None) -> Ranking:
    """A cross encoder's scores as it gives them. By token vectors MaxSim over the number of query vectors, so that it
    is a mean of cosines; by pooled ones the cosine. tokens: of each text that are read.

    Raises NotFound for a name that is none of these models', TooSlow past the deadline, EncoderError, TextRefused.
    """
    known = able(encoders)
    if model not in known:
        raise NotFound(f"no model that reranks is named {model[:100]!r}; there are {', '.join(known)}",
                       code="model_not_found")  # fmt: skip
    reranker = reranker_of(encoders, model, query)
    scores: list[float] = []
    for start in range(0, len(texts), PIECE):
        deadline.check(deadline.current())
        piece = texts[start : start + PIECE]
        scores += reranker.scores(piece if tokens is None else cut(encoders, model, piece, tokens))
    if isinstance(reranker, ByMaxSim):
        scores = [score / len(reranker.query) for score in scores]
    places = sorted(range(len(texts)), key=lambda place: -scores[place])
    return Ranking(places, [scores[place] for place in places])
