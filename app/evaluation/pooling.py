"""A sample to be judged: what several ways to search find first, and nobody has graded.

What no way finds needs no grade, since it moves no measure (Spärck Jones and van Rijsbergen 1975); what only one way
finds is judged as well, so that none is at a disadvantage. Documents of a query come in an order that says nothing of
who found them, or where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from app.collection.collection import Collection
from app.evaluation.compare import Setting, search_all
from app.evaluation.judged import Judged

BEGINNING = 1_000
"""Characters of a text that are shown."""


@dataclass(frozen=True, slots=True)
class ToJudge:
    """A document to be graded for a query. text: its beginning. ranks: by setting, from 1, where it was found."""

    query: str
    asked: str | None
    document: str
    title: str
    text: str
    ranks: dict[str, int]


@dataclass(frozen=True, slots=True)
class Pool:
    """pooled: documents that were found, of all queries. judged: of these. to_judge: of the others, a few of each query
    before more of any."""

    queries: int
    pooled: int
    judged: int
    to_judge: list[ToJudge]


def pool(collection: Collection, judged: Sequence[Judged], settings: Sequence[Setting], most: int) -> Pool:
    """settings: with queries of as many documents as are pooled of each. most: documents to be judged. Raises what a
    search raises."""
    searched = search_all(collection, judged, settings)
    random = np.random.default_rng(searched.generation)
    pooled, waiting = 0, list[list[tuple[Judged, str, dict[str, int]]]]()
    for query in judged:
        ranks: dict[str, dict[str, int]] = {}
        for setting in settings:
            for rank, name in enumerate(searched.found[setting.name][query.id], 1):
                ranks.setdefault(name, {})[setting.name] = rank
        pooled += len(ranks)
        names = sorted(name for name in ranks if name not in query.grades)
        order = random.permutation(len(names)).tolist()
        waiting.append([(query, names[place], ranks[names[place]]) for place in order])
    in_turn = [one for one in chain.from_iterable(zip_longest(*waiting)) if one is not None]
    shown = _shown(collection, {name for _, name, _ in in_turn[:most]})
    # What was deleted meanwhile is judged by nobody.
    chosen = [one for one in in_turn[:most] if one[1] in shown]
    return Pool(
        len(judged),
        pooled,
        pooled - len(in_turn),
        [ToJudge(query.id, query.text, name, *shown[name], found) for query, name, found in chosen],
    )


def _shown(collection: Collection, names: set[str]) -> Mapping[str, tuple[str, str]]:
    with collection.snapshot() as snapshot:
        found = snapshot.documents(snapshot.versions(sorted(names)).tolist())
    return {document.id: (document.title, document.text[:BEGINNING]) for document in found.values()}
