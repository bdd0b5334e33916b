"""Diversity as a stage of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.collection.part import View
from app.compute.workers import Workers
from app.diversity.likeness import Likeness
from app.diversity.order import diverse, scaled
from app.hits.found import Found
from app.query.asked import Query
from app.scoring.similarity import Similarity


def diversified(views: Sequence[View], found: Found, query: Query, measure: Similarity, workers: Workers) -> Found:
    """The first ``offset + k`` of a list whose first ``among`` are ordered anew, where that is asked for. Raises
    Damaged, TooSlow, PartsUnreached."""
    asked, page = query.diversity, query.offset + query.k
    if asked is None or not found.ranked:
        return found
    first = found.ranked[: asked.among]
    chosen = diverse(
        scaled([item.score for item in first]), Likeness(views, first, measure, workers).to, asked.weight, page
    )
    ordered = [first[one.place] for one in chosen]
    why = {item.seq: one for item, one in zip(ordered, chosen, strict=True)}
    return replace(found, ranked=[*ordered, *found.ranked[asked.among : page]], chosen=why)
