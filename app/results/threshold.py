"""Lists that end where scores fall below what was asked for: with the last document before the first that does not
reach it.

A list by meaning may hold better ones after that, where it goes on with candidates of another tier: they are on no
page, so that a page is a piece of one list, and nothing more is scored for the sake of what the first tier missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np

from app.collection.view import Snapshot
from app.hits.found import Found
from app.query.asked import SORTED, Query
from app.query.ranking import Ranked
from app.results.sorting import marked


def needed(query: Query) -> int:
    """How many of the best by score: the page; where scores have an end one more, which says whether there is another
    page; the best ``SORTED`` where documents are sorted, or grouped by what reaches a score, and at least these where
    that is counted."""
    page = query.offset + query.k
    if query.sort or (query.min_score is not None and query.group_by is not None):
        return SORTED
    if query.min_score is None:
        return page
    return max(page + 1, SORTED) if query.facets else page + 1


def reaching(ranked: Sequence[Ranked], least: float) -> list[Ranked]:
    """The beginning of a list whose documents reach the score."""
    return list(takewhile(lambda one: one.score >= least, ranked))


def ended(snapshot: Snapshot, found: Found, query: Query) -> Found:
    """The best ``needed(query)`` by meaning as far as they reach the score that is asked for, which are those that
    match: the page of them, or all where they are yet to be sorted."""
    if query.min_score is None:
        return found
    there = sum(int(np.count_nonzero(mask)) for mask in found.matching)
    ranked = reaching(found.ranked, query.min_score)
    more = len(ranked) == needed(query) < there or (found.coverage is not None and found.coverage.partial)
    page = ranked if query.sort else ranked[: query.offset + query.k]
    return replace(found, ranked=page, matching=marked(snapshot, ranked), more=more)
