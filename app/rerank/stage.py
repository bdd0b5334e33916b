"""Reranking as a stage of a search: what is asked of it, and what it makes of an order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from app.collection.collection import Collection
from app.collection.view import Snapshot
from app.compute import deadline
from app.encoders.registry import Encoders
from app.errors import Invalid
from app.query.asked import Query
from app.query.listed import WordScores
from app.query.ranking import Ranked
from app.query.scores import Scores
from app.rerank.models import Reranker, require, reranker_of
from app.rerank.order import Reranked, reorder
from app.rerank.reading import Reading


def check(query: Query, encoders: Encoders) -> None:
    """Raises Invalid for what cannot be reranked, or cannot rerank."""
    if query.rerank is None:
        return
    require(encoders, query.rerank.model, f"{query.at}/rerank/model")
    if query.text is None:
        raise Invalid.at(f"{query.at}/rerank", "what reranks reads a query in words")
    if query.sort:
        raise Invalid.at(f"{query.at}/rerank", "hits are sorted by fields, or reranked")


def widened(query: Query) -> Query:
    """With as many documents as are to be reranked, or diversified."""
    first = query.rerank.top if query.rerank is not None else 0 if query.diversity is None else query.diversity.among
    return query if first - query.offset <= query.k else replace(query, k=first - query.offset)


def reranker_for(encoders: Encoders, query: Query, spoken: Callable[[], str | None]) -> Reranker | None:
    """spoken: what is asked for in the query language. Raises Invalid, EncoderError."""
    if query.rerank is None:
        return None
    text = spoken() if query.syntax == "query" else query.text
    return reranker_of(encoders, query.rerank.model, text or "")


def reranked(
    collection: Collection,
    snapshot: Snapshot,
    ranked: Sequence[Ranked],
    words: WordScores | None,
    scores: Scores | None,
    query: Query,
    reranker: Reranker,
) -> Reranked:
    """The first ``offset + k`` of the order. words, scores: what it was made by.

    In a search that may be partial its time ends the reranking, as its own does. Raises what the reranker raises,
    TooSlow, Damaged.
    """
    assert query.rerank is not None, "asked for"
    reading = Reading(collection, snapshot, words.bm25 if words is not None and scores is None else None)
    limits = query.rerank.limits(deadline.current() if query.partial else None)

    def scores_of(items: Sequence[Ranked]) -> list[float]:
        return reranker.scores([reading.of(item) for item in items])

    with deadline.deadline(None if query.partial else deadline.current()):
        made = reorder(ranked, query.rerank.top, scores_of, collection.resources.workers.threads, limits)
    return replace(made, ranked=made.ranked[: query.offset + query.k])
