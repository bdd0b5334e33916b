"""Teaching a collection how relevant its hits are: its judged queries are searched, and a curve learns from the hits
(app.relevance)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from app.collection.collection import Collection
from app.errors import Conflict
from app.evaluation.judged import Judged
from app.lexical.asked import Learned as Experience
from app.query.asked import Mode, Query
from app.query.preparing import encoded_meaning, encoded_sparse
from app.relevance.curve import area, calibration_error, fitted, held_out, squared_error
from app.relevance.features import names_of
from app.relevance.kept import Learned, keep
from app.search import search_encoded
from app.types import F64

LEAST: Final = 10
"""Queries, hits that are relevant, and hits that are not, from which a curve is learned."""


def learn(collection: Collection, judgements: str, asked: Sequence[tuple[Judged, Query]]) -> Learned:
    """``learned_from``, kept. Raises Conflict (too_few_judgements, relevance_not_learned, another writer)."""
    collection.require_writer()
    found = learned_from(collection, judgements, asked)
    keep(collection, found)
    return found


def learned_from(collection: Collection, judgements: str, asked: Sequence[tuple[Judged, Query]]) -> Learned:
    """What judged queries teach. judgements: the set's name. asked: queries with what asks them, all of one mode, for
    as many hits as are learned from.

    Raises Conflict: too_few_judgements, and relevance_not_learned where it tells no more of queries that it was not
    learned from than the share of relevant hits does.
    """
    mode = asked[0][1].mode
    names = names_of(collection.spec, mode)
    features, relevant, of_query = [np.zeros((0, len(names)))], list[float](), list[int]()
    # As in an evaluation: the collection's weights follow these queries, and learn nothing.
    experience = Experience(collection.learned.asked)
    with collection.snapshot() as moment:
        for number, (one, query) in enumerate(asked):

            def note(own: F64) -> list[float]:
                features.append(own)
                return [0.0] * len(own)

            (encoded,), (sparse,) = encoded_meaning(collection, [query]), encoded_sparse(collection, [query])
            found = search_encoded(
                collection, query, encoded, sparse=sparse, learned=experience, moment=moment, chances=note
            )
            relevant += [float(one.grades.get(hit.id, 0) > 0) for hit in found.hits]
            of_query += [number] * len(found.hits)
    told, labels = np.concatenate(features), np.array(relevant)
    return _learned(mode, judgements, names, told, labels, of_query)


def _learned(
    mode: Mode, judgements: str, names: Sequence[str], features: F64, relevant: F64, queries: Sequence[int]
) -> Learned:
    good, seen = int(relevant.sum()), len(set(queries))
    if min(seen, good, len(relevant) - good) < LEAST:
        raise Conflict(
            f"of {seen:,} queries that found something {good:,} hits are relevant and {len(relevant) - good:,} are "
            f"not: at least {LEAST} of each are learned from",
            code="too_few_judgements",
        )
    ranks = features[:, names.index("rank")]
    chances = _along(held_out(names, features, relevant, queries), ranks)
    error, share = squared_error(chances, relevant), squared_error(np.full(len(relevant), relevant.mean()), relevant)
    if error >= share:
        raise Conflict(
            f"what is known of a hit tells no more than that {relevant.mean():.0%} of all are relevant (squared error "
            f"{error:.4f}, of that number alone {share:.4f}): nothing is kept",
            code="relevance_not_learned",
        )
    return Learned(
        mode,
        judgements,
        seen,
        len(relevant),
        good,
        calibration_error(chances, relevant),
        area(chances, relevant),
        error,
        share,
        fitted(names, features, relevant),
    )


def _along(chances: F64, ranks: F64) -> F64:
    """As hits show them: in each list none is likelier than one before it. A list begins where a rank is 0."""
    edges = [*np.flatnonzero(ranks == 0).tolist(), len(ranks)]
    for start, stop in pairwise(edges):
        chances[start:stop] = np.minimum.accumulate(chances[start:stop])
    return chances
